"""uv.lock as a release needs it: which packages, and which file of each for a platform."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

import msgspec
from packaging.markers import Marker
from packaging.utils import canonicalize_name, parse_wheel_filename

from scripts.release import ReleaseError
from scripts.release.platforms import PYTHONS, Platform, Python, environment, tags

__all__ = ["Artifact", "Choice", "Dependency", "Lock", "Package", "choose", "read_lock"]


class Artifact(msgspec.Struct, frozen=True):
    """One file in a package's release. `hash` is `sha256:HEX`."""

    url: str
    hash: str

    @property
    def filename(self) -> str:
        """The file's own name."""
        return self.url.rpartition("/")[2].replace("%2B", "+")

    @property
    def sha256(self) -> str:
        """The digest alone, in hexadecimal."""
        return self.hash.removeprefix("sha256:")


class Dependency(msgspec.Struct, frozen=True):
    """One line of a package's requirements: wanted where `marker` holds, with its extras."""

    name: str
    marker: str = ""
    extra: tuple[str, ...] = ()


class Package(msgspec.Struct, frozen=True, rename="kebab"):
    """One package of the lock; the project itself is the one without a version."""

    name: str
    version: str = ""
    sdist: Artifact | None = None
    wheels: tuple[Artifact, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    optional_dependencies: dict[str, tuple[Dependency, ...]] = {}

    def wheel(self, python: Python, platform: Platform) -> Artifact | None:
        """The wheel that pip would take there, or None."""
        rank = {tag: position for position, tag in enumerate(tags(python, platform))}
        ranked = [
            (min(rank[tag] for tag in fitting), wheel.filename, wheel)
            for wheel in self.wheels
            if (fitting := parse_wheel_filename(wheel.filename)[3] & rank.keys())
        ]
        return min(ranked)[2] if ranked else None


class _File(msgspec.Struct):
    package: list[Package]


class Lock:
    """The packages of a uv.lock by name."""

    def __init__(self, packages: Iterable[Package]) -> None:
        self._packages = {package.name: package for package in packages}

    def __getitem__(self, name: str) -> Package:
        return self._packages[canonicalize_name(name)]

    def __contains__(self, name: str) -> bool:
        return canonicalize_name(name) in self._packages

    def closure(self, roots: Iterable[tuple[str, str]], python: Python, platform: Platform) -> list[Package]:
        """Every package that the roots, pairs of name and extra ("" for none), need there; roots included."""
        markers = environment(python, platform)
        waiting = list(roots)
        seen: set[tuple[str, str]] = set()
        while waiting:
            name, extra = waiting.pop()
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            package = self[name]
            needed = package.optional_dependencies[extra] if extra else package.dependencies
            for each in needed:
                if not each.marker or Marker(each.marker).evaluate(markers):
                    waiting += [(each.name, ""), *((each.name, wanted) for wanted in each.extra)]
        return [self[name] for name in sorted({name for name, _ in seen})]


def read_lock(path: Path) -> Lock:
    """Read a uv.lock. Raises msgspec.ValidationError where it is not one."""
    return Lock(msgspec.convert(tomllib.loads(path.read_text()), _File).package)


class Choice(msgspec.Struct):
    """The files for one platform, by file name: wheels for every Python, and sources of what has none."""

    wheels: dict[str, tuple[Package, Artifact]] = {}
    sources: dict[str, tuple[Package, Artifact]] = {}
    left_out: dict[str, str] = {}


def choose(lock: Lock, platform: Platform, roots: Iterable[str], optional: Iterable[str] = ()) -> Choice:
    """Choose for `platform` what `roots` need, without the roots themselves where they have no version.

    A package in `optional` comes only where it and all it needs has a wheel. Raises ReleaseError.
    """
    choice = Choice()
    for python in PYTHONS:
        wanted = lock.closure(((root, "") for root in roots), python, platform)
        for name in optional:
            extra = lock.closure([(name, "")], python, platform)
            missing = [package.name for package in extra if package.wheel(python, platform) is None]
            if missing:
                choice.left_out[name] = f"no wheel of {', '.join(missing)} for {platform.name}"
            else:
                wanted += extra
        for package in wanted:
            if not package.version:
                continue
            wheel = package.wheel(python, platform)
            if wheel is not None:
                choice.wheels[wheel.filename] = (package, wheel)
            elif package.sdist is not None:
                choice.sources[package.sdist.filename] = (package, package.sdist)
            else:
                raise ReleaseError(f"{package.name} has neither a wheel for {platform.name} nor a source")
    return choice
