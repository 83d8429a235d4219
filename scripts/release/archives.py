"""One archive a platform: our wheel, its dependencies, the sources of what has no wheel, an installer.

The same commit gives the same bytes: members are sorted and carry one time, owner and mode.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from scripts.release import ReleaseError
from scripts.release.fetch import fetch, sha256
from scripts.release.lock import Choice, Lock, Package, choose
from scripts.release.platforms import PYTHONS, Platform, environment

__all__ = ["Compiled", "Manifest", "archive_name", "build_archive", "build_requirements", "write_sums"]

# The embedded model's engine. Its source is all of llama.cpp, so it comes only where there is a wheel.
_OPTIONAL = ("xllamacpp",)


class Compiled(msgspec.Struct):
    """A package that the installer compiles. `network` says that its build tools are not in the archive."""

    name: str
    version: str
    source: str
    network: bool
    needs: list[str]


class Manifest(msgspec.Struct):
    """MANIFEST.json: what is in an archive. `files` maps each member's path to its SHA-256."""

    name: str
    version: str
    platform: str
    machine: str
    pythons: list[str]
    compiled: list[Compiled]
    left_out: dict[str, str]
    files: dict[str, str]


def archive_name(version: str, platform: Platform) -> str:
    """The archive's file name without its ending; also its one top folder."""
    return f"electrictown-{version}-linux-{platform.arch}"


def build_requirements(source: Path) -> list[str]:
    """What the sdist `source` says its build needs (PEP 518)."""
    with tarfile.open(source) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.count("/") == 1 else None
            if file is not None and member.name.endswith("/pyproject.toml"):
                project: dict[str, Any] = tomllib.loads(file.read().decode())
                return list(project.get("build-system", {}).get("requires", ["setuptools"]))
    return ["setuptools"]


def build_archive(
    wheel: Path, lock: Lock, platform: Platform, cache: Path, dist: Path, *, epoch: int
) -> Path:
    """Write the archive for `platform` into `dist` and return its path. Raises ReleaseError."""
    version = str(parse_wheel_filename(wheel.name)[1])
    choice = choose(lock, platform, ["electrictown"], _OPTIONAL)
    fetch(choice, platform, cache)
    root = Path(__file__).resolve().parents[2]
    contents = {
        "install.sh": Path(__file__).with_name("install.sh"),
        "LICENSE": root / "LICENSE",
        "README.md": root / "README.md",
        f"wheels/{wheel.name}": wheel,
        **{f"wheels/{name}": cache / name for name in choice.wheels},
    }
    compiled: list[Compiled] = []
    for filename, (package, _) in choice.sources.items():
        entry, tools = _compiled(package, cache / filename, lock, platform)
        compiled.append(entry)
        contents[entry.source] = cache / filename
        contents |= {f"build-requirements/{name}": cache / name for name in tools.wheels}
    manifest = Manifest(
        name="electrictown",
        version=version,
        platform=platform.name,
        machine=platform.machine,
        pythons=[f"{major}.{minor}" for major, minor in PYTHONS],
        compiled=sorted(compiled, key=lambda each: each.name),
        left_out=choice.left_out,
        files={name: sha256(path) for name, path in sorted(contents.items())},
    )
    target = dist / f"{archive_name(version, platform)}.tar.gz"
    _write(target, contents, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n", epoch)
    return target


def _compiled(package: Package, source: Path, lock: Lock, platform: Platform) -> tuple[Compiled, Choice]:
    """How `package` is compiled there, and the wheels of its build requirements."""
    markers = environment(PYTHONS[0], platform)
    wanted = [Requirement(each) for each in build_requirements(source)]
    absent = sorted({each.name for each in wanted if each.name not in lock})
    present = {
        each.name
        for each in wanted
        if each.name in lock and (each.marker is None or each.marker.evaluate(markers))
    }
    tools = choose(lock, platform, sorted(present))
    fetch(tools, platform, source.parent)
    if tools.sources:
        raise ReleaseError(f"{package.name} builds with {', '.join(tools.sources)}, which has no wheel")
    network = bool(absent)
    needs = ["a C compiler", "Python's headers"]
    if "maturin" in absent:
        needs = ["a Rust compiler", "its crates, from the network"]
    needs += [f"{name}, from the network" for name in absent]
    folder = "sources-network" if network else "sources"
    entry = Compiled(package.name, package.version, f"{folder}/{source.name}", network, needs)
    return entry, tools


def _write(target: Path, contents: dict[str, Path], manifest: bytes, epoch: int) -> None:
    top = target.name.removesuffix(".tar.gz")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        target.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=epoch, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        everything = {
            "MANIFEST.json": manifest,
            **{name: path.read_bytes() for name, path in contents.items()},
        }
        for name, content in sorted(everything.items()):
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            member.mtime = epoch
            member.mode = 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(member, io.BytesIO(content))


def write_sums(dist: Path, archives: list[Path]) -> None:
    """Write SHA256SUMS as `sha256sum --check` reads it."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(archives)]
    (dist / "SHA256SUMS").write_text("".join(lines))
