"""Fetch the files that were chosen into one cache folder, each compared with the lock's hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from scripts.release import ReleaseError
from scripts.release.lock import Artifact, Choice, Package
from scripts.release.platforms import PYTHONS, Platform, Python, tags

__all__ = ["fetch", "sha256"]


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(choice: Choice, platform: Platform, cache: Path) -> None:
    """Bring every wheel and source of `choice` into `cache`. Raises ReleaseError."""
    cache.mkdir(parents=True, exist_ok=True)
    for python in PYTHONS:
        absent = [
            (package, wheel)
            for package, wheel in choice.wheels.values()
            if not _here(wheel, cache) and package.wheel(python, platform) == wheel
        ]
        if absent:
            _pip_download(absent, python, platform, cache)
    for package, source in choice.sources.values():
        if not _here(source, cache):
            _fetch_source(package, cache)
    for _, artifact in (*choice.wheels.values(), *choice.sources.values()):
        if not _here(artifact, cache):
            raise ReleaseError(f"{artifact.filename} is not what uv.lock says")


def _here(artifact: Artifact, cache: Path) -> bool:
    path = cache / artifact.filename
    return path.is_file() and sha256(path) == artifact.sha256


def _pip_download(
    absent: Iterable[tuple[Package, Artifact]], python: Python, platform: Platform, cache: Path
) -> None:
    # pip picks the file by the same tags, and the hash leaves it no other choice.
    lines = [f"{package.name}=={package.version} --hash={wheel.hash}\n" for package, wheel in absent]
    wanted = cache / f"wanted-{platform.arch}-{python[0]}.{python[1]}.txt"
    wanted.write_text("".join(sorted(lines)))
    names = dict.fromkeys(tag.platform for tag in tags(python, platform) if tag.platform != "any")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--implementation", "cp"]
    command += ["--python-version", f"{python[0]}.{python[1]}", "--dest", str(cache)]
    command += [f"--platform={name}" for name in names]
    _run([*command, "--requirement", str(wanted)])
    wanted.unlink()


def _fetch_source(package: Package, cache: Path) -> None:
    # pip would run a source's build backend only to download it, and one of them wants a Rust compiler.
    command = [sys.executable, "-m", "unearth", "--no-binary", "--download", str(cache)]
    _run([*command, f"{package.name}=={package.version}"])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{' '.join(command[1:4])} failed:\n{done.stderr.strip()}")
