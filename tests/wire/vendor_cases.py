"""What the tests of the vendors' wires share: recorded exchanges, a way to deliver bytes, common requests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from electrictown.errors import ProviderError
from electrictown.llm.framing import NdjsonSplitter, SseSplitter
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Chunk,
    End,
    Message,
    ReasoningDelta,
    Reset,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    ToolSpec,
    assistant,
    system,
    user,
)
from electrictown.llm.wire.base import Wire

EXCHANGES = Path(__file__).parents[2] / ".." / "shared" / "exchanges"

WEATHER = ToolSpec(
    "get_weather",
    "The weather in a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
PLAIN = ChatRequest(model="m", messages=(user("hello"),))
FULL = ChatRequest(
    model="m",
    messages=(system("Be brief."), user("hello"), assistant("hi"), user("and now?")),
    max_tokens=100,
    temperature=0.5,
    top_p=0.9,
    stop=("END",),
)
PARALLEL = ChatRequest(
    model="m",
    messages=(
        user("Paris and Rome?"),
        Message(
            "assistant",
            (
                Text("Looking."),
                ToolCall("call_0", "get_weather", '{"city": "Paris"}'),
                ToolCall("call_1", "get_weather", '{"city": "Rome"}'),
            ),
        ),
        Message("tool", (ToolResult("call_0", "get_weather", "sunny"),)),
        Message("tool", (ToolResult("call_1", "", "no such city", is_error=True),)),
        user("Well?"),
    ),
    tools=(WEATHER,),
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}},
    "required": ["n"],
}


def exchanges(prefix: str) -> list[Any]:
    """Every recorded exchange whose name begins so, or one skipped parameter where there are none."""
    found = sorted(EXCHANGES.glob(f"{prefix}*.json"))
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason="the recorded exchanges are not here"))]
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in found]


def small(cases: list[Any], limit: int = 5000) -> list[Any]:
    """The recorded streams short enough to be cut at every byte."""
    return [c for c in cases if c.values[0] is None or len(c.values[0]["response_text"]) <= limit]


def sent(wire: Wire, request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:
    """The body that the wire makes of `request`."""
    return json.loads(wire.encode(request, stream=stream).body)


def stream(wire: Wire, data: bytes, *, cut: int | None = None, allow_incomplete: bool = False) -> list[Chunk]:
    """All chunks of a stream, delivered whole, in two reads, or (cut 0) byte by byte."""
    splitter = SseSplitter() if wire.framing == "sse" else NdjsonSplitter()
    decoder, out = wire.decoder(), list[Chunk]()
    reads = [data] if cut is None else [data[:cut], data[cut:]]
    if cut == 0:
        reads = [bytes([byte]) for byte in data]
    for read in reads:
        for payload in splitter.feed(read):
            decoder.feed(payload, out)
    for payload in splitter.finish():
        decoder.feed(payload, out)
    end = decoder.finish(allow_incomplete=allow_incomplete)
    return out if end is None else [*out, end]


def reply(wire: Wire, data: bytes, *, allow_incomplete: bool = False) -> ChatResponse:
    """The whole reply that a stream ends with."""
    last = stream(wire, data, allow_incomplete=allow_incomplete)[-1]
    assert isinstance(last, End)
    return last.response


def replay(wire: Wire, exchange: dict[str, Any]) -> ChatResponse | ProviderError:
    """What the wire makes of a recorded answer."""
    text: str = exchange["response_text"] or json.dumps(exchange["response_body"], ensure_ascii=False)
    if exchange["status"] >= 400:
        return wire.error(exchange["status"], exchange["response_headers"], text.encode())
    if exchange["stream"] and not text.startswith("["):
        return reply(wire, text.encode())
    return wire.decode(text.encode())


def sse(*events: object, end: str = "\n\n") -> bytes:
    """Events as server-sent events."""
    return "".join(f"data: {json.dumps(e, ensure_ascii=False)}{end}" for e in events).encode()


def lines(*events: object) -> bytes:
    """Events as lines of JSON."""
    return "".join(json.dumps(e, ensure_ascii=False) + "\n" for e in events).encode()


def assert_chunks_make_the_reply(chunks: list[Chunk]) -> None:
    """What was streamed is what the final reply says."""
    last = chunks[-1]
    assert isinstance(last, End)
    starts = [i for i, chunk in enumerate(chunks) if isinstance(chunk, Reset)]
    told = chunks[starts[-1] + 1 if starts else 0 : -1]
    response = last.response
    assert "".join(c.text for c in told if isinstance(c, TextDelta)) == response.text
    assert "".join(c.text for c in told if isinstance(c, ReasoningDelta)) == response.reasoning
    calls: dict[int, list[str]] = {}
    for chunk in told:
        if isinstance(chunk, ToolCallDelta):
            call = calls.setdefault(chunk.index, ["", "", ""])
            call[0] += chunk.id
            call[1] += chunk.name
            call[2] += chunk.arguments
    streamed = [(i, n, a or "{}") for i, n, a in calls.values()]
    assert streamed == [(c.id, c.name, c.arguments) for c in response.tool_calls]


def assert_cuts_change_nothing(wire: Wire, data: bytes) -> None:
    """However the bytes are cut into reads, the chunks are the same."""
    whole = stream(wire, data)
    for cut in range(len(data)):
        assert stream(wire, data, cut=cut) == whole


_ODD: list[Any] = [None, 0, -1, 1.5, 10**25, "", "x", [], {}, [None], {"a": 1}, True]


def damaged(data: st.DataObject, events: Sequence[Any]) -> list[Any]:
    """`events` with one value somewhere in them missing or of another kind."""
    result: list[Any] = json.loads(json.dumps(events))
    holder: Any = result
    while True:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = data.draw(st.sampled_from(keys))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 4)) == 0:
            break
        holder = inner
    if isinstance(holder, dict) and data.draw(st.booleans()):
        del holder[key]
    else:
        holder[key] = data.draw(st.sampled_from(_ODD))
    return result


def assert_survived(wire: Wire, data: bytes) -> None:
    """A stream ends in one of our errors or in a reply that can be sent back."""
    try:
        response = reply(wire, data, allow_incomplete=True)
    except ProviderError:
        return
    assert isinstance(response.text, str)
    assert msgspec.convert(msgspec.to_builtins(response), ChatResponse) == response
    wire.encode(ChatRequest(model="m", messages=(user("?"), response.message)), stream=True)


def prefixes(data: bytes, separator: bytes) -> Iterator[bytes]:
    """`data` ending after each of its events but the last."""
    events = data.split(separator)
    while events and not events[-1].strip():
        events.pop()
    for count in range(len(events)):
        yield separator.join(events[:count]) + (separator if count else b"")
