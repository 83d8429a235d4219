"""Our side of the Agent Client Protocol: a program that is started, met, asked, cancelled and left."""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from electrictown.acp.gate import Gate
from electrictown.acp.jsonrpc import Peer, RpcError
from electrictown.acp.program import Program
from electrictown.acp.protocol import VERSION, ConfigOption, Initialized, Opened, PromptEnd, Update
from electrictown.acp.settings import MARK, AgentSettings
from electrictown.acp.turn import Ledger, Turn, one_line
from electrictown.errors import AgentError, AgentMissingError, AuthError, ElectrictownError, RateLimitError
from electrictown.journal.through import through
from electrictown.redact import Secret, mask

__all__ = ["Client"]

_LETTING_GO: Final = 15.0
"""Seconds an agent has to end a turn that is cancelled; then its program is ended."""
_LOGIN_NEEDED: Final = -32000
_TOO_MANY: Final = re.compile(r"\b429\b|rate.?limit|too many requests|resource.?exhausted", re.I)


class Client:
    """A program in `folder` and one session with it; `gate` answers what it asks. Ended by `aclose`.

    `id` is the session's where it can be taken up again, `model` the one that answers, `models` those that
    can be chosen, as far as the agent tells. `notes` are what a person should know of the beginning.
    """

    def __init__(self, settings: AgentSettings, folder: Path, gate: Gate) -> None:
        self.id = ""
        self.model = ""
        self.models: tuple[str, ...] = ()
        self.ledger = Ledger(fresh=True)
        self.notes: list[str] = []
        self._settings = settings
        self._folder = folder
        self._gate = gate
        self._program = Program(settings.shown, self._hear, self._lose)
        self._peer = Peer(self._program, gate.answer, self._update, self._program.note)
        self._hello = Initialized(VERSION)
        self._session = ""
        self._model_option = ""
        self._turn: Turn | None = None

    # --- beginning and end

    async def begin(self, resume: str, model: str) -> None:
        """Start the program, and a session with it or the one called `resume`; have `model` answer.

        Raises:
            AgentMissingError: when the program is no agent.
            AgentError, AuthError: when it does not start, or wants a login.
        """
        settings = self._settings
        environ = {n: v.reveal() if isinstance(v, Secret) else v for n, v in settings.environ.items()}
        environ.pop(MARK, None)
        if MARK in os.environ:
            environ[MARK] = os.environ[MARK]
        await self._program.start(settings.command, self._folder, environ)
        try:
            async with asyncio.timeout(settings.start):
                await self._initialize()
                await self._open(resume)
                if settings.mode:
                    await self._call(
                        "session/set_mode", {"sessionId": self._session, "modeId": settings.mode}
                    )
                if model:
                    await self.use(model)
        except TimeoutError:
            words = self._program.last_words
            raise AgentError(
                f"{settings.shown} was not ready after {settings.start:g} s"
                + (f": {words}" if words else ""),
                f"{self._doubt}, and is it logged in?",
            ) from None

    @property
    def _doubt(self) -> str:
        return f"is `{' '.join(self._settings.command)}` how it speaks the Agent Client Protocol"

    async def _initialize(self) -> None:
        # Files are on this machine: agents read them for themselves. One that is offered to read through us
        # (gemini-cli 0.61) takes the error for a file that is not there for a failure, and makes no new ones.
        offer = {
            "protocolVersion": VERSION,
            "clientCapabilities": {
                "fs": {"readTextFile": False, "writeTextFile": True},
                "terminal": False,
            },
            "clientInfo": {"name": "electrictown", "title": "electrictown", "version": _version()},
        }
        try:
            self._hello = await self._call("initialize", offer, Initialized)
        except AgentError as error:
            raise AgentMissingError(error.message, f"{self._doubt}?") from None
        if self._hello.protocol_version != VERSION:
            raise AgentMissingError(
                f"{self._settings.shown} speaks version {self._hello.protocol_version} of the Agent Client "
                f"Protocol, and we speak version {VERSION}",
                "use another version of the agent",
            )

    async def _open(self, resume: str) -> None:
        place: dict[str, object] = {"cwd": str(self._folder), "mcpServers": []}
        can = self._hello.agent_capabilities
        offered = {
            "session/resume": bool(can and "resume" in (can.session_capabilities or ())),
            "session/load": bool(can and can.load_session),
        }
        ways = [way for way, there in offered.items() if there]
        why = "it cannot take up earlier work"
        for way in ways if resume else ():
            try:
                opened = await self._peer.call(way, {"sessionId": resume, **place}, Opened)
            except RpcError as error:
                if error.code == _LOGIN_NEEDED:
                    raise self._error(error) from None
                why = _message(error)
                continue
            self.ledger = Ledger(fresh=False)
            self._opened(resume, opened, resumable=True)
            return
        if resume:
            self.notes.append(f"{self._settings.shown} begins anew and remembers nothing: {why}")
        opened = await self._call("session/new", place, Opened)
        self._opened(opened.session_id, opened, resumable=bool(ways))

    def _opened(self, session: str, opened: Opened, *, resumable: bool) -> None:
        self._session = session
        self.id = session if resumable else ""
        if opened.models is not None:
            self.model = opened.models.current_model_id or ""
            self.models = tuple(
                each.model_id for each in opened.models.available_models or () if each.model_id
            )
        self._chosen(opened.config_options)

    def _chosen(self, options: list[ConfigOption] | None) -> None:
        for option in options or ():
            if option.category == "model":
                self._model_option = option.id
                self.models = option.values
                self.model = option.current_value if isinstance(option.current_value, str) else ""
                return

    async def use(self, model: str) -> str:
        """Have `model` answer from now on; its name.

        Raises:
            AgentError: when the agent has no such model, or no choice.
        """
        try:
            if self._model_option:
                choice = {"sessionId": self._session, "configId": self._model_option, "value": model}
                await self._peer.call("session/set_config_option", choice, object)
            else:
                choice = {"sessionId": self._session, "modelId": model}
                await self._peer.call("session/set_model", choice, object)
        except RpcError as error:
            hint = f"it has {', '.join(self.models)}" if self.models else "it offers no choice of models"
            raise AgentError(
                f"{self._settings.shown} does not use {model}: {_message(error)}", hint
            ) from None
        self.model = model
        return model

    async def aclose(self) -> None:
        """End the program with all that it started."""
        self._gate.close()
        try:
            await self._program.aclose()
        finally:
            await self._peer.aclose()

    # --- a turn

    async def prompt(self, text: str, turn: Turn) -> PromptEnd:
        """Say `text`; what is told until the end goes to `turn`. Cancelled, the agent has let go of it.

        Raises:
            AgentError, AuthError, RateLimitError: when it cannot work.
        """
        self._turn = turn
        self._gate.open(turn)
        said = {"sessionId": self._session, "prompt": [{"type": "text", "text": text}]}
        prompt = asyncio.ensure_future(self._call("session/prompt", said, PromptEnd))
        try:
            while not prompt.done():
                await asyncio.wait((prompt,), timeout=self._patience())
        except BaseException:
            await through(asyncio.ensure_future(self._let_go(prompt)))
            raise
        finally:
            self._gate.close()
            self._turn = None
        return prompt.result()

    def _patience(self) -> float:
        """Seconds that it may still be silent."""
        settings = self._settings
        left = settings.silence - (time.monotonic() - max(self._peer.heard, self._gate.waited))
        if left <= 0:
            raise AgentError(
                f"{settings.shown} was silent for {settings.silence:g} s",
                "its model may be out of reach, or refuse it for now: agents try again without a word",
            )
        return left

    async def _let_go(self, prompt: asyncio.Future[PromptEnd]) -> None:
        """Cancel the turn and wait for its end; a program that does not end it is ended itself."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LETTING_GO):
                await self._peer.tell("session/cancel", {"sessionId": self._session})
                self._gate.close()  # after it: what is still asked is answered "cancelled", as it must be
                await asyncio.wait((prompt,))
        if not prompt.done():
            self._lose(AgentError(f"{self._settings.shown} did not stop when it was told to, and was ended"))
            self._program.release()
            await asyncio.wait((prompt,))
        if not prompt.cancelled():
            prompt.exception()  # how a turn ends that nobody waits for is no news

    # --- the wire

    def _hear(self, data: bytes) -> None:
        self._peer.feed(data)

    def _lose(self, why: AgentError) -> None:
        self._peer.lose(why)
        self._gate.close()

    def _update(self, method: str, params: bytes) -> None:
        """Take a notification; what is told before a turn, or after its end, is no part of it."""
        if method != "session/update":
            return
        try:
            told = msgspec.json.decode(params, type=Update)
            if self._turn is not None and self._peer.waits and told.session_id == self._session:
                self._turn.hear(told.update)
        except msgspec.DecodeError:
            self._program.note(params)

    async def _call(self, method: str, params: object, of: Any = object) -> Any:  # noqa: ANN401
        try:
            return await self._peer.call(method, params, of)
        except RpcError as error:
            raise self._error(error) from None
        except AgentError as error:
            raise type(error)(f"{self._settings.shown}: {error.message}", error.hint) from None

    def _error(self, error: RpcError) -> ElectrictownError:
        name, message = self._settings.shown, _message(error)
        if error.code in (_LOGIN_NEEDED, 401, 403):
            ways = ", ".join(filter(None, (way.name or way.id for way in self._hello.auth_methods or ())))
            hint = self._settings.login or "log in with the agent's own program"
            return AuthError(f"{name}: {message}", hint + (f" (it offers: {ways})" if ways else ""))
        if error.code == 429 or _TOO_MANY.search(message):
            return RateLimitError(f"{name}: {message}")
        return AgentError(f"{name}: {message}")


def _version() -> str:
    try:
        from electrictown._version import __version__
    except ImportError:  # a checkout that was never installed
        return "0"
    return __version__


def _message(error: RpcError) -> str:
    """What an error reply says: gemini-cli puts a vendor's JSON into the message, others all into `data`."""
    message = error.message
    for text, path in ((message, ("error", "message")), (error.data, ("details",))):
        with suppress(msgspec.DecodeError, KeyError, TypeError):
            found: Any = msgspec.json.decode(text)
            for key in path:
                found = found[key]
            message = str(found)
    return mask(one_line(message, 600)) or f"error {error.code}"
