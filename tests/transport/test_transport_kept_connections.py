"""A server that promises to keep a connection and then closes it, as llama.cpp does after a stream."""

from __future__ import annotations

import asyncio

from transport_kit import make

from electrictown.llm.messages import ChatRequest, End, user

_EVENTS = (
    b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
    b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
_REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: keep-alive\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % len(_EVENTS) + _EVENTS + b"\r\n0\r\n\r\n"
)


async def test_a_request_on_a_kept_connection_that_the_server_closed_is_made_on_another() -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        asked += 1
        writer.write(_REPLY)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider = make(("openai", ""), f"http://127.0.0.1:{port}/v1")
    request = ChatRequest(model="m", messages=(user("x" * 200_000),))
    async with server:
        for _ in range(30):
            async with provider.stream_chat_completion(request) as reply:
                chunks = [chunk async for chunk in reply]
            assert isinstance(chunks[-1], End)
    await provider.aclose()
    assert asked == 30
