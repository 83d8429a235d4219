#!/usr/bin/env bash
# Install what Debian has and this machine lacks: `debian-packages.sh run` for the program itself,
# `debian-packages.sh test` for the real programs that tests talk to. Looks before it installs,
# says the command where it may not install, and always ends well: who needs a package says so itself.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
readonly kind=${1:?usage: debian-packages.sh run|test}
readonly python=${PYTHON:-python3}

say() { printf '==> %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

# Print the Debian packages of $kind that are missing here.
missing() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    ldconfig -p 2>/dev/null | grep -q 'libgomp\.so\.1' || echo libgomp1 # llama.cpp's threads
    if [ "$kind" = test ]; then
        for program in git tmux byobu caddy nginx; do
            has "$program" || echo "$program"
        done
        # Debian keeps the server's programs out of PATH, a folder a version.
        has initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || echo postgresql
    fi
}

case $kind in
    run | test) ;;
    *)
        say "unknown kind '$kind': say run or test"
        exit 2
        ;;
esac

mapfile -t packages < <(missing)
if [ ${#packages[@]} -eq 0 ]; then exit 0; fi

readonly by_hand="apt-get install --no-install-recommends ${packages[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    # Without a terminal nobody can answer sudo's question for a password.
    if has sudo && { sudo -n true 2>/dev/null || { [ -t 0 ] && [ -t 2 ]; }; }; then
        as_root=(sudo)
    else
        say "missing here: ${packages[*]}. As root: $by_hand"
        exit 0
    fi
fi
if ! has apt-get; then
    say "missing here, and no apt-get to install it: ${packages[*]}"
    exit 0
fi

# A server that is installed for tests must not start by itself: tests start their own.
readonly policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

say "installing Debian packages: ${packages[*]}"
"${as_root[@]}" apt-get update -qq >&2 || say "apt-get update failed; trying with the lists that are here"
for package in "${packages[@]}"; do
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$package" </dev/null >&2 ||
        say "could not install $package; by hand: $by_hand"
done
