"""What is typed at a session's screen: messages, and commands, which begin with a slash."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from itertools import count as counting
from pathlib import Path
from typing import Final, TypeAlias

from msgspec import Struct

from electrictown.console.text import bill, count, line
from electrictown.errors import ElectrictownError
from electrictown.pane.controls import Controls
from electrictown.work import Cost

__all__ = ["Command", "Message", "Mistake", "completions", "obey", "parse"]


class Message(Struct, frozen=True):
    """Text for the session's model or agent."""

    text: str


class Command(Struct, frozen=True):
    """A command by its full name, without the slash; `argument` is what follows it."""

    name: str
    argument: str = ""

    @property
    def at_once(self) -> bool:
        """Whether it is for what is going on now, and waits for nothing that was typed before."""
        return self.name in ("interrupt", "allow", "deny", "quit")


class Mistake(Struct, frozen=True):
    """Neither: `why` says what is wrong, and what might have been meant. It goes nowhere."""

    why: str


class _Kind(Struct, frozen=True):
    takes: str
    does: str


_KINDS: Final[Mapping[str, _Kind]] = {
    "model": _Kind("[NAME]", "list the models, or have another one answer"),
    "cost": _Kind("", "what the session has cost so far"),
    "save": _Kind("[FILE]", "write the conversation to a file, as Markdown"),
    "interrupt": _Kind("", "cut the reply that is under way (Ctrl-C)"),
    "allow": _Kind("", "allow what the agent asks leave for (y)"),
    "deny": _Kind("", "deny it (n)"),
    "help": _Kind("", "this list"),
    "quit": _Kind("", "end the session (/exit)"),
}
_OTHER_NAMES: Final[Mapping[str, str]] = {"exit": "quit"}

_HELP: Final = "\n".join(
    [
        "what begins with a slash is a command, with two it is a message",
        *(f"/{f'{name} {kind.takes}':<13} {kind.does}" for name, kind in _KINDS.items()),
        "Alt-Enter: a new line; Tab: completes; Up, Down: what was typed before",
    ]
)


def parse(typed: str) -> Message | Command | Mistake:
    """What `typed` is. A message is exactly what was typed, but for a first slash of two."""
    if not typed.startswith("/"):
        return Message(typed)
    if typed.startswith("//"):
        return Message(typed[1:])
    if "\n" in typed.strip():
        return Mistake("a command is one line; begin with // to say this as a message")
    word, _, argument = typed[1:].strip().partition(" ")
    name = _OTHER_NAMES.get(word.lower(), word.lower())
    kind = _KINDS.get(name)
    if kind is None:
        near = get_close_matches(word.lower(), [*_KINDS, *_OTHER_NAMES], n=1)
        meant = f"did you mean /{near[0]}?" if near else "/help lists the commands, // says it as a message"
        return Mistake(f"there is no command /{line(word, 40)}; {meant}")
    argument = argument.strip()
    if argument and not kind.takes:
        return Mistake(f"/{name} takes nothing more; begin with // to say this as a message")
    return Command(name, argument)


def completions(typed: str, models: Callable[[], tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    """What `typed` can go on to be, each with a word on it: commands, then the names of `models`."""
    word, space, argument = typed.partition(" ")
    if space:
        if word == "/model":
            yield from ((f"/model {name}", "") for name in models() if name.startswith(argument))
    elif word.startswith("/"):
        yield from ((f"/{name}", kind.does) for name, kind in _KINDS.items() if f"/{name}".startswith(word))


async def obey(command: Command, controls: Controls) -> str:
    """Do what `command` says; what is to be told of it ("" for nothing). What fails is told, not raised."""
    try:
        return await _DEEDS[command.name](command.argument, controls)
    except ElectrictownError as error:
        return str(error)


async def _model(argument: str, controls: Controls) -> str:
    if argument:
        await controls.use(argument)  # which is noted, for the log too
        return ""
    names = controls.models()
    return "\n".join(["/model NAME chooses one of:", *names]) if names else "there is no choice of models"


async def _cost(argument: str, controls: Controls) -> str:
    del argument
    costs = controls.costs()
    if not costs.total.requests:
        return "nothing was asked yet: $0"
    rows = [_facts(cost) for cost in (costs.total, *costs.by_model)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            # The name at the left edge of its column, figures at the right one of theirs.
            fact.rjust(width) if number else fact.ljust(width)
            for number, (fact, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _facts(cost: Cost) -> tuple[str, ...]:
    came_in = cost.input + cost.cache_read + cost.cache_write
    return (
        line(cost.name),
        count(cost.requests, "request"),
        f"{came_in:,} in",
        f"{cost.output:,} out",
        bill(cost),
    )


async def _save(argument: str, controls: Controls) -> str:
    text = controls.transcript()
    try:
        path = await asyncio.to_thread(_write, controls.folder, controls.name, argument, text)
    except (OSError, ValueError, RuntimeError) as error:  # of the disk, or of a name that can be none
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"the conversation is not saved: {why}"
    return f"saved to {path}"


def _write(folder: Path, name: str, argument: str, text: str) -> Path:
    """Write `text` to a file that was not there before; its path."""
    wanted = folder / Path(argument).expanduser() if argument else folder
    if wanted.is_dir():
        wanted /= f"{name}.md"
    for number in counting(1):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        with suppress(FileExistsError), path.open("x", encoding="utf-8", errors="replace") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                path.unlink(missing_ok=True)
                raise
            return path
    raise AssertionError  # counting does not end


async def _interrupt(argument: str, controls: Controls) -> str:
    del argument
    return "" if controls.interrupt() else "no reply is under way"


async def _allow(argument: str, controls: Controls) -> str:
    del argument
    return "" if controls.answer(allow=True) else "nothing is asked"


async def _deny(argument: str, controls: Controls) -> str:
    del argument
    return "" if controls.answer(allow=False) else "nothing is asked"


async def _help(argument: str, controls: Controls) -> str:
    del argument, controls
    return _HELP


async def _quit(argument: str, controls: Controls) -> str:
    del argument
    controls.quit()
    return ""


_Deed: TypeAlias = Callable[[str, Controls], Awaitable[str]]
_DEEDS: Final[Mapping[str, _Deed]] = {
    "model": _model,
    "cost": _cost,
    "save": _save,
    "interrupt": _interrupt,
    "allow": _allow,
    "deny": _deny,
    "help": _help,
    "quit": _quit,
}
