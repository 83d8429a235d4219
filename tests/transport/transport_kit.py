"""What the tests of this folder share: the four wires over a fake server."""

from __future__ import annotations

import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec.structs import replace

from electrictown.errors import ProviderError
from electrictown.llm.http_provider import HttpProvider
from electrictown.llm.messages import ChatRequest, ChatResponse, Chunk, End, TextDelta, user
from electrictown.llm.provider import ProviderSettings, Timeouts, make_provider
from electrictown.llm.reply_stream import ReplyStream
from fakes.fake_server import FakeServer

WIRES = [("openai", ""), ("openai", "responses"), ("anthropic", ""), ("gemini", ""), ("ollama", "")]
IDS = ["openai", "responses", "anthropic", "gemini", "ollama"]

PATIENT = Timeouts(connect=5.0, first_token=20.0, idle=20.0)

ASK = ChatRequest(model="m1", messages=(user("What is the answer?"),))


def make(wire: tuple[str, str], url: str, times: Timeouts = PATIENT, /, **more: object) -> HttpProvider:
    kind, api = wire
    told = {"name": f"the-{kind}", "type": kind, "api": api, "base_url": url, **more}
    made = make_provider(replace(ProviderSettings(name="", type="", timeouts=times), **told))
    assert isinstance(made, HttpProvider)
    return made


@asynccontextmanager
async def provider(
    wire: tuple[str, str], server: FakeServer | str, times: Timeouts = PATIENT, /, **more: object
) -> AsyncGenerator[HttpProvider]:
    made = make(wire, server if isinstance(server, str) else server.url, times, **more)
    try:
        yield made
    finally:
        await made.aclose()


async def stream(asked: HttpProvider, request: ChatRequest = ASK) -> tuple[list[Chunk], ChatResponse]:
    """All chunks of a complete stream but its end, and the reply the end holds."""
    async with asked.stream_chat_completion(request) as reply:
        chunks = [chunk async for chunk in reply]
    last = chunks.pop()
    assert isinstance(last, End)
    return chunks, last.response


async def broken(asked: HttpProvider) -> tuple[str, ReplyStream, ProviderError]:
    """The text of a stream that fails, the stream, and its failure."""
    text = ""
    async with asked.stream_chat_completion(ASK) as reply:
        try:
            async for chunk in reply:
                text += chunk.text if isinstance(chunk, TextDelta) else ""
        except ProviderError as error:
            return text, reply, error
    raise AssertionError(f"the stream did not fail: {text}")


async def either(asked: HttpProvider, streamed: bool, request: ChatRequest = ASK) -> ChatResponse:
    return (await stream(asked, request))[1] if streamed else await asked.chat_completion(request)


def everything_told(error: BaseException) -> str:
    """All text that an exception could bring before somebody's eyes, its whole chain included."""
    seen: list[str] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None:
            continue
        seen += [str(one), repr(one), repr(one.args), repr(vars(one))]
        seen += traceback.format_exception(one)
        frames = [frame for frame, _ in traceback.walk_tb(one.__traceback__)]
        seen += [repr(f.f_locals.get("error")) for f in frames if "electrictown" in f.f_code.co_filename]
        todo += [one.__cause__, one.__context__]
    return "\n".join(seen)


def body_of(raw: bytes) -> dict[str, Any]:
    return msgspec.json.decode(raw, type=dict[str, Any])
