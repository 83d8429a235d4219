"""The package as it is really built and installed, by each tool that the README names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.install

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"  # of the group `dev`
LIMIT = 240  # seconds for one command: a registry may be slow


def run(
    *command: str | Path, cwd: Path | None = None, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**env, **(environ or {})},
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def git(*arguments: str, cwd: Path) -> None:
    done = run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr


def tree(target: Path) -> Path:
    """A copy of the project's own files, as they are now, without its history."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout: nothing says which files are the project's")
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project at a tag of its own, so that what is built has a version to know it by."""
    project = tree(tmp_path_factory.mktemp("source"))
    git("init", "-q", cwd=project)
    git("add", "-A", cwd=project)
    git("commit", "-q", "-m", "all", cwd=project)
    git("tag", "v7.8.9", cwd=project)
    return project


@pytest.fixture(scope="session")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an empty environment with pip; skips where no registry answers."""
    folder = tmp_path_factory.mktemp("pip")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    probe = run(python, "-m", "pip", "download", "-q", "--no-deps", "-d", folder / "probe", "hatchling")
    if probe.returncode:
        pytest.skip(f"no package registry answers: {probe.stderr.strip().splitlines()[-1:]}")
    return python


def check(et: Path, version: str = "7.8.9") -> None:
    """What is installed starts, from anywhere, and says its version."""
    done = run(et, "version", cwd=et.parent)
    assert (done.returncode, done.stdout.strip()) == (0, f"et {version}"), done.stderr
    told = run(et, "--help", cwd=et.parent)
    assert told.returncode == 0, told.stderr
    assert "et run " in told.stdout


def test_pip_installs_from_the_repository(source: Path, pip: Path) -> None:
    done = run(pip, "-m", "pip", "install", "-q", source)
    assert done.returncode == 0, done.stderr
    check(pip.parent / "et")


def test_uv_tool_installs_from_the_repository(source: Path, pip: Path, tmp_path: Path) -> None:
    folders = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    done = run(UV, "tool", "install", "--python", sys.executable, source, environ=folders)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "bin" / "et")


def test_pipx_installs_from_the_repository(source: Path, pip: Path, tmp_path: Path) -> None:
    done = run(pip, "-m", "pip", "install", "-q", "pipx")
    assert done.returncode == 0, done.stderr
    folders = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    done = run(pip, "-m", "pipx", "install", source, environ=folders)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "bin" / "et")


def test_the_wheel_holds_the_program_and_nothing_else(source: Path, pip: Path, tmp_path: Path) -> None:
    done = run(UV, "build", "--wheel", "--out-dir", tmp_path, source)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == "electrictown-7.8.9-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"electrictown", "electrictown-7.8.9.dist-info"}
    packaged = {name.removeprefix("electrictown/") for name in names if name.startswith("electrictown/")}
    package = source / "src" / "electrictown"
    ours = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    assert packaged == ours | {"_version.py"}


def test_a_tree_without_history_or_tags_still_builds_and_knows_a_version(pip: Path, tmp_path: Path) -> None:
    bare = tree(tmp_path / "bare")
    done = run(UV, "build", "--sdist", "--out-dir", tmp_path / "out", bare)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,) = (tmp_path / "out").glob("*.tar.gz")
    assert sdist.name == "electrictown-0.1.0.dev0.tar.gz"
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "README.md", "scripts/venv.sh", "src/electrictown/_version.py", "uv.lock"} <= names
