"""How a session's own program is launched: found fit before, started with its name alone, told the rest
over its inbox.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from electrictown.errors import SessionEndedError
from electrictown.sessions.inbox import connected
from electrictown.sessions.launching import Command
from electrictown.sessions.messages import Begin, Okay
from electrictown.sessions.records import Record
from electrictown.sessions.registry import MARK

if TYPE_CHECKING:
    pass

__all__ = ["TownAdapter"]

_PASSED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "USER",
    "SHELL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "COLORTERM",
)
"""Of the environment, what the program may have in its own; all else comes over the inbox."""

_LOOK = 0.02


class TownAdapter:
    """A conversation with a role of the town, or with an agent of others.

    `state` is the folder where et keeps its state, `environ` all that the session may know, its keys too;
    `config` is the file (None: what is found on this machine), `prompt` the first message. `resume` goes
    on with a session that has ended; `budget` is what was said of one on the command line.
    """

    def __init__(
        self,
        state: Path,
        environ: Mapping[str, str],
        *,
        config: Path | None = None,
        prompt: bytes | None = None,
        resume: bool = False,
        budget: str | None = None,
    ) -> None:
        self._state = state
        self._begin = Begin(
            environ=dict(environ),
            config=str(config.absolute()) if config is not None else None,
            prompt=prompt,
            resume=resume,
            budget=budget,
        )

    @property
    def name(self) -> str:
        """What it is called."""
        return "et"

    def resolve_config(self, record: Record) -> None:
        """See to it that the file, the role and the agent are there, and the agent's program too.

        Raises:
            ConfigError, UsageError, AgentMissingError: for what is not.
        """
        from electrictown.pane.casting import check

        check(record, self._begin)

    def provision_hooks(self, record: Record, folder: Path) -> None:
        """Nothing: the session's program makes its own files."""

    def build_command(self, record: Record) -> Command:
        """The program, with nothing but the session's name and the folder of its files."""
        environ = {name: value for name, value in os.environ.items() if name in _PASSED}
        # It is this very et, whether it was installed or comes as one file.
        environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        environ[MARK] = record.mark
        # -P: the folder it works in may hold files that a model wrote, and none of them is imported.
        arguments = (sys.executable, "-P", "-m", "electrictown.pane", record.name, str(self._state))
        return Command(arguments, environ)

    async def readiness(self, record: Record) -> None:
        """Tell the program what it is to work with, as soon as it listens; return when it is ready.

        Raises:
            ElectrictownError: why it cannot work.
        """
        folder = self._state / "sessions" / record.name
        while True:
            try:
                async with connected(record.name, folder) as line:
                    await line.ask(self._begin, Okay)
                    return
            except SessionEndedError:  # it does not listen yet; if it has ended, whoever waits will know
                await asyncio.sleep(_LOOK)
