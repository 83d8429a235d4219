"""Anthropic's Messages API, asked: https://docs.claude.com/en/api/messages (and servers that speak it).

Answers: `anthropic_reply`, `anthropic_stream`. What this wire decides where the vendor leaves a choice:

* `max_tokens` is required and covers thinking. Without one in the request: 4096 for Claude 3, 8192 for
  3.5 and for models of others, 16000 for all later ones, and room for thinking on top.
* Thinking follows `effort`: `adaptive` plus `output_config.effort` from Claude 4.6 on, `enabled` with a
  budget before and for models of others, nothing before 3.7. It goes with neither a forced tool nor a
  temperature, so a forced tool wins over thinking and thinking over temperature and top_p.
* A schema goes into `output_config.format` from Claude 4.1 on, limits that constrained decoding does not
  know removed. Elsewhere the model must call a tool with that schema; its input comes back as text.
* Prompt caching: long prompts (16,000 characters, about the largest minimum of any model) get a
  breakpoint after tools and system prompt, and one at the end of a conversation under way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal
from urllib.parse import quote

import msgspec

from electrictown.errors import BadReplyError, BadRequestError, ProviderError
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Json,
    Message,
    Model,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    without_opaque,
)
from electrictown.llm.wire.anthropic_plain import plain_anthropic
from electrictown.llm.wire.anthropic_reply import REPLY_TOOL, decode_message, typed_error
from electrictown.llm.wire.anthropic_stream import AnthropicDecoder
from electrictown.llm.wire.base import HttpCall, ModelsPage
from electrictown.llm.wire.common import as_int, as_text, encode_json, excerpt, parse_json
from electrictown.llm.wire.faults import read_fault
from electrictown.llm.wire.parts import arguments_object, as_object, as_objects, merged, strict_schema
from electrictown.llm.wire.streamed import decode_events

__all__ = ["AnthropicWire"]

_VERSION = "2023-06-01"
_CACHE_FROM = 16_000
_EPHEMERAL = {"type": "ephemeral"}
_BUDGETS = {"minimal": 1024, "low": 4096, "medium": 8192, "high": 16_000}
_ADAPTIVE = (4, 6)
_STRUCTURED = (4, 1)
_NEWEST = (99, 0)


class AnthropicWire:
    """The Messages API; `origin` is the provider entry's name, stamped on every reply.

    `cache=False` leaves out all cache breakpoints, for servers that refuse them.
    """

    framing: Literal["sse", "ndjson"] = "sse"

    def __init__(self, origin: str, *, cache: bool = True) -> None:
        self.origin = origin
        self._cache = cache
        self._headers = {"anthropic-version": _VERSION}

    def encode(self, request: ChatRequest, *, stream: bool) -> HttpCall:
        """`POST /v1/messages`; see the module's text for the choices made."""
        body = _Body(request, self.origin).build(cache=self._cache)
        body["stream"] = stream
        return HttpCall("/v1/messages", encode_json(merged(body, request.options)), headers=self._headers)

    def decode(self, body: bytes) -> ChatResponse:
        """The reply in a complete body; see `Wire.decode`."""
        plain = plain_anthropic(body, self.origin)
        return plain or decode_events(body, self.decoder) or decode_message(body, self.origin)

    def decoder(self) -> AnthropicDecoder:
        """A new decoder for one stream."""
        return AnthropicDecoder(self.origin)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The typed error of an answer with `status` >= 400; `param` is a field of the request's body."""
        error = typed_error(read_fault(body), status, headers)
        if isinstance(error, BadRequestError):
            error.param = _refused_field(error)
        return error

    def list_models(self) -> HttpCall:
        """The call for the first page of models."""
        return self._models_page("")

    def decode_models(self, body: bytes) -> ModelsPage:
        """One page of models; `has_more` and `last_id` lead to the next.

        Raises:
            BadReplyError: for a body that is not a list of models.
        """
        page = as_object(parse_json(body))
        if not isinstance(page.get("data"), list):
            raise BadReplyError(f"this is no list of models: {excerpt(body)}")
        models = [
            Model(
                id=as_text(m["id"]),
                name=as_text(m.get("display_name")),
                context_window=as_int(m.get("max_input_tokens")) or None,
                max_output=as_int(m.get("max_tokens")) or None,
                owner=as_text(m.get("owned_by")) or "anthropic",
            )
            for m in as_objects(page["data"])
            if m.get("id")
        ]
        last = as_text(page.get("last_id")) or (models[-1].id if models else "")
        return ModelsPage(models, self._models_page(last) if page.get("has_more") and last else None)

    def _models_page(self, after: str) -> HttpCall:
        path = "/v1/models?limit=1000" + (f"&after_id={quote(after, safe='')}" if after else "")
        return HttpCall(path, method="GET", headers=self._headers)


def _refused_field(error: BadRequestError) -> str:
    """The field of the body that `error` objects to; this vendor often names the feature instead."""
    text = error.message.lower()
    if "effort parameter" in text:
        return "output_config.effort"
    return "thinking" if _NO_THINKING.search(text) else error.param


_NO_THINKING = re.compile(r"thinking[^ ]* (?:is|are) not supported")
_GENERATION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")


@lru_cache(256)  # a program has few models
def generation(model: str) -> tuple[int, int] | None:
    """Version of a Claude by its name: (4, 5); None for a model of others, a nameless one is new."""
    if "claude" not in model.lower():
        return None
    found = _GENERATION.search(model.lower())
    return (int(found[1]), int(found[2] or 0)) if found else _NEWEST


class _Body:
    """The body of one request in the making."""

    def __init__(self, request: ChatRequest, origin: str) -> None:
        self._request = request
        self._messages = without_opaque(request.messages, origin)
        self._generation = generation(request.model)
        self._ids = _Ids()
        self._container = ""

    def build(self, *, cache: bool) -> dict[str, Json]:
        request = self._request
        system = "\n\n".join(m.text for m in self._messages if m.role == "system" and m.text)
        turns = self._turns()
        if system and not turns:  # instructions alone are no question
            turns, system = [{"role": "user", "content": [{"type": "text", "text": system}]}], ""
        body: dict[str, Json] = {
            "model": request.model,
            "max_tokens": request.max_tokens or self._default_max_tokens(),
        }
        if system:
            body["system"] = system
        body["messages"] = turns
        tools: list[dict[str, Json]] = [
            {"name": t.name, "description": t.description, "input_schema": t.parameters}
            if t.description
            else {"name": t.name, "input_schema": t.parameters}
            for t in request.tools
        ]
        choice = self._schema(body, tools) or self._tool_choice()
        if tools:
            body["tools"] = tools
            if choice:
                body["tool_choice"] = choice
        self._think(body, forced=bool(choice) and choice["type"] in ("any", "tool"))
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if self._container:
            body["container"] = self._container
        if cache:
            _set_breakpoints(body)
        return body

    def _turns(self) -> list[dict[str, Json]]:
        # Roles alternate; the results of parallel calls stand together in the turn after the calls.
        turns: list[dict[str, Json]] = []
        for message in self._messages:
            if message.role == "system":
                continue
            if text := message.plain:
                blocks: list[dict[str, Json]] = [{"type": "text", "text": text}]
            elif not (blocks := self._blocks(message)):
                continue
            role = "assistant" if message.role == "assistant" else "user"
            if turns and turns[-1]["role"] == role:
                turns[-1]["content"].extend(blocks)
            else:
                turns.append({"role": role, "content": blocks})
        return turns

    def _blocks(self, message: Message) -> list[dict[str, Json]]:
        blocks: list[dict[str, Json]] = []
        for part in message.parts:
            match part:
                case Text(text, opaque):
                    if text:  # an empty block is refused
                        blocks.append({"type": "text", "text": text, **(opaque or {})})
                case Reasoning(text, opaque):
                    if opaque and opaque.get("signature"):  # without one it cannot be verified
                        blocks.append({"type": "thinking", "thinking": text, **opaque})
                case ToolCall(id, name, arguments, opaque):
                    call = {"type": "tool_use", "id": self._ids.of_call(id), "name": name}
                    blocks.append({**call, "input": arguments_object(arguments), **(opaque or {})})
                case ToolResult(id, _, text, is_error):
                    result = {"type": "tool_result", "tool_use_id": self._ids.of_result(id), "content": text}
                    blocks.append({**result, "is_error": True} if is_error else result)
                case Opaque(data):
                    if "type" in data:
                        blocks.append(data)
                    elif container := as_object(data.get("container")):
                        self._container = as_text(container.get("id"))
        return blocks

    def _default_max_tokens(self) -> int:
        version = self._generation
        if version is None:
            return 8192
        if version < (3, 5):
            return 4096
        if version < (3, 7):
            return 8192
        return 32_000 if self._request.effort not in ("", "none") else 16_000

    def _tool_choice(self) -> dict[str, Json] | None:
        choice = self._request.tool_choice
        if choice in ("", "auto"):
            return None
        if choice in ("none", "required"):
            return {"type": "any" if choice == "required" else "none"}
        return {"type": "tool", "name": choice}

    def _schema(self, body: dict[str, Json], tools: list[dict[str, Json]]) -> dict[str, Json] | None:
        """Asks for the schema; the forced choice where that takes a tool of its own."""
        schema = self._request.schema
        if schema is None:
            return None
        strict = strict_schema(schema)
        if strict is not None and self._generation is not None and self._generation >= _STRUCTURED:
            body["output_config"] = {"format": {"type": "json_schema", "schema": strict}}
            return None
        free = bool(tools) and self._request.tool_choice != "none"
        tools.append({"name": REPLY_TOOL, "description": "Gives the reply.", "input_schema": schema})
        return {"type": "any"} if free else {"type": "tool", "name": REPLY_TOOL}

    def _think(self, body: dict[str, Json], *, forced: bool) -> None:
        request = self._request
        thinking = None if forced else self._thinking(body["max_tokens"])
        if thinking is not None:
            body["thinking"] = thinking
            if thinking["type"] == "adaptive":
                effort = "low" if request.effort == "minimal" else request.effort
                body["output_config"] = {**body.get("output_config", {}), "effort": effort}
        if thinking is None or thinking["type"] == "disabled":
            if request.temperature is not None:
                body["temperature"] = request.temperature
            if request.top_p is not None:
                body["top_p"] = request.top_p

    def _thinking(self, max_tokens: int) -> dict[str, Json] | None:
        effort, version = self._request.effort, self._generation
        if not effort or (version is not None and version < (3, 7)):
            return None
        if effort == "none":
            return {"type": "disabled"} if version is None or version >= _ADAPTIVE else None
        if version is not None and version >= _ADAPTIVE:
            return {"type": "adaptive"}
        budget = min(_BUDGETS.get(effort, _BUDGETS["high"]), max_tokens // 2)
        return {"type": "enabled", "budget_tokens": budget} if budget >= 1024 else None


_BAD_ID = re.compile(r"[^a-zA-Z0-9_-]")


class _Ids:
    """Ids as this vendor takes them: of few characters, and each used once in a conversation."""

    def __init__(self) -> None:
        self._current: dict[str, str] = {}
        self._used: set[str] = set()

    def of_call(self, call_id: str) -> str:
        plain = _BAD_ID.sub("_", call_id) or "call"
        chosen, number = plain, 1
        while chosen in self._used:
            number += 1
            chosen = f"{plain}_{number}"
        self._used.add(chosen)
        self._current[call_id] = chosen
        return chosen

    def of_result(self, call_id: str) -> str:
        return self._current.get(call_id) or _BAD_ID.sub("_", call_id)


def _set_breakpoints(body: dict[str, Json]) -> None:
    system: str = body.get("system", "")
    tools: list[dict[str, Json]] = body.get("tools", [])
    turns: list[dict[str, Json]] = body["messages"]
    prefix = len(system) + (len(encode_json(tools)) if tools else 0)
    if prefix >= _CACHE_FROM:
        if system:
            body["system"] = [{"type": "text", "text": system, "cache_control": _EPHEMERAL}]
        else:
            tools[-1] = {**tools[-1], "cache_control": _EPHEMERAL}
    if len(turns) > 2 and prefix + _length(turns) >= _CACHE_FROM:
        block = turns[-1]["content"][-1]
        if block["type"] in ("text", "tool_result"):
            turns[-1]["content"][-1] = {**block, "cache_control": _EPHEMERAL}


def _length(turns: list[dict[str, Json]]) -> int:
    """How many characters of text, arguments and results the turns hold, about."""
    total = 0
    for turn in turns:
        for block in turn["content"]:
            held = block.get("text") or block.get("content") or block.get("input") or ""
            total += len(held) if isinstance(held, str) else len(msgspec.json.encode(held))
    return total
