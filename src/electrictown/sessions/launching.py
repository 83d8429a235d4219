"""The contracts of launching: what runs (an adapter), where (an executor), and what comes of it.

Another program launches agents with these three:

    launcher = SessionLauncher(registry, TmuxExecutor(socket="mine"))
    record = await launcher.launch(adapter, role="polecat", folder=Path("/srv/project"))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from electrictown.sessions.records import BackendName, Record

__all__ = ["Command", "Executor", "Pane", "ProviderAdapter"]


class Command(Struct, frozen=True):
    """A program to start: its arguments, each exactly as it stands, and all of its environment.

    The environment is seen by whoever may look at the process: it holds no secret.
    """

    arguments: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict[str, str])


class Pane(Struct, frozen=True, omit_defaults=True):
    """Where a session runs, as its backend says: `pid` of the program, whether somebody is `attached`."""

    name: str
    pid: int = 0
    attached: bool = False
    created: float = 0.0


class ProviderAdapter(Protocol):
    """One kind of agent: how it is set up, started, and known to be ready."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def resolve_config(self, record: Record) -> None:
        """See to it that all it needs is there, before anything is started.

        Raises:
            ConfigError, AgentMissingError: for what is not.
        """
        ...

    def provision_hooks(self, record: Record, folder: Path) -> None:
        """Put into `folder`, the session's own, what the program is to find there. Nothing outside it.

        Raises:
            SessionError: when it cannot be written.
        """
        ...

    def build_command(self, record: Record) -> Command:
        """The program that is the agent."""
        ...

    async def readiness(self, record: Record) -> None:
        """Return as soon as the agent is ready.

        Cancelled when the program ends before; who waits limits the time.

        Raises:
            ElectrictownError: when it says that it cannot work.
        """
        ...


class Executor(Protocol):
    """Where programs run, and how a person gets to see them. All targets are exact names."""

    @property
    def backend(self) -> BackendName:
        """What it is."""
        ...

    @property
    def socket(self) -> str:
        """The tmux server it speaks to, as in `Record.socket`."""
        ...

    async def launch(self, name: str, command: Command, folder: Path, log: Path) -> None:
        """Start `command` in `folder` under `name`, and return as soon as it runs.

        Its environment is `command.environ` and what a terminal needs, nothing else; what it says beside
        a terminal goes to the file `log`.

        Raises:
            SessionError: when it cannot be started, or the name is taken.
        """
        ...

    async def settle(self, name: str) -> None:
        """The program is ready: from now on, what is shown of it goes when it ends."""
        ...

    async def screen(self, name: str) -> str:
        """What the program says now, as plain lines; of one that ended before `settle`, what it said last.

        "" where nothing can be seen of it.
        """
        ...

    async def panes(self) -> dict[str, Pane]:
        """What runs now under names like ours, whoever started it.

        Raises:
            SessionError: when it cannot be found out.
        """
        ...

    def attach_command(self, name: str) -> tuple[str, ...]:
        """The program that shows the session to a person; () where there is nothing to be seen."""
        ...

    async def close(self, name: str, mark: str = "") -> None:
        """Close what is left of `name` when its program has ended. Nothing there is no error.

        With `mark`, only what was launched with this mark: another user of et may have the name, too.
        """
        ...
