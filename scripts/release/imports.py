"""Import electrictown, module by module, and everything beside it; runs inside an installation."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import packages_distributions
from pkgutil import walk_packages

__all__ = ["main"]


def main() -> int:
    """Print what could not be imported; the return value is the exit code."""
    electrictown = importlib.import_module("electrictown")
    names = {module.name for module in walk_packages(electrictown.__path__, "electrictown.")}
    names |= {name for name in packages_distributions() if name.isidentifier()}
    faults: list[str] = []
    for name in sorted(names):
        try:
            importlib.import_module(name)
        except ImportError as error:
            faults.append(f"{name}: {error}")
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
