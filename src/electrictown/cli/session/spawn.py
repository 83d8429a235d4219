"""`et session spawn`: start a session, or go on with one that has ended."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict, Unpack, get_args

import click
from msgspec.structs import replace

from electrictown.cli.journals import json_option
from electrictown.cli.session.attach import attach, check_terminal
from electrictown.cli.session.common import entry, registry, row_of, socket_option, state
from electrictown.cli.setup import Folder, GoFlags, config_option, environment
from electrictown.cli.tables import print_json
from electrictown.cli.typed import typed_text
from electrictown.errors import UsageError
from electrictown.sessions.records import BackendName

if TYPE_CHECKING:
    from electrictown.pane.adapter import TownAdapter
    from electrictown.sessions.launching import Executor
    from electrictown.sessions.records import Record
    from electrictown.sessions.registry import Registry

__all__ = ["command"]

_ROLE: Final = "polecat"
_BEGINNING: Final = 200
"""Characters of the first message that the record shows."""


class _Given(TypedDict):
    """What the command line says, by the names of the options below."""

    prompt: tuple[str, ...]
    role: str | None
    folder: Path | None
    config: str | None
    env_file: str | None
    agent: str | None
    backend: BackendName | None
    socket: str
    budget: str | None
    attached: bool
    resume: str | None
    as_json: bool


@click.command("spawn", cls=GoFlags, short_help="Start a session, or go on with one that has ended.")
@click.argument("prompt", nargs=-1)
@click.option("--role", metavar="ROLE", help="The role that answers.  [default: polecat]")
@click.option(
    "--agent",
    metavar="NAME",
    help="An agent of others that answers: gemini, opencode, claude-code, codex, ..., or one of `agents:`.",
)
@click.option(
    "--dir",
    "folder",
    type=Folder(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where it works.  [default: .]",
)
@config_option
@click.option("--env-file", metavar="FILE", help="KEY=VALUE lines to add to the environment.")
@click.option(
    "--budget",
    metavar="AMOUNT",
    help="The most it may spend: 2.50 (US dollars), 500000t (tokens), none.  "
    "[default: the configuration's; $1 without one]",
)
@click.option(
    "--backend",
    type=click.Choice(get_args(BackendName)),
    help="Whose terminal it has; none: it works in the background.  [default: the best that is installed]",
)
@socket_option
@click.option("--attach", "attached", is_flag=True, help="Show it in this terminal at once.")
@click.option("--resume", metavar="NAME", help="Go on with the session NAME, which has ended.")
@json_option
def command(**given: Unpack[_Given]) -> int:
    """Start a session, print its name, and leave it running.

    PROMPT is what it is told first: the text itself, - to read it from stdin, or
    @FILE. Without one it waits for what is typed or sent.

    \b
      et session spawn "port the parser to Rust"
      et session spawn --role mayor --dir ../site @brief.md
      et session spawn --agent gemini --attach
      et session spawn --resume et-polecat-a3f2

    A session that is resumed keeps its role, its agent and its folder, and knows
    all that was said. What it had accepted it answers first, then PROMPT.
    """
    if given["attached"]:
        if given["as_json"]:
            raise UsageError("--json and --attach exclude each other", "choose one")
        check_terminal("--attach")
    text, _ = typed_text(given["prompt"], "prompt")
    sessions = registry()
    record = asyncio.run(_spawned(sessions, text, given))
    if given["as_json"]:
        print_json(entry(asyncio.run(row_of(sessions, record))))
        return 0
    click.echo(record.name)
    if given["attached"]:
        return attach(sessions, record)
    if record.backend == "none" and given["backend"] is None and given["resume"] is None:
        print("it works in the background, since there is no tmux for a terminal of its own", file=sys.stderr)
    print(f"to see it:     et session attach {record.name}", file=sys.stderr)
    print(f'to talk to it: et session send {record.name} "..."', file=sys.stderr)
    return 0


async def _spawned(sessions: Registry, text: str, given: _Given) -> Record:
    """The session that was asked for, ready."""
    from electrictown.console.text import line
    from electrictown.sessions.launcher import SessionLauncher
    from electrictown.sessions.records import Record

    record = _resumable(sessions, given["resume"], given) if given["resume"] is not None else None
    config = _config(given, record)
    adapter = _adapter(text, given, config, resume=record is not None)
    executor = _executor(given, record)
    wanted = (
        replace(record, config=str(config or ""))
        if record
        else Record(
            name="",
            role=given["role"] or given["agent"] or _ROLE,
            backend=executor.backend,
            folder=str((given["folder"] or Path()).absolute()),
            mark="",
            agent=given["agent"] or "",
            config=str(config or ""),
            prompt=line(text, _BEGINNING),
        )
    )
    adapter.resolve_config(wanted)  # before there is a record: what was mistyped is no session that failed
    launcher = SessionLauncher(sessions, executor)
    if record is not None:
        return await launcher.relaunch(wanted, adapter)
    return await launcher.launch(
        adapter,
        role=wanted.role,
        folder=Path(wanted.folder),
        agent=wanted.agent,
        config=wanted.config,
        prompt=wanted.prompt,
    )


def _resumable(sessions: Registry, name: str, given: _Given) -> Record:
    """The record of the session to go on with.

    Raises:
        UsageError: for what a session keeps.
        UnknownSessionError: when there is none.
    """
    kept = {"--role": given["role"], "--agent": given["agent"], "--dir": given["folder"]}
    for option, value in kept.items():
        if value is not None:
            raise UsageError(f"a session that is resumed keeps its {option[2:]}", f"leave out {option}")
    return sessions.find(name)


def _config(given: _Given, record: Record | None) -> Path | None:
    """The configuration: what is named, that of `record`, or what is found; None for what the machine has."""
    from electrictown.config import find_config

    if record is not None and given["config"] is None:
        return Path(record.config) if record.config else None
    found = find_config(given["config"], os.environ)
    return found.absolute() if found else None


def _adapter(text: str, given: _Given, config: Path | None, *, resume: bool) -> TownAdapter:
    """What is started."""
    from electrictown.pane.adapter import TownAdapter

    return TownAdapter(
        state(),
        environment(given["env_file"]),
        config=config,
        prompt=text.encode() if text else None,
        resume=resume,
        budget=given["budget"],
    )


def _executor(given: _Given, record: Record | None = None) -> Executor:
    """Where it runs: what is named, where `record` says, or the best there is."""
    from electrictown.sessions.launcher import choose_backend, executor_of

    wanted = given["backend"] or (record.backend if record else None)
    backend = choose_backend(wanted, os.environ)
    if backend == "none" and given["socket"]:
        raise UsageError(
            "a session without a terminal has no --socket", "leave it out, or take --backend tmux"
        )
    socket = given["socket"] or (record.socket if record and backend != "none" else "")
    return executor_of(backend, socket)
