#!/usr/bin/env bash
# Do the task in $ET_TASK with the configuration of whoever runs this: $CONFIG, electrictown-local.yaml, or what `et run` finds.
# The repository's own electrictown.yaml is a sample that wants three keys: as it came, it is passed over.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly et=.venv/bin/et
readonly sample=electrictown.yaml

if [ -z "${ET_TASK:-}" ]; then
    echo 'say what to do: make run TASK="implement binary search in Python"' >&2
    exit 2
fi

# Git answers 1 where the sample was made into a configuration; 0 or an error mean that nobody can tell.
changed() { [ "$(git diff --quiet HEAD -- "$sample" >/dev/null 2>&1; echo $?)" = 1 ]; }

config=${CONFIG:-}
if [ -z "$config" ] && [ -e electrictown-local.yaml ]; then
    config=electrictown-local.yaml
elif [ -z "$config" ] && [ -e "$sample" ] && ! changed; then
    echo "==> passing over the sample $sample (CONFIG=$sample uses it)" >&2
    config=auto
    for place in "${HOME:-}/$sample" "${XDG_CONFIG_HOME:-${HOME:-}/.config}/electrictown/$sample"; do
        if [ -e "$place" ]; then
            config=$place
            break
        fi
    done
fi

exec "$et" run ${config:+--config "$config"} -- "$ET_TASK"
