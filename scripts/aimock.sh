#!/usr/bin/env bash
# Install aimock, an independent implementation of the providers' APIs, from npm into .peers/.
# Tests that talk to it skip with a reason where this could not be done; so this always ends well.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=1.43.0
readonly folder=.peers

say() { printf '==> %s\n' "$*" >&2; }

if [ "$(cat "$folder/aimock.version" 2>/dev/null)" = "$version" ]; then exit 0; fi
if ! command -v npm >/dev/null 2>&1; then
    say "npm is not here: tests against aimock will be skipped"
    exit 0
fi
say "installing aimock $version into $folder"
mkdir -p "$folder"
if npm install --prefix "$folder" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error \
    "@copilotkit/aimock@$version" </dev/null >&2; then
    echo "$version" >"$folder/aimock.version"
else
    say "npm could not install aimock: tests against it will be skipped"
fi
