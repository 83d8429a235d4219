"""Ollama's native API: https://docs.ollama.com/api. NDJSON; a stream ends with `done: true`.

What this wire decides where the vendor leaves a choice:

* `num_ctx` is the wire's, the same in every request: a change would reload the model on the host.
* There is no `tool_choice`: "none" offers no tools, a tool's name offers that one, "required" is "auto".
* `think` follows `effort`: the word itself for gpt-oss, which knows levels, else true or false.
* `truncate: false` and `shift: false` (newer servers: an error instead of silent truncation) are sent
  where the request's options say so; `truncated` finds what older servers cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from electrictown.errors import BadReplyError, ProviderError
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Chunk,
    End,
    Json,
    Message,
    Model,
    Opaque,
    Part,
    ToolCall,
    ToolResult,
    Usage,
    without_opaque,
)
from electrictown.llm.wire.base import HttpCall, ModelsPage
from electrictown.llm.wire.common import as_int, as_text, encode_json, excerpt, json_or_text, parse_json
from electrictown.llm.wire.ollama_plain import plain_ollama
from electrictown.llm.wire.ollama_reply import OllamaDecoder, typed_error
from electrictown.llm.wire.parts import (
    Numbered,
    arguments_object,
    as_list,
    as_object,
    as_objects,
    call_names,
    merged,
)

__all__ = [
    "LOADED",
    "VERSION",
    "OllamaWire",
    "Shown",
    "decode_loaded",
    "decode_shown",
    "decode_version",
    "show",
    "truncated",
]


class OllamaWire:
    """`/api/chat`; `origin` is the provider entry's name, stamped on every reply.

    `num_ctx` is the context window in tokens to ask of the host; None leaves the host's default.
    """

    framing: Literal["sse", "ndjson"] = "ndjson"

    def __init__(self, origin: str, *, num_ctx: int | None = None) -> None:
        self.origin = origin
        self.num_ctx = num_ctx

    def encode(self, request: ChatRequest, *, stream: bool) -> HttpCall:
        """`POST /api/chat`; see the module's text for the choices made."""
        body: dict[str, Json] = {
            "model": request.model,
            "messages": _messages(without_opaque(request.messages, self.origin)),
            "stream": stream,
        }
        if tools := [
            {
                "type": "function",
                "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
            }
            for t in request.tools
            if request.tool_choice in ("", "auto", "required", t.name)
        ]:
            body["tools"] = tools
        if request.schema is not None:
            body["format"] = request.schema
        if request.effort:
            leveled = "gpt-oss" in request.model and request.effort != "none"
            body["think"] = request.effort if leveled else request.effort != "none"
        if options := self._options(request):
            body["options"] = options
        return HttpCall("/api/chat", encode_json(merged(body, request.options)))

    def _options(self, request: ChatRequest) -> dict[str, Json]:
        options: dict[str, Json] = {
            "num_ctx": self.num_ctx,
            "num_predict": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": list(request.stop) or None,
        }
        return {name: value for name, value in options.items() if value is not None}

    def decode(self, body: bytes) -> ChatResponse:
        """The reply in a complete body; lines are taken too, from servers that always stream."""
        if (plain := plain_ollama(body, self.origin)) is not None:
            return plain
        whole = json_or_text(body.decode("utf-8", "replace"))
        decoder = self.decoder()
        out: list[Chunk] = []
        if isinstance(whole, dict):
            decoder.take(as_object(whole), out)
        else:
            for line in body.split(b"\n"):
                if line.strip():
                    decoder.feed(line, out)
        end = out[-1] if out else None
        if not isinstance(end, End):
            raise BadReplyError(f"this is no reply: {excerpt(body) or '(empty)'}")
        return end.response

    def decoder(self) -> OllamaDecoder:
        """A new decoder for one stream."""
        return OllamaDecoder(self.origin)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The typed error of an answer with `status` >= 400; `param` is a field of the request's body."""
        return typed_error(json_or_text(body.decode("utf-8", "replace").strip()), status, headers)

    def list_models(self) -> HttpCall:
        """The call for the models the host holds; there is one page."""
        return HttpCall("/api/tags", method="GET")

    def decode_models(self, body: bytes) -> ModelsPage:
        """The models the host holds.

        Raises:
            BadReplyError: for a body that is not a list of models.
        """
        page: Json = parse_json(body)
        if not isinstance(page, dict) or "models" not in page:
            raise BadReplyError(f"this is no list of models: {excerpt(body)}")
        found = as_objects(as_object(page)["models"])
        names = [as_text(m.get("name")) or as_text(m.get("model")) for m in found]
        return ModelsPage([Model(id=name) for name in names if name])


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Json]]:
    names = call_names(messages)
    sent: list[dict[str, Json]] = []
    for message in messages:
        if text := message.plain:
            sent.append({"role": message.role, "content": text})
            continue
        turn: dict[str, Json] = {"role": message.role, "content": message.text}
        if thinking := message.reasoning:
            turn["thinking"] = thinking
        if calls := message.tool_calls:
            turn["tool_calls"] = [
                _identified(
                    {"function": {"name": c.name, "arguments": arguments_object(c.arguments)}}, "id", c.id
                )
                for c in calls
            ]
        results = [p for p in message.parts if isinstance(p, ToolResult)]
        if turn["content"] or calls or (message.role != "tool" and not results):
            sent.append(turn)
        sent.extend(
            _identified(
                {"role": "tool", "content": r.text, "tool_name": r.name or names.get(r.call_id, "")},
                "tool_call_id",
                r.call_id,
            )
            for r in results
        )
    return sent


def _identified(value: dict[str, Json], key: str, call_id: str) -> dict[str, Json]:
    """`value` with the call's id, unless we made that up."""
    return value if not call_id or Numbered.made(call_id) else {**value, key: call_id}


# What a host says of itself, for `inspect()` and `context_window()`.

VERSION = HttpCall("/api/version", method="GET")
"""Asks for the host's version."""

LOADED = HttpCall("/api/ps", method="GET")
"""Asks for the models that are in memory now."""


class Shown(Struct, frozen=True):
    """What `/api/show` says of a model.

    `context_window` is what the model was made for, `num_ctx` what its Modelfile sets (None: nothing);
    the host's own default, which is often smaller, is in neither.
    """

    context_window: int | None = None
    num_ctx: int | None = None
    capabilities: tuple[str, ...] = ()


def show(model: str) -> HttpCall:
    """Asks for what the host knows of `model`."""
    return HttpCall("/api/show", encode_json({"model": model}))


def decode_version(body: bytes) -> str:
    """The version in the answer to `VERSION`, "" where there is none.

    Raises:
        BadReplyError: for a body that is not JSON.
    """
    return as_text(as_object(parse_json(body)).get("version"))


def decode_loaded(body: bytes) -> dict[str, int | None]:
    """The models in the answer to `LOADED`, each with the window it was loaded with where the host says.

    Raises:
        BadReplyError: for a body that is not JSON.
    """
    models = as_objects(as_object(parse_json(body)).get("models"))
    named = [(as_text(m.get("name")) or as_text(m.get("model")), m) for m in models]
    return {name: as_int(m.get("context_length")) or None for name, m in named if name}


def decode_shown(body: bytes) -> Shown:
    """What the answer to `show` says.

    Raises:
        BadReplyError: for a body that is not JSON.
    """
    found = as_object(parse_json(body))
    facts = as_object(found.get("model_info"))
    window = next((as_int(v) for k, v in facts.items() if k.endswith(".context_length")), 0)
    settings = [line.split() for line in as_text(found.get("parameters")).splitlines()]
    chosen = next((as_int(words[1]) for words in settings if len(words) == 2 and words[0] == "num_ctx"), 0)
    return Shown(
        context_window=window or None,
        num_ctx=chosen or None,
        capabilities=tuple(word for word in as_list(found.get("capabilities")) if isinstance(word, str)),
    )


def truncated(request: ChatRequest, num_ctx: int | None, usage: Usage | None) -> bool:
    """Whether a host with a window of `num_ctx` tokens has silently cut the prompt of `request`.

    Old servers cut and say nothing. Two signs count, and a small prompt_eval_count is none of them (a
    cached prefix is not counted by some servers):

    * more words than the window has tokens: a token is hardly ever more than a word;
    * a prompt that filled the window to the brim, of a text that may well be longer (two characters a
      token, fewer than any tokenizer makes of prose or code).

    A prompt counted larger than `num_ctx` shows that the host has a larger window, and cut nothing.
    """
    prompt = usage.prompt if usage is not None else 0
    if num_ctx is None or prompt > num_ctx:
        return False
    texts = [_read(part) for message in request.messages for part in message.parts]
    if sum(len(text.split()) for text in texts) > num_ctx:
        return True
    return prompt >= num_ctx - max(8, num_ctx // 256) and sum(map(len, texts)) > 2 * num_ctx


def _read(part: Part) -> str:
    if isinstance(part, ToolCall):
        return part.arguments
    return "" if isinstance(part, Opaque) else part.text
