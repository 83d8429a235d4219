"""What an agent asks of us while it works: leave for what it wants to do, and files to read and write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from electrictown.acp.files import read_text, write_text
from electrictown.acp.jsonrpc import INVALID, NO_METHOD, RpcError
from electrictown.acp.policy import Permissions, decide, place_of
from electrictown.acp.protocol import (
    PermissionOption,
    PermissionRequest,
    ReadRequest,
    ToolCall,
    WriteRequest,
)
from electrictown.acp.turn import Turn
from electrictown.engine.agents import Consent
from electrictown.journal.through import in_thread

__all__ = ["Gate"]

_LONGEST: Final = 4000
"""Characters of the longest question: who cannot read all of it, cannot allow it."""


class Gate:
    """Answers requests by the policy, and asks `consent` where it says so.

    It is open during a turn; outside one nothing is allowed, and what is pending then is "cancelled".
    """

    def __init__(self, name: str, folder: Path, permissions: Permissions, consent: Consent | None) -> None:
        self._name = name
        self._folder = folder
        self._permissions = permissions
        self._consent = consent
        self._turn: Turn | None = None
        self._questions: set[asyncio.Future[bool]] = set()
        self._granted: set[Path] = set()
        self._asked = time.monotonic()
        self._methods: dict[str, Callable[[bytes], Awaitable[object]]] = {
            "session/request_permission": self._permission,
            "fs/read_text_file": self._read,
            "fs/write_text_file": self._write,
        }

    @property
    def waited(self) -> float:
        """When a person was last waited for, by `time.monotonic()`."""
        return time.monotonic() if self._questions else self._asked

    def open(self, turn: Turn) -> None:
        """A turn begins."""
        self._turn = turn
        self._granted.clear()

    def close(self) -> None:
        """The turn is over, or is to be: what is still asked needs no answer any more."""
        self._turn = None
        for question in self._questions:
            question.cancel()

    async def answer(self, method: str, params: bytes) -> object:
        """The answer to a request.

        Raises:
            RpcError: when it is refused, or is none that we know.
        """
        if method not in self._methods:
            raise RpcError(NO_METHOD, f"Method not found: {method}")
        return await self._methods[method](params)

    async def _permission(self, params: bytes) -> object:
        request = msgspec.json.decode(params, type=PermissionRequest)
        turn = self._turn
        if turn is None:
            return _outcome(None)
        call = turn.known(request.tool_call)
        kind = call.kind or "other"
        allowed = await self._leave(kind, call.paths, lambda: self._question(kind, call))
        if allowed is None:
            return _outcome(None)
        if allowed:
            turn.note(call)
            self._granted.update(filter(None, (place_of(path, self._folder) for path in call.paths)))
        else:
            turn.refused(call)
        return _outcome(_choice(request.options, allowed=allowed))

    async def _read(self, params: bytes) -> object:
        request = msgspec.json.decode(params, type=ReadRequest)
        words = f"{self._name} asks leave to read {request.path}"
        if not await self._leave("read", (request.path,), lambda: words):
            raise RpcError(INVALID, f"{request.path} may not be read")
        text = await in_thread(lambda: read_text(request.path, request.line, request.limit))
        return {"content": text}

    async def _write(self, params: bytes) -> object:
        request = msgspec.json.decode(params, type=WriteRequest)
        words = f"{self._name} asks leave to write {request.path}"
        place = place_of(request.path, self._folder)
        if place not in self._granted and not await self._leave("edit", (request.path,), lambda: words):
            raise RpcError(INVALID, f"{request.path} may not be written")
        await in_thread(lambda: write_text(request.path, request.content, self._folder))
        return {}

    async def _leave(self, kind: str, paths: tuple[str, ...], words: Callable[[], str]) -> bool | None:
        """Whether it may be done; None when the turn ended meanwhile."""
        decision = decide(self._permissions, kind, paths, self._folder)
        if self._turn is None:
            return None
        if decision != "ask" or self._consent is None:
            return decision == "allow"
        question = asyncio.ensure_future(self._consent(words()))
        self._questions.add(question)
        try:
            await asyncio.wait((question,))
            return None if question.cancelled() else question.result()
        finally:
            question.cancel()
            self._questions.discard(question)
            self._asked = time.monotonic()

    def _question(self, kind: str, call: ToolCall) -> str:
        """What a person is asked, with the command whole, where there is one."""
        what = call.title or "it does not say what"
        lines = [f"{self._name} asks leave to {_VERBS.get(kind, 'use a tool')}: {what}"]
        more = (call.command, *(path for path in call.paths if Path(path) != self._folder))
        lines += [each for each in more if each and each not in lines[0]]
        words = "\n".join(lines)
        if len(words) > _LONGEST:
            words = f"{words[:_LONGEST]}\n... and {len(words) - _LONGEST} characters more"
        return words


def _outcome(choice: str | None) -> object:
    if choice is None:
        return {"outcome": {"outcome": "cancelled"}}
    return {"outcome": {"outcome": "selected", "optionId": choice}}


def _choice(options: list[PermissionOption], *, allowed: bool) -> str | None:
    """The option that says so this once; for good only where there is no other."""
    for kind in ("allow_once", "allow_always") if allowed else ("reject_once", "reject_always"):
        for option in options:
            if option.kind == kind:
                return option.option_id
    return None


_VERBS: Final = {
    "read": "read",
    "search": "search",
    "think": "think",
    "edit": "write",
    "delete": "delete",
    "move": "move",
    "execute": "run a command",
    "fetch": "fetch from the network",
    "switch_mode": "work in another mode",
}
