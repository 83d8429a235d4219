"""The release's choices: which tags, which files of the lock, which archs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name

from scripts import locked
from scripts.release import ReleaseError
from scripts.release.lock import Artifact, Dependency, Lock, Package, choose, read_lock
from scripts.release.platforms import PLATFORMS, PYTHONS, environment, tags

ROOT = Path(__file__).parents[2]
AMD64, RISCV64, PPC64 = PLATFORMS["amd64"], PLATFORMS["riscv64"], PLATFORMS["ppc64"]


def artifact(name: str) -> Artifact:
    return Artifact(url=f"files/{name}", hash="sha256:00")


def package(name: str, *wheels: str, sdist: bool = True, needs: tuple[str, ...] = ()) -> Package:
    return Package(
        name=name,
        version="1.0",
        sdist=artifact(f"{name}-1.0.tar.gz") if sdist else None,
        wheels=tuple(artifact(f"{name}-1.0-{tag}.whl") for tag in wheels),
        dependencies=tuple(Dependency(need) for need in needs),
    )


def test_the_five_platforms_of_the_original_are_served() -> None:
    assert list(PLATFORMS) == ["amd64", "arm64", "riscv64", "ppc64le", "ppc64"]


def test_a_wheel_for_an_older_glibc_fits_and_one_for_a_newer_does_not() -> None:
    fitting = tags((3, 11), AMD64)
    assert Tag("cp311", "cp311", "manylinux_2_28_x86_64") in fitting
    assert Tag("cp311", "cp311", "manylinux2014_x86_64") in fitting
    assert Tag("cp310", "abi3", "manylinux_2_17_x86_64") in fitting
    assert Tag("py3", "none", "any") in fitting
    assert Tag("cp311", "cp311", "manylinux_2_38_x86_64") not in fitting
    assert Tag("cp311", "cp311", "musllinux_1_2_x86_64") not in fitting
    assert Tag("cp311", "cp311", "manylinux_2_28_aarch64") not in fitting


def test_riscv64_takes_the_wheels_of_its_first_distributions() -> None:
    assert Tag("cp313", "cp313", "manylinux_2_39_riscv64") in tags((3, 13), RISCV64)


def test_a_native_wheel_is_taken_before_a_pure_one() -> None:
    both = package("aiohttp", "py3-none-any", "cp311-cp311-manylinux_2_17_x86_64")
    native, pure = both.wheel((3, 11), AMD64), both.wheel((3, 12), AMD64)
    assert native is not None
    assert pure is not None
    assert native.filename == "aiohttp-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    assert pure.filename == "aiohttp-1.0-py3-none-any.whl"


def test_what_has_no_wheel_comes_as_its_source() -> None:
    root = Package(name="electrictown", dependencies=(Dependency("pyyaml"),))
    yaml = package("pyyaml", *(f"cp3{minor}-cp3{minor}-manylinux_2_17_x86_64" for _, minor in PYTHONS))
    lock = Lock([root, yaml])
    assert set(choose(lock, AMD64, ["electrictown"]).wheels) == {wheel.filename for wheel in yaml.wheels}
    assert not choose(lock, AMD64, ["electrictown"]).sources
    assert set(choose(lock, PPC64, ["electrictown"]).sources) == {"pyyaml-1.0.tar.gz"}


def test_a_package_with_neither_wheel_nor_source_is_an_error() -> None:
    lock = Lock([package("root", "py3-none-any", needs=("odd",)), package("odd", sdist=False)])
    with pytest.raises(ReleaseError, match="odd has neither a wheel for linux/amd64 nor a source"):
        choose(lock, AMD64, ["root"])


def test_an_optional_package_without_a_wheel_is_left_out_and_said() -> None:
    lock = Lock([package("root", "py3-none-any"), package("xllamacpp", "cp310-abi3-manylinux_2_17_x86_64")])
    there, elsewhere = (choose(lock, each, ["root"], ["xllamacpp"]) for each in (AMD64, RISCV64))
    assert "xllamacpp-1.0-cp310-abi3-manylinux_2_17_x86_64.whl" in there.wheels
    assert not there.left_out
    assert elsewhere.left_out == {"xllamacpp": "no wheel of xllamacpp for linux/riscv64"}
    assert not elsewhere.sources


@pytest.mark.parametrize("arch", PLATFORMS)
def test_the_real_lock_serves_every_platform_and_python(arch: str) -> None:
    lock = read_lock(ROOT / "uv.lock")
    choice = choose(lock, PLATFORMS[arch], ["electrictown"], ["xllamacpp"])
    names = {each.name for each, _ in (*choice.wheels.values(), *choice.sources.values())}
    for python in PYTHONS:
        needed = lock.closure([("electrictown", "")], python, PLATFORMS[arch])
        assert {each.name for each in needed if each.version} <= names
    assert {"aiohttp", "msgspec", "pydantic-core", "pyyaml"} <= names
    assert ("xllamacpp" in names) is (arch in {"amd64", "arm64"})


def test_markers_see_the_target_and_not_this_machine() -> None:
    seen = environment((3, 13), PPC64)
    assert (seen["python_version"], seen["platform_machine"], seen["sys_platform"]) == (
        "3.13",
        "ppc64",
        "linux",
    )


def test_the_pins_are_the_lock_without_the_project() -> None:
    pinned = dict(line.split("==") for line in locked.pins())
    assert "electrictown" not in pinned
    assert {"aiohttp", "msgspec", "xllamacpp", "pytest", "pex"} <= pinned.keys()


def test_the_lock_holds_what_the_project_file_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [Requirement(line) for line in project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += [Requirement(line) for line in extra]
    wanted += [Requirement(line) for name in ("dev", "release") for line in locked.group(name)]
    pinned = dict(line.split("==") for line in locked.pins())
    for requirement in wanted:
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: run `uv lock`"
