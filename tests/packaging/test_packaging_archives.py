"""The archive of a platform, made of small wheels, and every fault its check must find."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from scripts.release.archives import build_archive, build_requirements, write_sums
from scripts.release.lock import Artifact, Dependency, Lock, Package
from scripts.release.platforms import PLATFORMS
from scripts.release.verify import check_archive, check_sums, elf_faults

AMD64, ARM64, PPC64 = PLATFORMS["amd64"], PLATFORMS["arm64"], PLATFORMS["ppc64"]
EPOCH = 1_700_000_000

Build = Callable[..., Path]


def elf(machine: int, *, big: bool = False) -> bytes:
    order = "big" if big else "little"
    return (
        b"\x7fELF"
        + bytes([2, 2 if big else 1])
        + bytes(10)
        + (3).to_bytes(2, order)
        + machine.to_bytes(2, order)
    )


def wheel(folder: Path, name: str, tag: str, needs: tuple[str, ...] = (), library: bytes = b"") -> Path:
    path = folder / f"{name}-1.0-{tag}.whl"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        "Version: 1.0",
        *(f"Requires-Dist: {need}" for need in needs),
    ]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(lines) + "\n")
        if library:
            file.writestr(f"{name}/_native.so", library)
    return path


def sdist(folder: Path, name: str, build: str) -> Path:
    path = folder / f"{name}-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for member, text in {
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            "pyproject.toml": f"[build-system]\nrequires = [{build!r}]\n",
            "vendored/pyproject.toml": "[build-system]\nrequires = ['not-this-one']\n",
        }.items():
            info = tarfile.TarInfo(f"{name}-1.0/{member}")
            info.size = len(text)
            file.addfile(info, io.BytesIO(text.encode()))
    return path


def artifact(path: Path) -> Artifact:
    return Artifact(url=f"files/{path.name}", hash=f"sha256:{sha256(path.read_bytes()).hexdigest()}")


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Build an archive of electrictown with one native dependency, whose files lie in the cache already."""

    def make(
        arch: str = "amd64",
        *,
        dist: str = "dist",
        library: bytes | None = None,
        needs: tuple[str, ...] = ("fast>=1; python_version > '3'",),
        tool: str = "setuptools",
    ) -> Path:
        cache = tmp_path / "cache"
        cache.mkdir(exist_ok=True)
        ours = wheel(tmp_path, "electrictown", "py3-none-any", needs)
        platform = PLATFORMS[arch]
        content = elf(AMD64.elf) if library is None else library
        native = wheel(cache, "fast", "cp310-abi3-manylinux_2_17_x86_64", library=content)
        packages = [
            Package(name="electrictown", dependencies=(Dependency("fast"),)),
            Package(
                name="fast",
                version="1.0",
                sdist=artifact(sdist(cache, "fast", tool)),
                wheels=(artifact(native),),
            ),
            Package(
                name="setuptools",
                version="1.0",
                wheels=(artifact(wheel(cache, "setuptools", "py3-none-any")),),
            ),
            Package(name="xllamacpp", version="1.0"),
        ]
        return build_archive(ours, Lock(packages), platform, cache, tmp_path / dist, epoch=EPOCH)

    return make


def members(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return [name.partition("/")[2] for name in archive.getnames()]


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change an archive's members, leaving its MANIFEST.json as it is."""
    with tarfile.open(path) as archive:
        contents = {member.name: file.read() for member in archive if (file := archive.extractfile(member))}
    change(contents)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_an_archive_holds_the_wheels_and_an_installer_and_is_sound(build: Build) -> None:
    archive = build()
    assert archive.name == "electrictown-1.0-linux-amd64.tar.gz"
    assert members(archive) == [
        "LICENSE",
        "MANIFEST.json",
        "README.md",
        "install.sh",
        "wheels/electrictown-1.0-py3-none-any.whl",
        "wheels/fast-1.0-cp310-abi3-manylinux_2_17_x86_64.whl",
    ]
    verdict = check_archive(archive, AMD64)
    assert verdict.faults == []
    assert verdict.notes == ["left out: xllamacpp (no wheel of xllamacpp for linux/amd64)"]
    with tarfile.open(archive) as file:
        assert file.getmember("electrictown-1.0-linux-amd64/install.sh").mode == 0o755


def test_the_same_inputs_give_the_same_bytes(build: Build) -> None:
    assert build(dist="one").read_bytes() == build(dist="two").read_bytes()


def test_what_has_no_wheel_is_carried_with_what_its_build_needs(build: Build) -> None:
    archive = build("ppc64")
    assert "sources/fast-1.0.tar.gz" in members(archive)
    assert "build-requirements/setuptools-1.0-py3-none-any.whl" in members(archive)
    verdict = check_archive(archive, PPC64)
    assert verdict.faults == []
    assert "compiled on install: fast 1.0 (needs a C compiler, Python's headers)" in verdict.notes


def test_a_build_tool_that_is_not_in_the_lock_is_named_and_set_apart(build: Build) -> None:
    archive = build("ppc64", tool="maturin>=1")
    assert "sources-network/fast-1.0.tar.gz" in members(archive)
    notes = check_archive(archive, PPC64).notes
    assert any("a Rust compiler" in note and "maturin, from the network" in note for note in notes)


def test_build_requirements_come_from_the_top_project_file(tmp_path: Path) -> None:
    assert build_requirements(sdist(tmp_path, "fast", "Cython; python_version < '3.13'")) == [
        "Cython; python_version < '3.13'"
    ]


def test_native_code_for_another_machine_is_a_fault(build: Build) -> None:
    faults = check_archive(build(library=elf(ARM64.elf)), AMD64).faults
    assert faults == [
        "fast-1.0-cp310-abi3-manylinux_2_17_x86_64.whl: fast/_native.so: native code for machine 183, not 62"
    ]


def test_a_dependency_that_is_not_there_is_a_fault_for_each_python(build: Build) -> None:
    faults = check_archive(build(needs=("fast", "absent>=2")), AMD64).faults
    assert faults == [f"absent: neither wheel nor source for Python 3.{minor}" for minor in (11, 12, 13, 14)]


def test_a_dependency_that_is_too_old_is_a_fault(build: Build) -> None:
    faults = check_archive(build(needs=("fast>=2",)), AMD64).faults
    assert faults[0] == "fast>=2 is wanted, 1.0 is here for Python 3.11"


def test_an_extra_that_nobody_asked_for_is_no_dependency(build: Build) -> None:
    assert check_archive(build(needs=("fast", "absent; extra == 'local'")), AMD64).faults == []


def test_an_archive_of_another_platform_is_a_fault(build: Build) -> None:
    archive = build()
    faults = check_archive(archive, ARM64).faults
    assert "MANIFEST.json is for linux/amd64" in faults
    assert any("no Python of linux/arm64 would take it" in fault for fault in faults)


def test_a_changed_a_lost_and_an_added_file_are_faults(build: Build) -> None:
    archive = build()
    top = "electrictown-1.0-linux-amd64"

    def change(contents: dict[str, bytes]) -> None:
        contents[f"{top}/install.sh"] += b"echo more\n"
        contents[f"{top}/extra"] = b"x"
        del contents[f"{top}/LICENSE"]

    rewrite(archive, change)
    faults = check_archive(archive, AMD64).faults
    assert faults == [f"{name}: not what MANIFEST.json says" for name in ("LICENSE", "extra", "install.sh")]


def test_a_member_outside_the_top_folder_is_a_fault(build: Build) -> None:
    archive = build()
    rewrite(archive, lambda contents: contents.update({"electrictown-1.0-linux-amd64/../../escape": b"x"}))
    assert (
        "electrictown-1.0-linux-amd64/../../escape: not a plain file under"
        in check_archive(archive, AMD64).faults[0]
    )


def test_an_archive_without_a_manifest_is_a_fault(build: Build) -> None:
    archive = build()
    rewrite(archive, lambda contents: contents.__delitem__("electrictown-1.0-linux-amd64/MANIFEST.json"))
    assert check_archive(archive, AMD64).faults[0].startswith("MANIFEST.json: ")


def test_the_sums_find_a_changed_a_lost_and_an_unlisted_archive(build: Build) -> None:
    one = build()
    dist = one.parent
    other = dist / "electrictown-1.0-linux-arm64.tar.gz"
    other.write_bytes(one.read_bytes())
    write_sums(dist, [one, other])
    assert check_sums(dist) == []
    one.write_bytes(b"changed")
    other.unlink()
    (dist / "new.tar.gz").write_bytes(b"new")
    assert check_sums(dist) == [
        f"{name}: not what SHA256SUMS says" for name in (one.name, other.name, "new.tar.gz")
    ]


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (elf(21, big=True), None),
        (elf(21), "not 64 bit, big-endian"),
        (elf(62, big=True), "native code for machine 62, not 21"),
        (b"#!/bin/sh\n", "not an ELF file"),
        (b"", "not an ELF file"),
    ],
)
def test_native_code_is_recognized_by_its_header(head: bytes, fault: str | None) -> None:
    assert elf_faults(head, PPC64) == ([fault] if fault else [])
