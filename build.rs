//! How the program is linked, as far as Cargo has no setting for it.

use std::process::Command;

/// The first that reads packed relocations.
const GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let is_native = variable("HOST") == variable("TARGET");
    // A program that may be loaded anywhere carries a list of the places where it holds addresses: a megabyte, of which the
    // loader reads all. Packed, it is a hundredth of that. Whoever builds on one system and runs on an older one has the
    // same trouble with glibc anyway; across systems nobody knows, and the list stays as it is.
    if is_native && variable("CARGO_CFG_TARGET_ENV") == "gnu" && glibc().is_some_and(|version| version >= GLIBC) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Of the system that builds: `getconf` says `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
