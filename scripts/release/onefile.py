"""The one-file `et`: every dependency inside one executable file, made with pex.

Native modules cannot be imported out of a zip, so the first start unpacks the file once into pex's cache
folder (about two seconds); later ones run from there. pex makes that safe against concurrent starts, hands
the program an environment of its own (child processes of `sys.executable` work), and builds for another
platform from wheels alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from scripts.release import ReleaseError
from scripts.release.platforms import PYTHONS, Platform, environment, tags

__all__ = ["build_onefile"]


def build_onefile(wheels: Path, platform: Platform, target: Path, scratch: Path) -> None:
    """Pack the folder `wheels`, ours among them, into the executable `target`. Raises ReleaseError."""
    command = [sys.executable, "-m", "pex", "--no-pypi", "--find-links", str(wheels), "--no-build"]
    command += ["--pex-root", str(scratch / "pex"), "electrictown", "--console-script", "et"]
    command += [
        "--venv",
        "--sh-boot",
        "--python-shebang",
        "/usr/bin/env python3",
        "--output-file",
        str(target),
    ]
    scratch.mkdir(parents=True, exist_ok=True)
    for python in PYTHONS:
        description = scratch / f"{platform.arch}-{python[0]}.{python[1]}.json"
        content = {
            "marker_environment": environment(python, platform),
            "compatible_tags": [str(tag) for tag in tags(python, platform)],
        }
        description.write_text(json.dumps(content))
        command += ["--complete-platform", str(description)]
    # pex writes the builder's cache folder into the file; without this name that is `~/.cache`.
    clean = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=clean)
    if done.returncode:
        raise ReleaseError(f"pex failed:\n{done.stderr.strip()}")
