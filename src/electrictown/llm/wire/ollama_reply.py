"""Ollama's native API, answering: lines of a stream, whole replies, errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from electrictown.errors import (
    BadReplyError,
    BadRequestError,
    IncompleteReplyError,
    ModelNotFoundError,
    OverloadedError,
    ProviderError,
    QuotaError,
)
from electrictown.llm.billing import plausible
from electrictown.llm.messages import (
    ChatResponse,
    Chunk,
    End,
    FinishReason,
    Json,
    Message,
    Part,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from electrictown.llm.wire.common import as_int, as_text, encode_json, excerpt, parse_json
from electrictown.llm.wire.faults import fault_of
from electrictown.llm.wire.parts import Numbered, as_object, as_objects
from electrictown.llm.wire.verdict import make_error

__all__ = ["OllamaDecoder", "typed_error"]


class _Said(Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: None = None


class _Line(Struct, gc=False):
    """A line of text or thoughts, as nearly all are; whatever else comes is decoded whole."""

    message: _Said
    done: bool = False
    error: None = None


_decode_line = msgspec.json.Decoder(_Line).decode
_FINISH: dict[str, FinishReason] = {
    "": "stop",
    "stop": "stop",
    "load": "stop",
    "unload": "stop",
    "length": "length",
}


class OllamaDecoder:
    """Decodes one stream; see `StreamDecoder`."""

    __slots__ = ("_begun", "_calls", "_ended", "_ids", "_last", "_model", "_origin", "_text", "_thoughts")

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._begun = False
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[ToolCall] = []
        self._ids = Numbered()
        self._model = ""
        self._last: dict[str, Json] = {}  # the line with `done: true`
        self._ended = False

    def feed(self, payload: bytes, out: list[Chunk]) -> None:
        """Decode one line; see `StreamDecoder.feed`."""
        self.feed_all((payload,), out)

    def feed_all(self, payloads: Iterable[bytes], out: list[Chunk]) -> None:
        """Decode the lines of one read; see `StreamDecoder.feed_all`."""
        add_text, add_chunk = self._text.append, out.append
        for payload in payloads:
            if self._begun and not self._ended:
                try:
                    line = _decode_line(payload)
                except msgspec.DecodeError:
                    pass
                else:
                    if not line.done:
                        if thought := line.message.thinking:
                            self._thoughts.append(thought)
                            add_chunk(ReasoningDelta(thought))
                        if text := line.message.content:
                            add_text(text)
                            add_chunk(TextDelta(text))
                        continue
            self._feed_other(payload, out)

    def _feed_other(self, payload: bytes, out: list[Chunk]) -> None:
        if self._ended:
            return
        found: Json = parse_json(payload)
        if not isinstance(found, dict):
            raise BadReplyError(f"this is no line of a reply: {excerpt(payload)}")
        self.take(as_object(found), out)

    def take(self, line: dict[str, Json], out: list[Chunk]) -> None:
        """Takes one line, decoded."""
        if line.get("error"):
            raise typed_error(line)
        if self._ended:
            return
        if "message" not in line and "done" not in line:
            raise BadReplyError(f"this is no line of a reply: {excerpt(encode_json(line))}")
        self._begun = True
        self._model = as_text(line.get("model")) or self._model
        said = as_object(line.get("message"))
        if thinking := as_text(said.get("thinking")):
            self._thoughts.append(thinking)
            out.append(ReasoningDelta(thinking))
        if text := as_text(said.get("content")):
            self._text.append(text)
            out.append(TextDelta(text))
        for told in as_objects(said.get("tool_calls")):
            function = as_object(told.get("function"))
            name, arguments = as_text(function.get("name")), as_text(function.get("arguments")) or "{}"
            call = ToolCall(self._ids.id(as_text(told.get("id"))), name, arguments)
            out.append(ToolCallDelta(len(self._calls), call.id, name, arguments))
            self._calls.append(call)
        if line.get("done"):
            self._last = line
            self._ended = True
            out.append(End(self._response(partial=False)))

    def finish(self, *, allow_incomplete: bool = False) -> End | None:
        """The end of the body: an error before `done: true`; see `StreamDecoder.finish`."""
        if self._ended:
            return None
        if not (allow_incomplete and self._begun):
            raise IncompleteReplyError("the stream ended before done: true")
        self._ended = True
        return End(self.partial())

    @property
    def usage(self) -> Usage | None:
        """What is known of the usage: nothing before the last line."""
        counts = [self._last.get("prompt_eval_count"), self._last.get("eval_count")]
        if counts == [None, None]:
            return None
        return plausible(Usage(input=as_int(counts[0]), output=as_int(counts[1])))

    def partial(self) -> ChatResponse:
        """The reply as far as it came, its usage marked partial."""
        return self._response(partial=True)

    def _response(self, *, partial: bool) -> ChatResponse:
        parts: list[Part] = []
        if self._thoughts:
            parts.append(Reasoning("".join(self._thoughts)))
        if self._text:
            parts.append(Text("".join(self._text)))
        parts.extend(self._calls)
        stopped = as_text(self._last.get("done_reason"))
        finish: FinishReason = _FINISH.get(stopped, "stop") if self._last else ""
        if finish == "stop" and self._calls:
            finish = "tool_calls"
        usage = self.usage
        return ChatResponse(
            message=Message("assistant", tuple(parts), self._origin),
            finish_reason=finish,
            stopped=stopped,
            usage=replace(usage, partial=True) if usage is not None and partial else usage,
            model=self._model,
            provider=self._origin,
        )


_NO_TOOLS = re.compile(r"does not support tools", re.I)
_NO_THINKING = re.compile(r"does not support thinking|think value .* is not supported", re.I)
_BUSY = re.compile(r"server (?:is )?busy|maximum pending requests", re.I)
_ALLOWANCE = re.compile(r"usage limit|requires a subscription|upgrade (?:for|to)", re.I)
_PULL = re.compile(r"model ['\"]?([\w./:-]+)['\"]? not found|model ['\"]([\w./:-]+)['\"]", re.I)


def typed_error(value: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> ProviderError:
    """The error of our tree; this vendor sends a sentence, also in the middle of a stream with status 200."""
    fault = fault_of(value)
    text, kind = fault.message, None
    if _NO_TOOLS.search(text) or _NO_THINKING.search(text):
        kind = BadRequestError
    elif _BUSY.search(text):
        kind = OverloadedError
    elif status in (402, 403, 429) and _ALLOWANCE.search(text):
        kind = QuotaError
    error = make_error(status, headers or {}, fault, kind)
    if isinstance(error, BadRequestError) and kind is BadRequestError:
        error.param = "tools" if _NO_TOOLS.search(text) else "think"
    elif isinstance(error, ModelNotFoundError):
        named = _PULL.search(text)
        name = (named[1] or named[2]) if named else "NAME"
        error.hint = f"`ollama pull {name}` on that host fetches it; `et models` lists what is there"
    elif status == 401 and "signin" in str(value):
        error.hint = "run `ollama signin` on that host, or set the provider's api_key"
    return error
