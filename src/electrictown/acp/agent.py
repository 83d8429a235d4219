"""Agents that speak the Agent Client Protocol, as the engine knows agents."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from electrictown.acp.changes import changes_since, snapshot
from electrictown.acp.client import Client
from electrictown.acp.gate import Gate
from electrictown.acp.settings import AgentSettings
from electrictown.acp.turn import Turn, usage_of
from electrictown.engine.agents import AgentReply, Consent
from electrictown.errors import AgentMissingError
from electrictown.events import Emit, Noted
from electrictown.journal.through import in_thread, through
from electrictown.redact import Secret

__all__ = ["AcpAgent", "AcpEngagement"]


class AcpAgent:
    """An agent that is a program of its own. Each engagement is a process of it."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._settings.name

    def check(self) -> None:
        """See to it that its program is there.

        Raises:
            AgentMissingError: when it is not.
        """
        self._program()

    def _program(self) -> str:
        """Where its program is, whatever folder it is started in."""
        settings = self._settings
        program = settings.command[0]
        path = settings.environ.get("PATH", os.defpath)
        found = shutil.which(program, path=path.reveal() if isinstance(path, Secret) else path)
        if found is None:
            where = "" if "/" in program else " in PATH"
            raise AgentMissingError(
                f"{settings.shown}: there is no program {program!r}{where}",
                settings.install or "install it, or correct the agent's command",
            )
        return str(Path(found).absolute())

    def engage(
        self, folder: Path, *, consent: Consent | None = None, resume: str = "", model: str = ""
    ) -> AbstractAsyncContextManager[AcpEngagement]:
        """Start it for the work in `folder`: see `engine.agents.Agent`."""
        return self._engaged(folder, consent, resume, model or self._settings.model)

    @asynccontextmanager
    async def _engaged(
        self, folder: Path, consent: Consent | None, resume: str, model: str
    ) -> AsyncGenerator[AcpEngagement]:
        settings = replace(self._settings, command=(self._program(), *self._settings.command[1:]))
        place = await asyncio.to_thread(folder.resolve)
        gate = Gate(settings.shown, place, settings.permissions, consent)
        client = Client(settings, place, gate)
        try:
            await client.begin(resume, model)
            yield AcpEngagement(client, place)
        finally:
            await through(asyncio.ensure_future(client.aclose()))


class AcpEngagement:
    """A session with an agent's program, in `folder`; made by `AcpAgent.engage`. One turn at a time."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._busy = asyncio.Lock()

    @property
    def id(self) -> str:
        """What the agent calls it; "" where it cannot take it up again."""
        return self._client.id

    @property
    def model(self) -> str:
        """The model that answers, "" where the agent does not say."""
        return self._client.model

    @property
    def models(self) -> tuple[str, ...]:
        """The models that can be chosen."""
        return self._client.models

    async def use(self, model: str) -> str:
        """Have `model` answer from now on; its name.

        Raises:
            AgentError: when the agent has no such model, or no choice.
        """
        async with self._busy:
            return await self._client.use(model)

    async def ask(self, text: str, emit: Emit) -> AgentReply:
        """What the agent makes of `text`: see `engine.agents.Engagement`. What it does is told in notes."""
        client, folder = self._client, self._folder
        async with self._busy:
            while client.notes:
                emit(Noted(text=client.notes.pop(0), level="warning"))
            before = await in_thread(lambda: snapshot(folder))
            turn = Turn(emit, folder, client.ledger)
            end = await client.prompt(text, turn)
            changes = await in_thread(lambda: changes_since(folder, before))
        usage, model = usage_of(end)
        return AgentReply(
            text=turn.text,
            files=changes.files,
            deleted=changes.deleted,
            left=changes.left,
            model=model or client.model,
            usage=usage,
            usd=client.ledger.turn(),
            stopped="" if end.stop_reason == "end_turn" else end.stop_reason,
        )
