#!/bin/sh
# Install electrictown from this folder: ./install.sh [FOLDER], by default ~/.local/share/electrictown.
# Nothing comes from the network, but for what sources-network/ says (see MANIFEST.json).
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
target=${1:-$HOME/.local/share/electrictown}
python=${PYTHON:-python3}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' ||
    fail "this archive serves Python 3.11 to 3.14 and '$python' is not one: set PYTHON"
"$python" -m venv "$target" ||
    fail "cannot make $target: on Debian, apt-get install python3-venv"

pip() { "$target/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# What no one made a wheel of for this platform is compiled here.
for source in "$here"/sources/*.tar.gz; do
    [ -e "$source" ] || continue
    echo "compiling $(basename "$source") (needs a C compiler and Python's headers)"
    pip wheel --no-index --find-links "$here/build-requirements" --no-deps \
        --wheel-dir "$target/compiled" "$source" ||
        fail "$(basename "$source") did not compile: on Debian, apt-get install gcc python3-dev"
done
for source in "$here"/sources-network/*.tar.gz; do
    [ -e "$source" ] || continue
    echo "compiling $(basename "$source") (its build tools come from the network; see MANIFEST.json)"
    pip wheel --find-links "$here/build-requirements" --no-deps --wheel-dir "$target/compiled" "$source" ||
        fail "$(basename "$source") did not compile: MANIFEST.json says what it needs"
done

what=electrictown
for wheel in "$here"/wheels/xllamacpp-*.whl; do
    if [ -e "$wheel" ]; then what='electrictown[local]'; fi
done
mkdir -p "$target/compiled"
pip install --no-index --find-links "$here/wheels" --find-links "$target/compiled" "$what"
"$target/bin/et" version
echo "installed: $target/bin/et"
