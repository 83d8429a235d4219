"""`python -m electrictown.pane NAME FOLDER`: the program that is a session; `et session spawn` starts it."""

from __future__ import annotations

import sys

from electrictown.pane.program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
