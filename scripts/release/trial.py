"""Run what an archive holds, as far as this machine can: its installer, its imports, its compile step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["can_compile", "compile_sources", "start"]

_IMPORTS = Path(__file__).with_name("imports.py")


def start(archive: Path) -> list[str]:
    """Install the archive with its own installer and no index, and import all of it; return the faults."""
    with _unpacked(archive) as folder:
        target = folder.parent / "installed"
        for command in (
            [str(folder / "install.sh"), str(target)],
            [str(target / "bin" / "python"), "-I", str(_IMPORTS)],
        ):
            fault = _run(command)
            if fault:
                return [fault]
    return []


def can_compile() -> bool:
    """Whether a C compiler and Python's headers are here."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return headers.is_file() and shutil.which("cc") is not None


def compile_sources(archive: Path, tried: set[str]) -> tuple[list[str], list[str]]:
    """Compile the archive's sources with nothing but what it holds; return the faults and what was compiled.

    The result is for this machine, but a build requirement that was forgotten shows. `tried` remembers
    sources by name: every archive carries the same ones.
    """
    faults: list[str] = []
    compiled: list[str] = []
    with _unpacked(archive) as folder:
        for source in sorted(folder.glob("sources/*.tar.gz")):
            if source.name in tried:
                continue
            tried.add(source.name)
            command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
            command += ["--find-links", str(folder / "build-requirements")]
            fault = _run([*command, "--wheel-dir", str(folder.parent / "compiled"), str(source)])
            if fault:
                faults.append(fault)
            else:
                compiled.append(source.name)
    return faults, compiled


@contextmanager
def _unpacked(archive: Path) -> Generator[Path]:
    """The archive's top folder, unpacked into a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
        yield Path(folder, archive.name.removesuffix(".tar.gz"))


def _run(command: list[str]) -> str:
    """Run without any package index; return what went wrong, or nothing."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PYTHON": sys.executable}
    done = subprocess.run(command, env=environ, check=False, capture_output=True, text=True)
    return f"{Path(command[-1]).name}:\n{done.stdout}{done.stderr}" if done.returncode else ""
