"""What is said to a model and what it says back: requests, replies, stream chunks, usage.

All of it is frozen: a request is never changed on its way through the stack. A message holds
*parts*, so that reasoning, tool calls and a vendor's opaque blobs travel beside the text and are
returned to the vendor verbatim where it wants them back.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

__all__ = [
    "ChatRequest",
    "ChatResponse",
    "Chunk",
    "End",
    "FinishReason",
    "Json",
    "Message",
    "Model",
    "Opaque",
    "Part",
    "Reasoning",
    "ReasoningDelta",
    "Reset",
    "Text",
    "TextDelta",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "ToolSpec",
    "Usage",
    "assistant",
    "system",
    "tool",
    "user",
    "without_opaque",
]

Json: TypeAlias = Any
"""A value as JSON decodes it: None, bool, int, float, str, list or dict."""

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "error", ""]
"""Why the model stopped, in one vocabulary for all vendors; "" while it is not known."""


class Text(Struct, frozen=True, tag="text"):
    """Plain text. `opaque` holds a vendor's extra for this part (Gemini's thoughtSignature)."""

    text: str
    opaque: dict[str, Json] | None = None


class Reasoning(Struct, frozen=True, tag="reasoning"):
    """What the model thought. `opaque` holds what the vendor wants back: signature, id, cipher text."""

    text: str
    opaque: dict[str, Json] | None = None


class ToolCall(Struct, frozen=True, tag="tool_call"):
    """A call the model asks for. `arguments` is JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str
    opaque: dict[str, Json] | None = None


class ToolResult(Struct, frozen=True, tag="tool_result"):
    """The answer to a tool call."""

    call_id: str
    name: str
    text: str
    is_error: bool = False


class Opaque(Struct, frozen=True, tag="opaque"):
    """A part only its vendor understands (redacted thinking, a server tool's trace), kept verbatim."""

    data: dict[str, Json]


Part: TypeAlias = Text | Reasoning | ToolCall | ToolResult | Opaque


class Message(Struct, frozen=True):
    """One turn. `origin` names the provider entry that produced it: its opaque parts go back only there."""

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[Part, ...]
    origin: str = ""

    @property
    def plain(self) -> str | None:
        """The text of a message that is one text and nothing else, as nearly all are; else None."""
        if len(self.parts) == 1 and type(part := self.parts[0]) is Text and part.opaque is None:
            return part.text
        return None

    @property
    def text(self) -> str:
        """All text parts, joined."""
        if len(self.parts) == 1 and type(part := self.parts[0]) is Text:
            return part.text  # nearly every message; joining costs ten times as much
        return "".join(p.text for p in self.parts if isinstance(p, Text))

    @property
    def reasoning(self) -> str:
        """All reasoning parts, joined."""
        return "".join(p.text for p in self.parts if isinstance(p, Reasoning))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in order."""
        return tuple(p for p in self.parts if isinstance(p, ToolCall))


def system(text: str) -> Message:
    """A system message."""
    return Message("system", (Text(text),))


def user(text: str) -> Message:
    """A user message."""
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    """An assistant message of plain text."""
    return Message("assistant", (Text(text),))


def tool(call: ToolCall, text: str, *, is_error: bool = False) -> Message:
    """The answer to `call`."""
    return Message("tool", (ToolResult(call.id, call.name, text, is_error),))


def without_opaque(messages: tuple[Message, ...], origin: str) -> tuple[Message, ...]:
    """`messages` as another provider may see them.

    Opaque data of a turn that `origin` did not produce is dropped, and so is reasoning: a vendor
    rejects foreign signatures, and nobody's thoughts are another model's input.
    """
    for message in messages:
        if _foreign(message, origin):
            return tuple(_stripped(m) if _foreign(m, origin) else m for m in messages)
    return messages


def _foreign(message: Message, origin: str) -> bool:
    return message.role == "assistant" and bool(message.origin) and message.origin != origin


def _stripped(message: Message) -> Message:
    parts = tuple(
        replace(p, opaque=None) if isinstance(p, Text | ToolCall) and p.opaque else p
        for p in message.parts
        if not isinstance(p, Opaque | Reasoning)
    )
    return replace(message, parts=parts, origin="")


class ToolSpec(Struct, frozen=True):
    """A tool on offer; `parameters` is its JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Json] = field(default_factory=lambda: {"type": "object", "properties": {}})


class ChatRequest(Struct, frozen=True, kw_only=True):
    """One question to a model.

    `model` is the vendor's id once the router has resolved it. None means "not sent": the vendor's
    default applies. `tool_choice` is "auto", "none", "required" or a tool's name. `schema` asks for
    a reply that matches a JSON schema. `effort` is the reasoning effort ("none", "low", "medium",
    "high", or a vendor's own word). `options` are extra fields of the vendor's body, merged last.
    `capped` says that a budget relies on `max_tokens`: it must be sent, and a provider that cannot
    send it refuses the request.
    """

    messages: tuple[Message, ...]
    model: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    schema: dict[str, Json] | None = None
    schema_name: str = "reply"
    effort: str = ""
    options: dict[str, Json] = field(default_factory=dict[str, Json])
    capped: bool = False


class Usage(Struct, frozen=True, gc=False):
    """Tokens of one reply in disjoint buckets: the total is input + cache_read + cache_write + output.

    `input` is uncached input. `cache_write_1h` is the part of `cache_write` that is kept for an hour,
    `reasoning` the part of `output` that was thought. `cost_usd` is the vendor's own figure, where it
    gives one (OpenRouter does). `partial` marks a reply that was cut: more may be billed than is known.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cache_write_1h: int = 0
    cost_usd: float | None = None
    partial: bool = False

    @property
    def total(self) -> int:
        """All tokens of the exchange."""
        return self.input + self.cache_read + self.cache_write + self.output

    @property
    def prompt(self) -> int:
        """All tokens that went in, cached or not."""
        return self.input + self.cache_read + self.cache_write


class ChatResponse(Struct, frozen=True, kw_only=True):
    """A complete reply. `usage` is None where the vendor gave none: unknown, not zero.

    `stopped` is the vendor's own word for `finish_reason`; `model` the id the vendor says answered.
    """

    message: Message
    finish_reason: FinishReason = ""
    stopped: str = ""
    usage: Usage | None = None
    model: str = ""
    id: str = ""
    provider: str = ""
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The reply's text."""
        return self.message.text

    @property
    def reasoning(self) -> str:
        """What the model showed of its thinking."""
        return self.message.reasoning

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls the model asks for."""
        return self.message.tool_calls


class TextDelta(Struct, frozen=True, tag="text", gc=False):
    """The next piece of text."""

    text: str


class ReasoningDelta(Struct, frozen=True, tag="reasoning", gc=False):
    """The next piece of reasoning."""

    text: str


class ToolCallDelta(Struct, frozen=True, tag="tool_call", gc=False):
    """A piece of tool call number `index`: its id and name come first, `arguments` grows."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Reset(Struct, frozen=True, tag="reset"):
    """All that came before is void: the reply starts again, from another host perhaps."""

    reason: str


class End(Struct, frozen=True, tag="end"):
    """The last chunk of every complete stream: the whole reply."""

    response: ChatResponse


Chunk: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | Reset | End


class Model(Struct, frozen=True):
    """A model on offer; windows in tokens, None where the vendor does not say."""

    id: str
    name: str = ""
    context_window: int | None = None
    max_output: int | None = None
    owner: str = ""
