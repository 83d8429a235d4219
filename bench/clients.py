"""The two clients that are compared: aiohttp with msgspec by hand, and the whole Router.

Both send the same question, read the same answer and end up with its whole text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from bench.questions import KEY, MODELS, SYSTEM, USER, Shape

__all__ = ["CLIENTS", "Client", "Raw", "Routed"]

_TOKENS = 1024
_Json: TypeAlias = Any


class Client(Protocol):
    """Asks one wire of the server at one address."""

    def __init__(self, wire: str, url: str, shapes: Iterable[Shape]) -> None: ...

    async def ask(self) -> str:
        """The text of a whole reply."""
        ...

    async def stream(self, shape: Shape) -> tuple[int, str]:
        """The number of pieces of a streamed reply, and its text."""
        ...

    async def aclose(self) -> None:
        """Closes the connections."""
        ...


class Raw:
    """What a careful person would write by hand for one vendor: no retry, no types, no errors, no costs."""

    def __init__(self, wire: str, url: str, shapes: Iterable[Shape]) -> None:
        import aiohttp

        self._wire = wire
        self._url = url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder().decode
        self._headers = {"content-type": "application/json"} | {
            "openai": {"authorization": f"Bearer {KEY}"},
            "anthropic": {"x-api-key": KEY, "anthropic-version": "2023-06-01"},
            "gemini": {"x-goog-api-key": KEY},
            "ollama": {},
        }[wire]

    async def ask(self) -> str:
        body = self._encode(self._body(stream=False))
        url = self._url + self._path(stream=False)
        async with self._session.post(url, data=body, headers=self._headers) as response:
            assert response.status == 200
            return self._text(self._decode(await response.read()))

    async def stream(self, shape: Shape) -> tuple[int, str]:
        body = self._encode(self._body(stream=True))
        url = self._url + shape.path + self._path(stream=True)
        decode, delta = self._decode, self._delta
        begin = b"{" if self._wire == "ollama" else b"data: {"
        skip = len(begin) - 1
        pieces: list[str] = []
        rest = b""
        async with self._session.post(url, data=body, headers=self._headers) as response:
            assert response.status == 200
            async for data in response.content.iter_any():
                lines = (rest + data).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    if line.startswith(begin) and (text := delta(decode(line[skip:]))):
                        pieces.append(text)
        return len(pieces), "".join(pieces)

    async def aclose(self) -> None:
        await self._session.close()

    def _path(self, *, stream: bool) -> str:
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return {
            "openai": "/v1/chat/completions",
            "anthropic": "/v1/messages",
            "gemini": f"/v1beta/models/{MODELS['gemini']}:{method}",
            "ollama": "/api/chat",
        }[self._wire]

    def _body(self, *, stream: bool) -> dict[str, Any]:
        model, user = MODELS[self._wire], {"role": "user", "content": USER}
        both = [{"role": "system", "content": SYSTEM}, user]
        match self._wire:
            case "openai":
                more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
                return {"model": model, "messages": both, "max_tokens": _TOKENS, "temperature": 0.0, **more}
            case "anthropic":
                more = {"stream": True} if stream else {}
                return {
                    "model": model,
                    "system": SYSTEM,
                    "messages": [user],
                    "max_tokens": _TOKENS,
                    "temperature": 0.0,
                    **more,
                }
            case "gemini":
                return {
                    "systemInstruction": {"parts": [{"text": SYSTEM}]},
                    "contents": [{"role": "user", "parts": [{"text": USER}]}],
                    "generationConfig": {"maxOutputTokens": _TOKENS, "temperature": 0.0},
                }
            case _:
                options = {"num_predict": _TOKENS, "temperature": 0.0}
                return {"model": model, "messages": both, "stream": stream, "options": options}

    def _text(self, reply: _Json) -> str:
        match self._wire:
            case "openai":
                return reply["choices"][0]["message"]["content"]
            case "anthropic":
                return "".join(block["text"] for block in reply["content"] if block["type"] == "text")
            case "gemini":
                return "".join(part["text"] for part in reply["candidates"][0]["content"]["parts"])
            case _:
                return reply["message"]["content"]

    def _delta(self, event: _Json) -> str:
        match self._wire:
            case "openai":
                choices = event["choices"]
                return (choices[0]["delta"].get("content") or "") if choices else ""
            case "anthropic":
                return event["delta"]["text"] if event["type"] == "content_block_delta" else ""
            case "gemini":
                parts = event["candidates"][0].get("content", {}).get("parts")
                return parts[0]["text"] if parts else ""
            case _:
                return event["message"]["content"]


class Routed:
    """The Router with all it has: roles, admission, prices, the ledger, and the events of a run in a pipe."""

    def __init__(self, wire: str, url: str, shapes: Iterable[Shape]) -> None:
        from electrictown.console.plain import Plain
        from electrictown.engine.chronicle import Chronicle
        from electrictown.llm.admission import MemoryAdmission
        from electrictown.llm.costs import CostTracker
        from electrictown.llm.messages import ChatRequest, TextDelta, system, user
        from electrictown.llm.provider import ProviderSettings, make_provider
        from electrictown.llm.router import Router
        from electrictown.llm.routes import Price, Route, RouteTable, Target
        from electrictown.redact import Secret

        paths = {"": ""} | {shape.path: shape.path for shape in shapes}
        self._providers = {
            name: make_provider(
                ProviderSettings(
                    name=f"bench{name}",
                    type=wire,
                    # An address with a path is taken as it is written, and OpenAI's holds the version.
                    base_url=url + path + ("/v1" if wire == "openai" else ""),
                    api_key=Secret(KEY),
                    api_key_source="$BENCH_KEY",
                )
            )
            for name, path in paths.items()
        }
        targets = {
            name: Target(
                alias=f"model{name}",
                provider=name,
                model=MODELS[wire],
                provider_type=wire,
                host_limit=5000,
                max_tokens=_TOKENS,
                temperature=0.0,
                # The others are in the price list, which is loaded as in any program.
                price=Price(0.4, 1.6) if wire == "ollama" else None,
            )
            for name in paths
        }
        self._routes = {name: Route("polecat", target) for name, target in targets.items()}
        table = RouteTable(
            roles={"polecat": self._routes[""]},
            aliases={target.alias: target for target in targets.values()},
            providers=targets,
        )
        self._out = Path(os.devnull).open("w")  # noqa: SIM115  (closed in aclose)
        self.tracker = CostTracker()
        self._router = Router(
            self._providers,
            table,
            admission=MemoryAdmission(),
            tracker=self.tracker,
            emit=Chronicle(Plain(self._out)),
        )
        self._request = ChatRequest(messages=(system(SYSTEM), user(USER)))
        self._delta = TextDelta

    async def ask(self) -> str:
        reply = await self._router.chat_completion_for_role("polecat", self._request, subtask="1")
        return reply.text

    async def stream(self, shape: Shape) -> tuple[int, str]:
        delta, pieces = self._delta, list[str]()
        async with self._router.stream_chat_completion_for_role(
            "polecat", self._request, route=self._routes[shape.path], subtask="1"
        ) as reply:
            async for chunk in reply:
                if type(chunk) is delta:
                    pieces.append(chunk.text)
        return len(pieces), "".join(pieces)

    async def aclose(self) -> None:
        for provider in self._providers.values():
            close: Any = getattr(provider, "aclose", None)
            await close()
        self._out.close()
        assert all(spent.usd is not None for spent in self.tracker.records), "a reply without a price"


CLIENTS: dict[str, type[Client]] = {"raw": Raw, "routed": Routed}
