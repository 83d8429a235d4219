"""`python -m scripts.release`: build, build-all and verify, for the Makefile."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.release import ReleaseError
from scripts.release.archives import build_archive, write_sums
from scripts.release.fetch import fetch
from scripts.release.lock import choose, read_lock
from scripts.release.onefile import build_onefile
from scripts.release.platforms import PLATFORMS, Platform, here
from scripts.release.verify import verify

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
DIST = ROOT / "dist"
CACHE = BUILD / "cache"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the return value is the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("build", help="wheel, sdist and the one-file et in build/")
    one.add_argument("--arch", choices=PLATFORMS, help="another machine's instead of this one's")
    commands.add_parser("build-all", help="an archive for every platform in dist/")
    commands.add_parser("verify", help="check the archives in dist/")
    options = parser.parse_args(arguments)
    try:
        if options.command == "build":
            _build(PLATFORMS[options.arch] if options.arch else here())
        elif options.command == "build-all":
            _build_all()
        else:
            return _verify()
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _epoch() -> int:
    """The one time of everything in a release: SOURCE_DATE_EPOCH, or the last commit's, or 1980."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return 315532800  # the first time that a zip file can say


def _packages(*, epoch: int, sdist: bool) -> Path:
    """Build our wheel (and sdist) into build/ and return the wheel."""
    for old in (*BUILD.glob("electrictown-*.whl"), *BUILD.glob("electrictown-*.tar.gz")):
        old.unlink()
    kinds = ["--wheel", "--sdist"] if sdist else ["--wheel"]
    command = [sys.executable, "-m", "build", *kinds, "--outdir", str(BUILD), str(ROOT)]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ)
    if done.returncode:
        raise ReleaseError(f"python -m build failed:\n{done.stdout}{done.stderr}")
    return next(BUILD.glob("electrictown-*.whl"))


def _build(platform: Platform | None) -> None:
    if platform is None:
        raise ReleaseError(f"no release is made for this machine: say ARCH={'|'.join(PLATFORMS)}")
    wheel = _packages(epoch=_epoch(), sdist=True)
    choice = choose(read_lock(ROOT / "uv.lock"), platform, ["electrictown"])
    if choice.sources:
        without = ", ".join(sorted({package.name for package, _ in choice.sources.values()}))
        raise ReleaseError(
            f"one file for {platform.name} cannot be made: there is no wheel of {without}; "
            "the archive of `make build-all` compiles what is missing where it is installed"
        )
    fetch(choice, platform, CACHE)
    wheels = BUILD / f"wheels-{platform.arch}"
    shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir(parents=True)
    for path in (wheel, *(CACHE / name for name in choice.wheels)):
        shutil.copy(path, wheels)
    target = BUILD / ("et" if platform == here() else f"et-linux-{platform.arch}")
    build_onefile(wheels, platform, target, BUILD / "scratch")
    shutil.rmtree(wheels)
    _tell([*BUILD.glob("electrictown-*"), target])


def _build_all() -> None:
    epoch = _epoch()
    wheel = _packages(epoch=epoch, sdist=False)
    lock = read_lock(ROOT / "uv.lock")
    shutil.rmtree(DIST, ignore_errors=True)
    archives = [build_archive(wheel, lock, each, CACHE, DIST, epoch=epoch) for each in PLATFORMS.values()]
    write_sums(DIST, archives)
    _tell([*archives, DIST / "SHA256SUMS"])


def _verify() -> int:
    verdicts = verify(DIST)
    for verdict in verdicts:
        print(f"{'FAULT' if verdict.faults else 'ok   '} {verdict.archive}")
        for fault in verdict.faults:
            print(f"        fault: {fault}")
        for note in verdict.notes:
            print(f"        {note}")
    return 1 if any(verdict.faults for verdict in verdicts) else 0


def _tell(paths: list[Path]) -> None:
    for path in sorted(paths):
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
