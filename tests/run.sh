#!/usr/bin/env bash
# Everything that is checked before a change is taken: format, lints, licences, all tests.
#
#   tests/run.sh                   as root on Debian it installs what is missing; else it names it and skips what needs it
#   tests/run.sh --install-tools   also builds cargo-deny (about 5 minutes) if it is not there
#   CI=true tests/run.sh           nothing is skipped: what is missing and cannot be installed is an error
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib/packages.sh
. tests/lib/packages.sh

# gcc, libc6-dev: SQLite and ring are built from C. ca-certificates: the HTTP client's roots. procps, util-linux: `kill`
# and `setsid` in the tests of commands. strace, util-linux (`unshare`), iproute2: the tests of real faults kill the daemon
# at its syncs, fill its disk and cut its network, as root or in a user namespace. prometheus: the tests of queries start
# it. The five programs of tests/watch-five.sh are its own affair.
PACKAGES="gcc libc6-dev ca-certificates procps util-linux strace iproute2 prometheus"

install_tools=${CI:-false}
case "${1:-}" in
    "") ;;
    --install-tools) install_tools=true ;;
    *) echo "usage: tests/run.sh [--install-tools]" >&2; exit 64 ;;
esac

say "Debian packages"
# shellcheck disable=SC2086  # a list of names
install_packages $PACKAGES
if [ -n "$MISSING" ]; then
    echo "Not installed (this is not root, or the archive cannot be reached): $MISSING"
    echo "Tests that need a program which is not there are skipped, by name, below."
else
    echo "All there: $PACKAGES"
fi

# Tests that run a program are left out where it is missing; never in CI, where install_packages has failed before.
skips=()
skip_without() { # program, part of the tests' names
    if ! type -P "$1" >/dev/null; then
        echo "Skipped, because $1 is missing: tests with \"$2\" in their name"
        skips+=(--skip "$2")
    fi
}
skip_without setsid a_grandchild_in_its_own_session
skip_without setsid a_crowd_of_orphans
skip_without prometheus a_real_prometheus
skip_without setsid nothing_outlives_a_daemon
skip_without setsid watched_over_ends
skip_without setsid a_killed_helper_leaves_behind
skip_without kill signals_that_are_meant_for_others

say "cargo fmt --check"
cargo fmt --check

say "cargo doc"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib --quiet

say "cargo clippy"
cargo clippy --all-targets --locked -- -D warnings

say "cargo deny"
if ! cargo deny --version >/dev/null 2>&1 && [ "$install_tools" = true ]; then
    cargo install --locked --quiet cargo-deny
fi
if ! cargo deny --version >/dev/null 2>&1; then
    echo "Skipped: cargo-deny is not installed (cargo install --locked cargo-deny, or --install-tools)"
elif cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check advisories licenses bans sources
else
    cargo deny --locked check licenses bans sources
    echo "Advisories could not be checked: their database could not be fetched."
fi

# The fuzzers go on for a minute in CI, and else try a few thousand bodies.
if [ "${CI:-}" = true ]; then
    export FUZZ_MINUTES="${FUZZ_MINUTES:-1}"
fi

say "cargo test"
cargo test --locked --no-fail-fast -- ${skips[@]+"${skips[@]}"}

say "Five real programs, for 20 seconds"
# The whole watch is five minutes long and not part of this: tests/watch-five.sh.
watched=0
BACKSTOP=target/debug/backstop DURATION=20 tests/watch-five.sh || watched=$?
case "$watched" in
    0) ;;
    77) [ "${CI:-}" != true ] ;;
    *) exit "$watched" ;;
esac

say "All passed"
