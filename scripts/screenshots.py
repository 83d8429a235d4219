"""docs/run.svg and docs/report.svg: the terminal during and after a real run of examples/rehearsal.

`python -m scripts.screenshots` runs `et` on a terminal of its own, takes down what it draws, and writes
both pictures with rich.
"""

from __future__ import annotations

import codecs
import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from contextlib import suppress
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

__all__ = ["Screen", "record", "svg"]

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 100, 40
CONFIG = "examples/rehearsal/electrictown.yaml"
TASK = "write a word counter"
COMMAND = f'et run --config {CONFIG} --output-dir out "{TASK}"'

_CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)|(.)", re.DOTALL)


class Screen:
    """The few things of a terminal that the live view uses: lines, colours, up, erase."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = 0

    def feed(self, text: str) -> None:
        """Take in what a program wrote."""
        for found in _CONTROL.finditer(text):
            numbers, command, move, plain, _ = found.groups()
            if command == "A":
                self._row = max(0, self._row - int(numbers or 1))
            elif command == "K":
                self.lines[self._row] = ""
            elif command == "m":
                self.lines[self._row] += found[0]
            elif move == "\n":
                self._row += 1
                self.lines += [""] * (self._row + 1 - len(self.lines))
            elif plain:
                self.lines[self._row] += plain

    @property
    def text(self) -> str:
        """What stands on the screen, with its colours."""
        return "\n".join(self.lines).rstrip()


def record(output_dir: Path, task: str = TASK) -> list[str]:
    """The screens of a run, each as it stood after one piece of output; the last is the finished one."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", COLUMNS=str(WIDTH), LINES=str(HEIGHT))
        os.environ.pop("NO_COLOR", None)
        os.chdir(ROOT)
        arguments = ["run", "--config", CONFIG, "--output-dir", str(output_dir), task]
        code = f"import sys; from electrictown.cli.main import main; sys.argv[1:] = {arguments!r}; main()"
        os.execv(sys.executable, [sys.executable, "-c", code])  # noqa: S606  (this very interpreter)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    screen, screens = Screen(), list[str]()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with suppress(OSError):  # a terminal whose program has ended says so with an error
        while piece := os.read(terminal, 1 << 16):
            screen.feed(decoder.decode(piece))
            screens.append(screen.text)
    os.close(terminal)
    os.waitpid(process, 0)
    return screens


def svg(screen: str, name: str, command: str = COMMAND, width: int = WIDTH) -> str:
    """A picture of a screen below the command that led to it."""
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.assemble(("$ ", "bold green"), command))
    console.print(Text.from_ansi(screen))
    # No font is fetched: the reader's own will do.
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="electrictown", theme=MONOKAI, code_format=form, unique_id=name)


def main() -> None:
    """Write both pictures."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        screens = record(Path(folder) / "out")
    busy = [s for s in screens if "wrote wordcount.py" in s and "wrote cli.py" not in s]
    (ROOT / "docs" / "run.svg").write_text(svg(busy[-1], "run"))
    (ROOT / "docs" / "report.svg").write_text(svg(screens[-1], "report"))


if __name__ == "__main__":
    main()
