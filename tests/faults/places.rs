//! Other programs, and places of their own for tests that break something: a file system, a network.

use std::process::{Command, Stdio};

/// Every point and every variant, not a sample.
pub fn all() -> bool {
    std::env::var("BACKSTOP_FAULTS").is_ok_and(|value| value == "all")
}

/// Whether `program` does its work here. If not, the test that asks skips itself and says so; in CI that is a failure.
pub fn has(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let tried = command.args(arguments).stdin(Stdio::null()).output();
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let line = format!("`{program} {}` does not work here: {why}", arguments.join(" "));
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line}; in CI nothing is skipped");
    eprintln!("skipped: {line}");
    false
}

/// Whether faults can be put into a daemon's system calls.
pub fn can_trace() -> bool {
    has("strace", &["-D", "-f", "-o", "/dev/null", "-e", "trace=fsync", "true"])
}

/// `strace` that leaves the daemon the test's own child, as the beginning of a command line: puts `inject` (such as
/// `fsync:error=EIO`) into the system calls that it names.
pub fn tracer(inject: &str) -> Vec<String> {
    let (calls, _) = inject.split_once(':').expect("CALLS:WHAT");
    let words = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e"];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.extend([format!("trace={calls}"), "-e".to_owned(), format!("inject={inject}")]);
    words
}

/// Whether a running process can be traced: a system may allow that to root alone.
pub fn can_attach() -> bool {
    can_trace() && has("sh", &["-c", "test $(id -u) = 0 || test $(cat /proc/sys/kernel/yama/ptrace_scope) = 0"])
}

/// Runs an `#[ignore]`d test of this program in namespaces of its own (`--mount`, `--net`), which end with it and leave
/// nothing behind. It must pass there.
pub fn inside(namespaces: &[&str], test: &str) {
    let as_root = ["unshare"].iter().chain(namespaces).copied();
    let as_user = ["unshare", "--user", "--map-root-user"].iter().chain(namespaces).copied();
    let mut words: Vec<&str> = as_root.collect();
    if !Command::new(words[0]).args(&words[1..]).arg("true").output().is_ok_and(|output| output.status.success()) {
        words = as_user.collect();
        let probe = [&words[1..], &["true"]].concat();
        if !has(words[0], &probe) {
            return;
        }
    }
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--ignored", "--nocapture"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// One command that must work, such as `ip link set lo up`.
pub fn sh(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Writes another `gap_tolerance` for the site's own trigger.
pub fn tolerate_gaps(site: &super::site::Site, of: &str) {
    let text = std::fs::read_to_string(site.config()).unwrap();
    let (before, rest) = text.split_once("gap_tolerance = \"").expect("the site's trigger has one");
    let (_, after) = rest.split_once('"').unwrap();
    std::fs::write(site.config(), format!("{before}gap_tolerance = \"{of}\"{after}")).unwrap();
}
