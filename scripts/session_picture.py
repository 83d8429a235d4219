"""docs/session.svg: the screen of a real session, which converses with a scripted model.

`python -m scripts.session_picture` starts a session in a tmux of its own, types to it, takes down what
tmux shows, and writes the picture with rich. Nothing is left running.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.screenshots import ROOT, svg

__all__ = ["Stage"]

WIDTH, HEIGHT = 92, 30
CONFIG = """\
providers: {stage: {type: scripted, script: stage.yaml}}
models: {qwen3-coder: {provider: stage, model: qwen3-coder, price: {input: 0.4, output: 1.6}}}
roles: {polecat: {model: qwen3-coder}}
"""
FIRST, SECOND = "write a word counter", "and what of an empty text?"
STAGE = """\
- text: |-
    `Counter` does most of it:

    ```python
    from collections import Counter


    def count_words(text: str) -> Counter[str]:
        return Counter(text.lower().split())
    ```

    A word is what stands between white space, in lower case.
- text: |-
    `"".split()` is an empty list, so the counter is empty too. There is no special case.
- {pace: 4, text: "Yes: `counter.most_common(10)` has them, the most frequent first, and it is fast enough"}
"""


class Stage:
    """A folder with a configuration, a home, and a tmux server of its own; ended when it is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environ = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            **{"HOME": str(folder), "TMUX_TMPDIR": str(folder), "XDG_STATE_HOME": str(folder / "state")},
            **{"TERM": "xterm-256color", "PYTHONPATH": str(ROOT / "src")},
        }
        (folder / "electrictown.yaml").write_text(CONFIG)
        (folder / "stage.yaml").write_text(STAGE)
        self._name = ""

    def __enter__(self) -> Stage:
        self._name = self._et("spawn", "--backend", "tmux", FIRST).strip()
        self._tmux("resize-window", "-t", f"={self._name}:", "-x", str(WIDTH), "-y", str(HEIGHT))
        self._et("wait", self._name)
        return self

    def __exit__(self, *_: object) -> None:
        self._et("kill", self._name)

    def type(self, text: str) -> None:
        """Type `text`, and press Enter."""
        self._tmux("send-keys", "-t", f"={self._name}:", "-l", "--", text)
        self._tmux("send-keys", "-t", f"={self._name}:", "Enter")

    def screen(self) -> str:
        """What stands on the screen, with its colours."""
        return self._tmux("capture-pane", "-p", "-e", "-t", f"={self._name}:").rstrip()

    def sees(self, *texts: str) -> str:
        """The screen, as soon as all of `texts` are on it."""
        return _until(self.screen, lambda shown: all(text in shown for text in texts))

    def _et(self, *arguments: str) -> str:
        return self._run(sys.executable, "-m", "electrictown", "session", *arguments)

    def _tmux(self, *arguments: str) -> str:
        return self._run("tmux", *arguments)

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self._folder, env=self._environ, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout


def _until(look: Callable[[], str], right: Callable[[str], bool]) -> str:
    while not right(shown := look()):
        time.sleep(0.05)
    return shown


def main() -> None:
    """Write the picture."""
    with TemporaryDirectory() as folder, Stage(Path(folder)) as stage:
        stage.sees("lower case", "waiting for input")
        stage.type(SECOND)
        stage.sees("no special case", "waiting for input")
        stage.type("can it give the ten most frequent ones?")
        shown = stage.sees("most_common(10)` has them, the most", "working")
    shown = "\n".join(row for row in shown.split("\n") if "config: " not in row)  # a folder of this machine's
    picture = svg(shown, "session", f'et session spawn --attach "{FIRST}"', WIDTH)
    (ROOT / "docs" / "session.svg").write_text(picture)


if __name__ == "__main__":
    main()
