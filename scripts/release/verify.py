"""Check a release's archives: whole, for the right machine, complete, and started where that can be."""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import dataclass, field
from email.parser import HeaderParser
from hashlib import sha256 as digest
from pathlib import Path, PurePosixPath

import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from scripts.release.archives import Manifest
from scripts.release.platforms import PLATFORMS, Platform, Python, environment, here, tags
from scripts.release.trial import can_compile, compile_sources, start

__all__ = ["Verdict", "check_archive", "check_sums", "elf_faults", "verify"]


@dataclass
class Verdict:
    """What the check of one archive found: faults fail it, notes only tell."""

    archive: str
    faults: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


def verify(dist: Path) -> list[Verdict]:
    """Check SHA256SUMS and one archive a platform in `dist`; start the one for this machine."""
    sums = Verdict("SHA256SUMS", check_sums(dist))
    verdicts = [sums]
    tried: set[str] = set()
    for platform in PLATFORMS.values():
        found = sorted(dist.glob(f"electrictown-*-linux-{platform.arch}.tar.gz"))
        if len(found) != 1:
            sums.faults.append(f"{len(found)} archives for {platform.name}, not one: make build-all")
        for archive in found:
            verdict = check_archive(archive, platform)
            if not verdict.faults:
                _try(archive, platform, verdict, tried)
            verdicts.append(verdict)
    return verdicts


def _try(archive: Path, platform: Platform, verdict: Verdict, tried: set[str]) -> None:
    """Run of a sound archive what this machine can."""
    if platform == here():
        verdict.faults += start(archive)
        if not verdict.faults:
            verdict.notes.append("installed without an index, started, and everything imported")
        return
    verdict.notes.append("imports not run: this is another machine")
    if not can_compile():
        verdict.notes.append("sources not compiled: no C compiler or no Python.h here")
        return
    faults, names = compile_sources(archive, tried)
    verdict.faults += faults
    verdict.notes += [
        f"compiled here from what the archive holds, for this machine: {name}" for name in names
    ]


def check_sums(dist: Path) -> list[str]:
    """What is wrong between SHA256SUMS and the files beside it."""
    listed: dict[str, str] = {}
    if (dist / "SHA256SUMS").is_file():
        for line in (dist / "SHA256SUMS").read_text().splitlines():
            value, _, name = line.partition("  ")
            listed[name] = value
    present = {path.name: digest(path.read_bytes()).hexdigest() for path in dist.glob("*.tar.gz")}
    names = sorted(listed.keys() | present.keys())
    return [f"{name}: not what SHA256SUMS says" for name in names if listed.get(name) != present.get(name)]


def check_archive(path: Path, platform: Platform) -> Verdict:
    """Check one archive for `platform` without running anything of it."""
    verdict = Verdict(path.name)
    top = path.name.removesuffix(".tar.gz")
    contents: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if (
                file is None
                or ".." in PurePosixPath(member.name).parts
                or not member.name.startswith(f"{top}/")
            ):
                verdict.faults.append(f"{member.name}: not a plain file under {top}/")
                continue
            contents[member.name.removeprefix(f"{top}/")] = file.read()
    try:
        manifest = msgspec.json.decode(contents.pop("MANIFEST.json", b""), type=Manifest)
    except msgspec.DecodeError as error:
        verdict.faults.append(f"MANIFEST.json: {error}")
        return verdict
    hashes = {name: digest(content).hexdigest() for name, content in contents.items()}
    for name in sorted(hashes.keys() | manifest.files.keys()):
        if hashes.get(name) != manifest.files.get(name):
            verdict.faults.append(f"{name}: not what MANIFEST.json says")
    if (manifest.platform, manifest.machine) != (platform.name, platform.machine):
        verdict.faults.append(f"MANIFEST.json is for {manifest.platform}")
    wheels = {
        PurePosixPath(name).name: content for name, content in contents.items() if name.endswith(".whl")
    }
    pythons = [
        (int(major), int(minor)) for major, _, minor in (each.partition(".") for each in manifest.pythons)
    ]
    for name, content in sorted(wheels.items()):
        verdict.faults += wheel_faults(name, content, pythons, platform)
    for python in pythons:
        verdict.faults += closure_faults(manifest, contents, python, platform)
    for each in manifest.compiled:
        verdict.notes.append(
            f"compiled on install: {each.name} {each.version} (needs {', '.join(each.needs)})"
        )
    verdict.notes += [f"left out: {name} ({why})" for name, why in sorted(manifest.left_out.items())]
    return verdict


def wheel_faults(name: str, content: bytes, pythons: list[Python], platform: Platform) -> list[str]:
    """What is wrong with one wheel: a name no Python there takes, or native code for another machine."""
    said = parse_wheel_filename(name)[3]
    faults: list[str] = []
    if not any(said & set(tags(python, platform)) for python in pythons):
        faults.append(f"{name}: no Python of {platform.name} would take it")
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        for member in wheel.namelist():
            if member.endswith(".so") or ".so." in member:
                with wheel.open(member) as file:
                    faults += [f"{name}: {member}: {fault}" for fault in elf_faults(file.read(20), platform)]
    return faults


def elf_faults(head: bytes, platform: Platform) -> list[str]:
    """What is wrong with a shared library, by the first 20 bytes of its ELF header."""
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return ["not an ELF file"]
    byteorder = {1: "little", 2: "big"}.get(head[5])
    if head[4] != 2 or byteorder != platform.byteorder:
        return [f"not 64 bit, {platform.byteorder}-endian"]
    machine = int.from_bytes(head[18:20], platform.byteorder)
    return [] if machine == platform.elf else [f"native code for machine {machine}, not {platform.elf}"]


def closure_faults(
    manifest: Manifest, contents: dict[str, bytes], python: Python, platform: Platform
) -> list[str]:
    """What a pip with this Python would miss, walked through the metadata of the wheels themselves."""
    fitting = set(tags(python, platform))
    provided: dict[str, tuple[Version, list[str]]] = {}
    for name, content in contents.items():
        filename = PurePosixPath(name).name
        if name.startswith("wheels/") and parse_wheel_filename(filename)[3] & fitting:
            project, version = parse_wheel_filename(filename)[:2]
            provided[project] = (version, _requirements(content))
        elif name.startswith(("sources/", "sources-network/")):
            project, version = parse_sdist_filename(filename)
            provided.setdefault(project, (version, _source_requirements(content)))
    faults = [
        f"{each.source}: listed as compiled, but not here"
        for each in manifest.compiled
        if each.source not in contents
    ]
    markers = {**environment(python, platform), "extra": ""}
    waiting = [Requirement(f"electrictown=={manifest.version}")]
    waiting += [Requirement("xllamacpp")] if "xllamacpp" in provided else []
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        project = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate(markers):
            continue
        where = f"Python {python[0]}.{python[1]}"
        if project not in provided:
            faults.append(f"{requirement.name}: neither wheel nor source for {where}")
        elif not requirement.specifier.contains(provided[project][0], prereleases=True):
            faults.append(f"{requirement} is wanted, {provided[project][0]} is here for {where}")
        elif project not in seen:
            seen.add(project)
            waiting += [Requirement(each) for each in provided[project][1]]
    return faults


def _requirements(wheel: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return _requires_dist(archive.read(metadata).decode())


def _source_requirements(sdist: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(sdist)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.count("/") == 1 else None
            if file is not None and member.name.endswith("/PKG-INFO"):
                return _requires_dist(file.read().decode())
    return []


def _requires_dist(metadata: str) -> list[str]:
    return [str(value) for value in HeaderParser().parsestr(metadata).get_all("Requires-Dist", [])]
