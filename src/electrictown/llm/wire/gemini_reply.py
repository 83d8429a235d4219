"""Google's Gemini API, answering: whole replies and streams.

A stream is a sequence of replies, each with the next parts. It has no terminal event: a finishReason
has come, and then the body ends. https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from electrictown.errors import BadReplyError, IncompleteReplyError, RefusedError
from electrictown.llm.messages import (
    ChatResponse,
    Chunk,
    End,
    FinishReason,
    Json,
    Message,
    Opaque,
    Part,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from electrictown.llm.wire.common import as_int, as_text, disjoint_usage, excerpt, parse_json
from electrictown.llm.wire.gemini_errors import typed_error
from electrictown.llm.wire.parts import Numbered, as_object, as_objects, set_at_path

__all__ = ["GeminiDecoder", "decode_reply"]

_FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "MODEL_ARMOR",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
        ),
        "content_filter",
    ),
}
# All others (MALFORMED_FUNCTION_CALL, MISSING_THOUGHT_SIGNATURE, OTHER ...) are errors of the model's.


class _TextPart(Struct, forbid_unknown_fields=True, gc=False):
    text: str
    thought: bool = False


class _Content(Struct, gc=False):
    parts: list[_TextPart]


class _Candidate(Struct, gc=False):
    content: _Content
    index: Literal[0] | None = None
    finishReason: None = None


class _Tokens(Struct, gc=False):
    promptTokenCount: int = 0
    candidatesTokenCount: int = 0
    thoughtsTokenCount: int = 0
    cachedContentTokenCount: int = 0
    toolUsePromptTokenCount: int = 0


_NOTHING = msgspec.Raw()


class _Reply(Struct, gc=False):
    """A chunk of plain text; whatever is more fails to decode as one and is read at leisure."""

    candidates: tuple[_Candidate]
    usageMetadata: msgspec.Raw = _NOTHING
    promptFeedback: None = None
    error: None = None


_decode_plain = msgspec.json.Decoder(_Reply).decode


def decode_reply(body: bytes, origin: str) -> ChatResponse:
    """The reply in a complete body, which may be a list of chunks; see `Wire.decode`."""
    found: Json = parse_json(body)
    decoder = GeminiDecoder(origin)
    out: list[Chunk] = []
    if isinstance(found, list):
        for chunk in as_objects(cast(Json, found)):
            decoder.take(chunk, out)
    else:
        reply = as_object(found)
        candidates = as_objects(reply.get("candidates"))
        if candidates and all(c.get("index") for c in candidates):
            candidates[0]["index"] = 0  # the only one, however it is numbered
        decoder.take(reply, out)
        if not reply.get("candidates"):
            raise BadReplyError(f"this is no reply: {excerpt(body)}")
    end = decoder.finish(allow_incomplete=isinstance(found, dict))
    if end is None:
        raise BadReplyError(f"this is no reply: {excerpt(body)}")
    return end.response


class _Call:
    """A function call; its arguments may come piece by piece, each at a path."""

    __slots__ = ("arguments", "id", "index", "name", "rest")

    def __init__(self, index: int, call_id: str, name: str, rest: dict[str, Json] | None) -> None:
        self.index = index
        self.id = call_id
        self.name = name
        self.rest = rest
        self.arguments: Json = {}

    def part(self) -> ToolCall:
        return ToolCall(self.id, self.name, as_text(self.arguments), self.rest)


class _Run:
    """Text or thoughts without a break."""

    __slots__ = ("pieces", "thought")

    def __init__(self, *, thought: bool) -> None:
        self.thought = thought
        self.pieces: list[str] = []

    def part(self) -> Part:
        text = "".join(self.pieces)
        return Reasoning(text) if self.thought else Text(text)


class GeminiDecoder:
    """Decodes one stream; see `StreamDecoder`. `End` comes with the end of the body."""

    __slots__ = (
        "_begun",
        "_call",
        "_counted",
        "_ended",
        "_ids",
        "_origin",
        "_parts",
        "_reply_id",
        "_reply_model",
        "_run",
        "_said",
        "_stopped",
        "_tokens",
        "_toolcount",
    )

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._begun = False
        self._parts: list[_Run | _Call | Part] = []
        self._run: _Run | None = None  # the last part, while it is text or thoughts that may go on
        self._call: _Call | None = None  # a call whose arguments are still coming
        self._ids = Numbered()
        self._toolcount = 0
        self._stopped = ""
        self._said = ""  # the finishMessage
        self._tokens: _Tokens | None = None
        self._counted: msgspec.Raw | None = None
        self._reply_id = ""
        self._reply_model = ""
        self._ended = False

    def feed(self, payload: bytes, out: list[Chunk]) -> None:
        """Decode one event's payload; see `StreamDecoder.feed`."""
        self.feed_all((payload,), out)

    def feed_all(self, payloads: Iterable[bytes], out: list[Chunk]) -> None:
        """Decode the events of one read; see `StreamDecoder.feed_all`."""
        for payload in payloads:
            if self._begun:  # the first chunk is read at leisure: it says who answers
                try:
                    reply = _decode_plain(payload)
                except msgspec.DecodeError:
                    pass
                else:
                    if reply.usageMetadata is not _NOTHING:
                        self._counted = reply.usageMetadata
                    for part in reply.candidates[0].content.parts:
                        if text := part.text:
                            self._text(text, part.thought, out)
                    continue
            self._feed_other(payload, out)

    def _feed_other(self, payload: bytes, out: list[Chunk]) -> None:
        if payload.strip() == b"[DONE]":
            return  # gateways may close like the chat API
        found: Json = parse_json(payload)
        if not isinstance(found, dict | list):
            raise BadReplyError(f"this is no event: {excerpt(payload)}")
        for chunk in as_objects(found if isinstance(found, list) else [found]):
            self.take(chunk, out)

    def take(self, chunk: dict[str, Json], out: list[Chunk]) -> None:
        """Takes one chunk, decoded."""
        self._begun = True
        if chunk.get("error"):
            raise typed_error(chunk)
        self._reply_id = as_text(chunk.get("responseId")) or self._reply_id
        self._reply_model = as_text(chunk.get("modelVersion")) or self._reply_model
        if tokens := as_object(chunk.get("usageMetadata")):
            self._count(tokens)
        feedback = as_object(chunk.get("promptFeedback"))
        blocked = as_text(feedback.get("blockReason"))
        if blocked and blocked != "BLOCK_REASON_UNSPECIFIED":
            said = as_text(feedback.get("blockReasonMessage"))
            raise RefusedError(
                f"the prompt was blocked: {blocked}" + (f": {said}" if said else ""),
                status=200,
                code=blocked,
            )
        candidates = [c for c in as_objects(chunk.get("candidates")) if not as_int(c.get("index"))]
        candidate = candidates[0] if candidates else {}
        for part in as_objects(as_object(candidate.get("content")).get("parts")):
            self._part(part, out)
        reason = as_text(candidate.get("finishReason"))
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            self._close_call(out)
            self._stopped = reason
            self._said = as_text(candidate.get("finishMessage"))

    def _count(self, told: dict[str, Json]) -> None:
        tokens = _Tokens(*[as_int(told.get(name)) for name in _Tokens.__struct_fields__])
        self._counted = None
        # The last one wins, except that some hold no counts at all.
        if tokens.promptTokenCount or tokens.candidatesTokenCount or tokens.thoughtsTokenCount:
            self._tokens = tokens

    def _text(self, text: str, thought: bool, out: list[Chunk]) -> None:
        run = self._run
        if run is None or run.thought is not thought:
            run = self._run = _Run(thought=thought)
            self._parts.append(run)
        run.pieces.append(text)
        out.append(ReasoningDelta(text) if thought else TextDelta(text))

    def _part(self, part: dict[str, Json], out: list[Chunk]) -> None:
        if "functionCall" in part:
            self._function(as_object(part["functionCall"]), _rest(part, "functionCall"), out)
            return
        text = part.get("text")
        rest = _rest(part, "text", "thought")
        if not isinstance(text, str) or (rest and set(rest) & _DATA):
            if part:
                self._run = None
                self._parts.append(Opaque(part))
        elif rest is None:
            if text:
                self._text(text, bool(part.get("thought")), out)
        else:  # a signature belongs to exactly this part, so it stays one
            self._run = None
            thought = bool(part.get("thought"))
            self._parts.append(Reasoning(text, rest) if thought else Text(text, rest))
            if text:
                out.append(ReasoningDelta(text) if thought else TextDelta(text))

    def _function(self, told: dict[str, Json], rest: dict[str, Json] | None, out: list[Chunk]) -> None:
        name, going_on = as_text(told.get("name")), bool(told.get("willContinue"))
        call = self._call
        if call is None or name:
            self._close_call(out)
            call = _Call(self._toolcount, self._ids.id(as_text(told.get("id"))), name, rest)
            self._toolcount += 1
            self._run = None
            self._parts.append(call)
            if going_on:
                out.append(ToolCallDelta(call.index, call.id, name))
        elif rest:
            call.rest = {**(call.rest or {}), **rest}
        if "args" in told and told["args"] is not None:
            call.arguments = told["args"]
        for piece in as_objects(told.get("partialArgs")):
            kind = next((k for k in ("stringValue", "numberValue", "boolValue") if k in piece), "nullValue")
            set_at_path(call.arguments, as_text(piece.get("jsonPath")), piece.get(kind))
        if going_on:
            self._call = call
        elif self._call is call:
            self._close_call(out)
        else:
            out.append(ToolCallDelta(call.index, call.id, name, as_text(call.arguments)))

    def _close_call(self, out: list[Chunk]) -> None:
        if self._call is not None:
            out.append(ToolCallDelta(self._call.index, arguments=as_text(self._call.arguments)))
            self._call = None

    def finish(self, *, allow_incomplete: bool = False) -> End | None:
        """The end of the body: `End` if a finishReason has come; see `StreamDecoder.finish`."""
        if self._ended:
            return None
        parts = self._done_parts()
        if not self._stopped and not (allow_incomplete and (parts or self._begun)):
            raise IncompleteReplyError("the stream ended without a finishReason")
        response = self._response(parts, partial=not self._stopped)
        if response.finish_reason == "error" and not parts:
            raise BadReplyError(
                f"the model gave up: {self._stopped}" + (f": {self._said}" if self._said else ""),
                status=200,
                code=self._stopped,
            )
        self._ended = True
        return End(response)

    @property
    def usage(self) -> Usage | None:
        """What is known of the usage so far."""
        return self._usage(partial=not self._ended)

    def partial(self) -> ChatResponse:
        """The reply as far as it came, its usage marked partial."""
        return self._response(self._done_parts(), partial=True)

    def _done_parts(self) -> list[Part]:
        return [p.part() if isinstance(p, _Run | _Call) else p for p in self._parts]

    def _usage(self, *, partial: bool) -> Usage | None:
        if self._counted is not None:  # read only when somebody asks: most are followed by another
            self._count(as_object(parse_json(bytes(self._counted))))
        if (t := self._tokens) is None or t.toolUsePromptTokenCount < 0:
            return None
        usage = disjoint_usage(
            prompt=t.promptTokenCount + t.toolUsePromptTokenCount,
            cache_read=t.cachedContentTokenCount,
            output=t.candidatesTokenCount + t.thoughtsTokenCount,
            reasoning=t.thoughtsTokenCount,
        )
        return replace(usage, partial=True) if partial and usage is not None else usage

    def _response(self, parts: list[Part], *, partial: bool) -> ChatResponse:
        finish = _FINISH.get(self._stopped, "error") if self._stopped else ""
        if finish == "stop" and any(isinstance(p, ToolCall) for p in parts):
            finish = "tool_calls"
        return ChatResponse(
            message=Message("assistant", tuple(parts), self._origin),
            finish_reason=finish,
            stopped=self._stopped,
            usage=self._usage(partial=partial),
            model=self._reply_model,
            id=self._reply_id,
            provider=self._origin,
            notes=(f"{self._stopped}: {self._said}",) if self._said and finish == "error" else (),
        )


# What a part may hold besides text: then the text is not the part.
_DATA = frozenset(
    {
        "inlineData",
        "fileData",
        "executableCode",
        "codeExecutionResult",
        "functionResponse",
        "toolCall",
        "toolResponse",
    }
)


def _rest(part: dict[str, Json], *known: str) -> dict[str, Json] | None:
    return {k: v for k, v in part.items() if k not in known and v is not None} or None
