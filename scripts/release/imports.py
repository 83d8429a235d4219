"""Import electrictown, module by module, and everything beside it; runs inside an installation."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import packages_distributions
from pkgutil import walk_packages

__all__ = ["main"]

# What a virtual environment brings by itself.
_VENV = {"pip", "setuptools"}


def main() -> int:
    """Print what could not be imported; the return value is the exit code."""
    electrictown = importlib.import_module("electrictown")
    names = {module.name for module in walk_packages(electrictown.__path__, "electrictown.")}
    tops = packages_distributions()
    names |= {name for name in tops if name.isidentifier() and not _VENV.intersection(tops[name])}
    faults: list[str] = []
    for name in sorted(names):
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever stops an import is what we are here to tell
            faults.append(f"{name}: {type(error).__name__}: {error}")
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
