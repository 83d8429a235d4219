"""A provider that is reached over HTTP: one wire, one address, one set of credentials."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from electrictown.errors import AuthError, BadReplyError, BadRequestError, ProviderError
from electrictown.llm.mends import Mends
from electrictown.llm.messages import ChatRequest, ChatResponse, Model, without_opaque
from electrictown.llm.provider import Node, ProviderSettings
from electrictown.llm.reply_stream import ReplyStream, as_utf8
from electrictown.llm.wire.base import HttpCall, Wire
from electrictown.redact import Secret, mask

if TYPE_CHECKING:
    from electrictown.llm.answer import Answer
    from electrictown.llm.transport import Destination, Transport

__all__ = ["HttpProvider"]

_SENSITIVE = re.compile(r"auth|key|token|secret|cookie|password", re.I)
_ERROR_BODY = 1 << 20  # bytes of an error's explanation that are worth reading
_PAGES = 200
_DESTINATIONS = 256


class HttpProvider:
    """An endpoint on the network: asks, decodes, and says whose error it was.

    `base_url` has no slash at its end; a query in it goes to every request. `credentials` gives the
    headers that open the door, or raises AuthError; it is asked at the first request.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        wire: Wire,
        base_url: str,
        credentials: Callable[[], Mapping[str, str]],
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.wire = wire
        self.base_url, _, self._query = base_url.partition("?")
        self._credentials = credentials
        for name, value in settings.headers.items():
            if _SENSITIVE.search(name):
                Secret(value.split(" ")[-1])  # made only to be known: errors that repeat it are masked
        self._mends = Mends()
        self._destinations: dict[object, Destination] = {}
        self._transport: Transport | None = None
        self._windows: dict[str, int | None] | None = None

    # --- the contract

    async def chat_completion(self, request: ChatRequest) -> ChatResponse:
        """The whole reply to `request`; see `Provider`."""
        answer, notes = await self.ask(request, stream=False)
        try:
            response = self.wire.decode(as_utf8(await answer.read_all()))
            return self.accepted(request, response, notes)
        except ProviderError as error:
            failure = self.told(error, request.model)
        finally:
            answer.close()
        raise failure

    def stream_chat_completion(self, request: ChatRequest) -> ReplyStream:
        """The reply in pieces; see `Provider`. What it yields also has `usage` and `partial()`."""
        return ReplyStream(self, request)

    async def list_models(self) -> list[Model]:
        """All models on offer, every page; see `Provider`."""
        models: dict[str, Model] = {}
        call: HttpCall | None = self.wire.list_models()
        asked: set[str] = set()
        while call is not None:
            if call.path in asked or len(asked) >= _PAGES:
                error = BadReplyError(f"the list of models does not end (page {len(asked) + 1})")
                raise self.told(error)
            asked.add(call.path)
            body = await self.fetch(call)
            try:
                page = self.wire.decode_models(body)
            except ProviderError as error:
                failure = self.told(error)
            else:
                models.update((model.id, model) for model in page.models)
                call = page.next
                continue
            raise failure
        return list(models.values())

    async def inspect(self) -> Node:
        """What the host says of itself; see `Inspectable`."""
        return Node(models=tuple(model.id for model in await self.list_models()))

    async def context_window(self, model: str) -> int | None:
        """The context window in tokens that the list of models gives for `model`, read once."""
        if self._windows is None:
            self._windows = {m.id: m.context_window for m in await self.list_models()}
        return self._windows.get(model)

    async def aclose(self) -> None:
        """Gives the connections back."""
        transport, self._transport = self._transport, None
        if transport is not None and not transport.loop.is_closed():
            await transport.release()

    # --- one request

    async def ask(self, request: ChatRequest, *, stream: bool) -> tuple[Answer, tuple[str, ...]]:
        """The answer to `request` once it is a good one, and notes of what had to be left out.

        A refused parameter mends the request, which is then sent again; nothing else is repeated. Where the
        request is `capped`, its limit is no such parameter.

        Raises:
            ProviderError: no answer, or an error for an answer.
        """
        model = request.model
        notes: tuple[str, ...] = ()
        try:
            seen = without_opaque(request.messages, self.name)
            if seen is not request.messages:
                request = replace(request, messages=seen)
            call = self.wire.encode(request, stream=stream)
            body = self._mends.apply(model, call.body, capped=request.capped)
            while True:
                answer = await self._send(call, body)
                if answer.status < 300:
                    return answer, notes
                error = await self._refusal(answer)
                mended = None
                if error.param and isinstance(error, BadRequestError):
                    mended = self._mends.learn(model, error.param, body, capped=request.capped)
                    if mended is None and request.capped:
                        error = self._mends.unlimited(model, error)
                if mended is None:
                    raise error
                body, note = mended
                notes = (*notes, note)
        except ProviderError as error:
            failure = self.told(error, model)
        raise failure

    async def fetch(self, call: HttpCall) -> bytes:
        """The body that answers a call which is not a chat.

        Raises:
            ProviderError: no answer, or an error for an answer.
        """
        try:
            answer = await self._send(call, call.body)
            try:
                if answer.status >= 300:
                    raise await self._refusal(answer)
                return as_utf8(await answer.read_all())
            finally:
                answer.close()
        except ProviderError as error:
            failure = self.told(error)
        raise failure

    def accepted(self, request: ChatRequest, response: ChatResponse, notes: tuple[str, ...]) -> ChatResponse:
        """`response` as this provider vouches for it; a place for what only a host can notice.

        Raises:
            ProviderError: when the reply answers something else than `request`.
        """
        if not notes and response.provider == self.name:  # as the wire stamped it
            return response
        return replace(response, provider=self.name, notes=(*response.notes, *notes))

    def told(self, error: ProviderError, model: str = "") -> ProviderError:
        """`error` with what the endpoint knows: who was asked, and which key to look at."""
        error.provider = error.provider or self.name
        error.model = error.model or model
        if isinstance(error, AuthError) and error.status:
            error.hint = self._key_hint(error.status)
        error.message = mask(error.message)
        error.hint = mask(error.hint)
        error.args = (error.message,)
        return error

    def _key_hint(self, status: int) -> str:
        source = self.settings.api_key_source
        variable = source.removeprefix("$").strip("{}") if source.startswith("$") else source
        remedy = f"set {variable} to a valid key" if variable else f"set api_key of provider {self.name!r}"
        return f"{remedy}; provider {self.name!r} answered {status}"

    async def _send(self, call: HttpCall, body: bytes) -> Answer:
        transport = self._transport
        if transport is None or transport.loop is not asyncio.get_running_loop():
            transport = await self._connect()
        key = (call.method, call.path, *call.headers.items()) if call.headers else (call.method, call.path)
        to = self._destinations.get(key)
        if to is None:
            to = self._destination(call)
            if len(self._destinations) >= _DESTINATIONS:
                self._destinations.clear()
            self._destinations[key] = to
        return await transport.send(to, body)

    async def _connect(self) -> Transport:
        from electrictown.llm.certificates import read_when_needed

        with read_when_needed():
            from electrictown.llm.transport import acquire

        self._transport = await acquire()
        return self._transport

    def _destination(self, call: HttpCall) -> Destination:
        from electrictown.llm.transport import destination

        headers = {
            "accept": "*/*",
            "accept-encoding": "gzip, deflate",
            "content-type": "application/json",
            "user-agent": "electrictown",
        }
        # In this order, so that what a user wrote wins; lower case, so that it can.
        for more in (call.headers, self._credentials(), self.settings.headers):
            headers.update((name.lower(), value) for name, value in more.items())
        url = self.base_url + call.path
        if self._query:
            url += ("&" if "?" in url else "?") + self._query
        return destination(call.method, url, headers, self.settings.timeouts)

    async def _refusal(self, answer: Answer) -> ProviderError:
        """The error that an answer with a bad status means."""
        headers = answer.headers
        from email.utils import formatdate

        headers.setdefault("date", formatdate(usegmt=True))  # wires have no clock
        try:
            body = await answer.read_all(_ERROR_BODY)
        except ProviderError:
            body = b""  # the status alone says enough
        finally:
            answer.close()
        if answer.status < 400:
            where = headers.get("location", "nowhere").partition("?")[0]
            return BadReplyError(
                f"{self.base_url} redirects to {where}",
                "redirects are not followed, because the key would go along: correct base_url",
                status=answer.status,
            )
        return self.wire.error(answer.status, headers, as_utf8(body))
