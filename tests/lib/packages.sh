# Sourced by the scripts beside it: installs Debian packages without starting what is in them.

say() { printf '\n== %s\n' "$*"; }

missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || printf '%s\n' "$package"
    done
}

# The names of those that are still missing afterwards are left in MISSING. In CI a missing one is an error.
install_packages() {
    MISSING=""
    if ! command -v dpkg-query >/dev/null; then
        MISSING="$*"
        echo "This is not Debian; these are expected to be there by other means: $MISSING"
    else
        MISSING=$(missing_packages "$@" | paste -sd ' ')
        if [ -n "$MISSING" ] && [ "$(id -u)" = 0 ]; then
            echo "Installing: $MISSING"
            install_quietly "$MISSING" || true
            MISSING=$(missing_packages "$@" | paste -sd ' ')
        fi
    fi
    if [ -n "$MISSING" ] && [ "${CI:-}" = true ]; then
        echo "These could not be installed, and in CI nothing is skipped: $MISSING" >&2
        return 1
    fi
}

# What fails is tried again for some minutes: another apt may hold the lock (a machine that has just booted updates
# itself), and a mirror may be down or just changing. Without the mode, `update` succeeds with old lists.
apt_patiently() { # package …
    local pause
    for pause in 5 15 30 60 90 0; do
        if apt-get update -qq -o Acquire::Retries=3 -o APT::Update::Error-Mode=any &&
            apt-get install -y -qq --no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@"; then
            return 0
        fi
        [ "$pause" = 0 ] || { echo "Again in $pause s"; sleep "$pause"; }
    done
    return 1
}

# Debian starts a service as soon as it is installed, unless policy-rc.d forbids it (exit status 101).
install_quietly() {
    local policy=/usr/sbin/policy-rc.d ours=no status=0
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    # shellcheck disable=SC2086  # a list of names
    DEBIAN_FRONTEND=noninteractive apt_patiently $1 </dev/null >"${TMPDIR:-/tmp}/backstop-apt.$$.log" 2>&1 || status=$?
    [ "$status" = 0 ] || tail -n 20 "${TMPDIR:-/tmp}/backstop-apt.$$.log" >&2
    rm -f "${TMPDIR:-/tmp}/backstop-apt.$$.log"
    [ "$ours" = no ] || rm -f "$policy"
    return "$status"
}
