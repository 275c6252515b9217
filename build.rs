//! How the program is linked, as far as Cargo has no setting for it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |key: &str, value: &str| std::env::var(key).is_ok_and(|have| have == value);
    // A program that may be loaded anywhere carries a list of the places where it holds addresses: a megabyte, of which the
    // loader reads all; in this form a hundredth of it. glibc reads it since 2.36 (Debian 12), and a linker that does not
    // know it says so and leaves the list as it was.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
