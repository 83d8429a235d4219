"""A loopback server that speaks the four wires, does what it is told, and remembers what it received.

    async with FakeServer(reply="42") as server:
        ...  # server.url, server.journal

`reply` is a text, a `Reply`, a list of them (one a request, the last one for ever), or a function of
what was `Seen`. The prefix of a path before the protocol's own ("/a/v1/...") names a host: one server
plays several, and counts what each has in flight.

As a program: `python tests/fakes/fake_server.py --behaviour FILE` prints its URL and serves until it is
terminated. FILE is JSON: {"reply": ..., "rules": [{"contains": "...", "reply": ...}], "models": [...],
"auth": "bearer KEY", "journal": "FILE"}.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import sys
import time
import zlib
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qsl

import msgspec

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.fake_wires import (
    FakeModel,
    Reply,
    Seen,
    Wire,
    error_body,
    error_event,
    models_page,
    ollama_ps,
    ollama_show,
    render,
    render_whole,
)

__all__ = ["Behaviour", "FakeModel", "FakeServer", "Reply", "Seen", "by_prompt"]

Behaviour: TypeAlias = str | Reply | Sequence[str | Reply] | Callable[[Seen], "str | Reply"]

_CHATS: list[tuple[re.Pattern[str], Wire]] = [
    (re.compile(r"(.*?)(?:/v1)?/chat/completions$"), "openai"),
    (re.compile(r"(.*?)(?:/v1)?/responses$"), "responses"),
    (re.compile(r"(.*?)(?:/v1)?/messages$"), "anthropic"),
    (re.compile(r"(.*?)/v1beta/models/[^/]+:(?:generateContent|streamGenerateContent)$"), "gemini"),
    (re.compile(r"(.*?)/api/chat$"), "ollama"),
]
_REASONS = {200: "OK", 302: "Found", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized"}


def by_prompt(rules: Mapping[str, str | Reply], default: str | Reply = "") -> Callable[[Seen], str | Reply]:
    """Answers by what the prompt contains: the first rule that matches, else `default`."""

    def choose(seen: Seen) -> str | Reply:
        return next((reply for text, reply in rules.items() if text in seen.prompt), default)

    return choose


class FakeServer:
    """The server; `async with` starts and stops it.

    `auth` is the one credential that is let in: "bearer KEY", "basic user:password", "x-api-key KEY"
    or "x-goog-api-key KEY"; "" lets everybody in. `page` is the size of a page of models.
    """

    def __init__(
        self,
        reply: Behaviour = "Hello from the fake.",
        *,
        models: Sequence[FakeModel] = (FakeModel(id="fake-model", loaded=True),),
        auth: str = "",
        page: int = 0,
        version: str = "0.99.0",
        port: int = 0,
        remember: bool = True,
    ) -> None:
        self.reply = reply
        self.models = list(models)
        self.auth = auth
        self.page = page
        self.version = version
        self.remember = remember
        self.on_request: Callable[[Seen], None] = lambda seen: None
        self.missing: set[str] = set()
        """Paths that this host does not have."""
        self.lists: bytes | None = None
        """This body instead of every list of models."""
        self.journal: list[Seen] = []
        self.in_flight: Counter[str] = Counter()
        self.max_in_flight: Counter[str] = Counter()
        self.connections: set[_Connection] = set()
        self.accepted = 0
        self._port = port
        self._steps = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self._port, backlog=2048
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()
        await self.until(lambda: not self.connections)
        if self._server is not None:
            await self._server.wait_closed()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """The base of its addresses, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def chats(self) -> list[Seen]:
        """The chat requests among the journal."""
        return [seen for seen in self.journal if wire_of(seen.path) is not None]

    async def until(self, true: Callable[[], bool], seconds: float = 5.0) -> None:
        """Waits for something to become true of this server."""
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.002)

    def next_reply(self, seen: Seen) -> Reply:
        """What `seen` is answered with."""
        reply = self.reply
        if callable(reply):
            reply = reply(seen)
        elif not isinstance(reply, str | Reply):
            reply = reply[min(self._steps, len(reply) - 1)]
            self._steps += 1
        return Reply(text=reply) if isinstance(reply, str) else reply

    def allows(self, headers: Mapping[str, str]) -> bool:
        """Whether a request brings the credential."""
        if not self.auth:
            return True
        kind, _, value = self.auth.partition(" ")
        if kind == "basic":
            value = "Basic " + base64.b64encode(value.encode()).decode()
        elif kind == "bearer":
            value = "Bearer " + value
        return headers.get("authorization" if kind in {"basic", "bearer"} else kind) == value


def wire_of(path: str) -> tuple[Wire, str] | None:
    """The wire a chat path belongs to, and the host in front of it."""
    for pattern, wire in _CHATS:
        if found := pattern.match(path):
            return wire, found[1]
    return None


class _Connection(asyncio.Protocol):
    """One connection: reads requests, plays answers, one after the other."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._seen: Seen | None = None
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._chunked = True
        self._close = False
        self._packer: Any = None

    # --- connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)
        self._server.accepted += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._seen is not None:
            self._seen.aborted = True
            self._over()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def say(self, data: bytes) -> None:
        """Sends bytes that nobody asked for."""
        if self._transport is not None:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._seen is None:
            self._next_request()

    def _next_request(self) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
        size = int(headers.get("content-length", 0))
        if len(rest) < size:
            return
        body, self._buffer = rest[:size], rest[size:]
        method, target, version = lines[0].split(" ")
        if target.startswith("http"):  # we are asked as a proxy
            target = "/" + target.split("/", 3)[3]
        path, _, query = target.partition("?")
        self._close = version == "HTTP/1.0" or headers.get("connection", "").lower() == "close"
        self._chunked = version != "HTTP/1.0"
        try:
            parsed = msgspec.json.decode(body) if body else None
        except msgspec.DecodeError:
            parsed = None
        seen = Seen(
            method=method,
            path=path,
            query=query,
            headers=headers,
            raw=body,
            started=time.monotonic(),
            body=parsed,
        )
        self._answer(seen)

    # --- answers

    def _answer(self, seen: Seen) -> None:
        server = self._server
        self._seen = seen
        if server.remember:
            server.journal.append(seen)
        server.on_request(seen)
        chat = wire_of(seen.path)
        seen.host = chat[1] if chat else ""
        server.in_flight[seen.host] += 1
        server.max_in_flight[seen.host] = max(server.max_in_flight[seen.host], server.in_flight[seen.host])
        if not server.allows(seen.headers):
            wire = chat[0] if chat else _list_wire(seen)
            self._send(401, error_body(wire, 401, Reply(error="invalid credentials", code="invalid_api_key")))
        elif chat is None:
            self._list(seen)
        else:
            reply = server.next_reply(seen)
            if reply.never:
                return
            if reply.latency:
                self._timer = self._loop.call_later(reply.latency, self._chat, chat[0], seen, reply)
            else:
                self._chat(chat[0], seen, reply)

    def _list(self, seen: Seen) -> None:
        """Everything but a chat."""
        server, path = self._server, seen.path
        wire = _list_wire(seen)
        query = dict(parse_qsl(seen.query))
        if path in server.missing:
            self._send(404, b"404 page not found")
        elif path.endswith(("/models", "/api/tags")):
            listed = server.lists
            self._send(
                200, listed if listed is not None else models_page(wire, server.models, query, server.page)
            )
        elif path.endswith("/api/version"):
            self._send(200, msgspec.json.encode({"version": server.version}))
        elif path.endswith("/api/ps"):
            self._send(200, ollama_ps(server.models))
        elif path.endswith("/api/show"):
            name = str((seen.body or {}).get("model"))
            model = next((m for m in server.models if m.id == name), None)
            if model is None:
                self._send(404, error_body("ollama", 404, Reply(error=f"model '{name}' not found")))
            else:
                self._send(200, ollama_show(model))
        else:
            self._send(404, error_body(wire, 404, Reply(error=f"no such path: {path}")))

    def _chat(self, wire: Wire, seen: Seen, reply: Reply) -> None:
        body = seen.body if isinstance(seen.body, dict) else {}
        stream = bool(body.get("stream", wire == "ollama")) or seen.path.endswith(":streamGenerateContent")
        if reply.raw is not None:
            self._write(reply.raw, reply)
            self._end(keep=False)
        elif reply.status != 200:
            content = error_body(wire, reply.status, reply) if reply.body is None else reply.body
            self._send(reply.status, content, reply)
        elif stream and reply.body is None and not reply.plain_json:
            self._stream(wire, seen.model, reply)
        else:
            self._send(
                200, render_whole(wire, seen.model, reply) if reply.body is None else reply.body, reply
            )

    def _head(self, status: int, kind: str, length: int | None, reply: Reply) -> bytes:
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", f"content-type: {kind}"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        if reply.gzip:
            lines.append("content-encoding: gzip")
        if length is not None:
            lines.append(f"content-length: {length}")
        elif self._chunked:
            lines.append("transfer-encoding: chunked")
        if self._close:
            lines.append("connection: close")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def _send(self, status: int, body: bytes, reply: Reply = Reply()) -> None:  # noqa: B008  (frozen)
        """A complete answer."""
        if reply.gzip:
            packer = zlib.compressobj(wbits=31)
            body = packer.compress(body) + packer.flush()
        head = self._head(status, "application/json", len(body), reply)
        if reply.cut is not None:
            self._write(head + body[: reply.cut], reply)
            self._end(keep=False)
            return
        self._play([head + body], reply, 0, self._end)

    def _stream(self, wire: Wire, model: str, reply: Reply) -> None:
        events, terminal = render(wire, model, reply)
        kind = "application/x-ndjson" if wire == "ollama" else "text/event-stream"
        self._packer = zlib.compressobj(wbits=31) if reply.gzip else None
        faults = [k for k in (reply.cut, reply.stall, reply.mid_error) if k is not None]
        sent = list(events[: min(faults)] if faults else events)
        finish = self._finish_stream
        if reply.cut is not None:
            finish = self._cut
        elif reply.stall is not None or reply.linger:
            finish = self._stall
        elif reply.mid_error is not None:
            sent.append(error_event(wire, reply))
        if not faults and reply.terminal:
            sent.append(terminal)
        head = self._head(200, kind, None, reply)
        if not (reply.first_token or reply.pause or reply.dribble or reply.gzip):
            # The whole answer in one write, as cheap as a server can be.
            self._write(head + (b"".join(map(_chunk, sent)) if self._chunked else b"".join(sent)), reply)
            finish()
            return
        self._write(head, reply)
        self._timer = self._loop.call_later(
            reply.first_token, self._play, self._framed(sent), reply, 0, finish
        )

    def _framed(self, events: Sequence[bytes]) -> list[bytes]:
        if self._packer is not None:
            packer = self._packer
            events = [packer.compress(e) + packer.flush(zlib.Z_SYNC_FLUSH) for e in events]
            events.append(packer.flush())
        return [_chunk(e) for e in events if e] if self._chunked else list(events)

    def _play(self, pieces: list[bytes], reply: Reply, at: int, finish: Callable[[], None]) -> None:
        """Writes piece after piece, with the pauses between them."""
        if reply.dribble and at == 0:
            whole = b"".join(pieces)
            pieces = [whole[i : i + reply.dribble] for i in range(0, len(whole), reply.dribble)]
        if at < len(pieces):
            self._write(pieces[at], reply)
            at += 1
        if at >= len(pieces):
            finish()
        elif reply.pause:
            self._timer = self._loop.call_later(reply.pause, self._play, pieces, reply, at, finish)
        else:
            self._timer = self._loop.call_soon(self._play, pieces, reply, at, finish)

    def _write(self, data: bytes, reply: Reply) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _finish_stream(self) -> None:
        if self._chunked and self._transport is not None:
            self._transport.write(b"0\r\n\r\n")
        self._end()

    def _cut(self) -> None:
        self._end(keep=False)

    def _stall(self) -> None:
        """The request stays open until the client or the server goes."""

    def _end(self, keep: bool = True) -> None:
        self._over()
        if self._close or not keep:
            if self._transport is not None:
                self._transport.close()
        elif self._buffer:
            self._next_request()

    def _over(self) -> None:
        if self._seen is not None:
            self._seen.ended = time.monotonic()
            self._server.in_flight[self._seen.host] -= 1
            self._seen = None


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _list_wire(seen: Seen) -> Wire:
    if "/api/" in seen.path:
        return "ollama"
    if "/v1beta/" in seen.path:
        return "gemini"
    return "anthropic" if "anthropic-version" in seen.headers else "openai"


# --- as a program


def _reply(value: object) -> str | Reply:
    return value if isinstance(value, str) else msgspec.convert(value, Reply)


def from_file(path: Path, port: int) -> FakeServer:
    """The server that a JSON file describes."""
    told = msgspec.json.decode(path.read_bytes())
    reply = told.get("reply", "Hello from the fake.")
    behaviour: Behaviour = [_reply(r) for r in reply] if isinstance(reply, list) else _reply(reply)
    if rules := told.get("rules"):
        assert isinstance(behaviour, str | Reply)
        behaviour = by_prompt({rule["contains"]: _reply(rule["reply"]) for rule in rules}, behaviour)
    models = msgspec.convert(told.get("models", [{"id": "fake-model"}]), list[FakeModel])
    return FakeServer(
        behaviour, models=models, auth=told.get("auth", ""), page=told.get("page", 0), port=port
    )


async def serve(server: FakeServer, journal: str) -> None:
    """Prints the URL, then serves; with a journal, one JSON line a request, written as it comes."""

    def note(seen: Seen) -> None:
        line = {"path": seen.path, "host": seen.host, "headers": seen.headers, "body": seen.body}
        with Path(journal).open("ab") as file:
            file.write(msgspec.json.encode({"time": time.time(), **line}) + b"\n")

    if journal:
        server.on_request = note
    async with server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """The command line of the fake."""
    parser = ArgumentParser(description="A fake of four vendors on loopback")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--behaviour", type=Path, help="a JSON file")
    parser.add_argument("--journal", default="", help="append what was received to this file")
    told = parser.parse_args()
    server = from_file(told.behaviour, told.port) if told.behaviour else FakeServer(port=told.port)
    server.remember = False
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(server, told.journal))


if __name__ == "__main__":
    main()
