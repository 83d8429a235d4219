"""Say to pip what the lock and the project file hold; runs before anything is installed.

`locked.py pins` prints a pip constraints file: the version of every package in uv.lock.
`locked.py group NAME...` prints the requirements of those dependency groups (Debian's pip cannot read them).
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

__all__ = ["group", "main", "pins"]

ROOT = Path(__file__).resolve().parents[1]


def pins(root: Path = ROOT) -> list[str]:
    """One `name==version` for every package in the lock but the project itself."""
    packages = tomllib.loads((root / "uv.lock").read_text())["package"]
    return [f"{package['name']}=={package['version']}" for package in packages if "version" in package]


def group(name: str, root: Path = ROOT) -> list[str]:
    """The requirements of one dependency group of pyproject.toml. Raises KeyError for an unknown name."""
    requirements: list[str] = tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"][name]
    return requirements


def main(arguments: list[str]) -> int:
    """Run the command line; the return value is the exit code."""
    match arguments:
        case ["pins"]:
            lines = pins()
        case ["group", *names] if names:
            lines = [line for name in names for line in group(name)]
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
