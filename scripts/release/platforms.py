"""The platforms and Pythons a release serves, and what a wheel for them may be called."""

from __future__ import annotations

import platform as this_machine
from dataclasses import dataclass
from typing import Literal

from packaging.tags import Tag, compatible_tags, cpython_tags

__all__ = ["PLATFORMS", "PYTHONS", "Platform", "Python", "environment", "here", "tags"]

Python = tuple[int, int]

# Debian 12, Ubuntu 24.04, Debian 13, Ubuntu 26.04.
PYTHONS: tuple[Python, ...] = ((3, 11), (3, 12), (3, 13), (3, 14))

# Names that wheels carried before manylinux_2_N, by the N they mean (PEP 600).
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST_GLIBC = 5


@dataclass(frozen=True, slots=True)
class Platform:
    """One kind of Linux machine: `glibc` is the newest 2.N a wheel may ask for, `elf` its e_machine."""

    arch: str
    machine: str
    elf: int
    byteorder: Literal["little", "big"] = "little"
    glibc: int = 36  # Debian 12

    @property
    def name(self) -> str:
        """The name as a person reads it: `linux/arm64`."""
        return f"linux/{self.arch}"


PLATFORMS: dict[str, Platform] = {
    each.arch: each
    for each in (
        Platform("amd64", "x86_64", elf=62),
        Platform("arm64", "aarch64", elf=183),
        # The first Debian and the first Ubuntu LTS with many riscv64 wheels have glibc 2.39 or newer.
        Platform("riscv64", "riscv64", elf=243, glibc=39),
        Platform("ppc64le", "ppc64le", elf=21),
        Platform("ppc64", "ppc64", elf=21, byteorder="big"),
    )
}


def here() -> Platform | None:
    """The platform of this machine, or None where no release is made for it."""
    if this_machine.system() != "Linux":
        return None
    machine = this_machine.machine()
    return next((each for each in PLATFORMS.values() if each.machine == machine), None)


def tags(python: Python, platform: Platform) -> list[Tag]:
    """Every wheel tag that works there, the most wanted first."""
    platforms: list[str] = []
    for minor in range(platform.glibc, _OLDEST_GLIBC - 1, -1):
        platforms.append(f"manylinux_2_{minor}_{platform.machine}")
        if minor in _LEGACY:
            platforms.append(f"{_LEGACY[minor]}_{platform.machine}")
    platforms.append(f"linux_{platform.machine}")
    interpreter = f"cp{python[0]}{python[1]}"
    return [
        *cpython_tags(python, platforms=platforms),
        *compatible_tags(python, interpreter, platforms),
    ]


def environment(python: Python, platform: Platform) -> dict[str, str]:
    """What the markers of a requirement see there (PEP 508)."""
    short = f"{python[0]}.{python[1]}"
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{short}.0",
        "os_name": "posix",
        "platform_machine": platform.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{short}.0",
        "python_version": short,
        "sys_platform": "linux",
    }
