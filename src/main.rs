//! Arguments to a library call to an exit code.

use std::process::ExitCode;

use backstop::platform::process;

fn main() -> ExitCode {
    // Before anything else: the helper is a small program of its own, and this binary many times at once.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == process::HELPER_ARG) {
        return process::helper_main();
    }
    backstop::cli::main(std::env::args_os())
}
