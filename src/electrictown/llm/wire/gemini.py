"""Google's Gemini API, asked: https://ai.google.dev/api/generate-content. Answers: `gemini_reply`.

What this wire decides where the vendor leaves a choice:

* Thinking follows `effort`: `thinkingLevel` from Gemini 3 on (and for names without a number),
  `thinkingBudget` for 2.5, nothing for others, which refuse the field. Thoughts are asked for too.
* Thought signatures go back exactly as they came. A function call without one, made by another model,
  gets the value the vendor provides for that: Gemini 3 refuses the turn otherwise.
  https://ai.google.dev/gemini-api/docs/thought-signatures
* Thoughts without a signature are not sent back: they are summaries for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal
from urllib.parse import quote

from electrictown.errors import BadReplyError, ProviderError
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
from electrictown.llm.wire.base import HttpCall, ModelsPage
from electrictown.llm.wire.common import as_int, as_text, encode_json, excerpt, json_or_text, parse_json
from electrictown.llm.wire.gemini_errors import typed_error
from electrictown.llm.wire.gemini_plain import plain_gemini
from electrictown.llm.wire.gemini_reply import GeminiDecoder, decode_reply
from electrictown.llm.wire.parts import Numbered, arguments_object, as_object, as_objects, call_names, merged
from electrictown.llm.wire.streamed import decode_events

__all__ = ["GeminiWire"]

_PAGE = "/v1beta/models?pageSize=1000"
_BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24_576}
_FOREIGN_SIGNATURE = "skip_thought_signature_validator"


class GeminiWire:
    """`generateContent` and its stream; `origin` is the provider entry's name, stamped on every reply."""

    framing: Literal["sse", "ndjson"] = "sse"

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def encode(self, request: ChatRequest, *, stream: bool) -> HttpCall:
        """`POST /v1beta/models/{model}:generateContent`, or `:streamGenerateContent?alt=sse`."""
        body = merged(_body(request, self.origin), request.options)
        return HttpCall(_path(request.model, stream=stream), encode_json(body))

    def decode(self, body: bytes) -> ChatResponse:
        """The reply in a complete body, or in the list of chunks that a stream without `alt=sse` is."""
        plain = plain_gemini(body, self.origin)
        return plain or decode_events(body, self.decoder) or decode_reply(body, self.origin)

    def decoder(self) -> GeminiDecoder:
        """A new decoder for one stream."""
        return GeminiDecoder(self.origin)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The typed error of an answer with `status` >= 400; `param` is a field of the request's body."""
        return typed_error(json_or_text(body.decode("utf-8", "replace").strip()), status, headers)

    def list_models(self) -> HttpCall:
        """The call for the first page of models."""
        return HttpCall(_PAGE, method="GET")

    def decode_models(self, body: bytes) -> ModelsPage:
        """One page of models, named without `models/`; `nextPageToken` leads to the next.

        Raises:
            BadReplyError: for a body that is not a list of models.
        """
        page: Json = parse_json(body)
        # A key without models gets `{}`.
        if not isinstance(page, dict) or "error" in page:
            raise BadReplyError(f"this is no list of models: {excerpt(body)}")
        models = [
            Model(
                id=as_text(m["name"]).removeprefix("models/"),
                name=as_text(m.get("displayName")),
                context_window=as_int(m.get("inputTokenLimit")) or None,
                max_output=as_int(m.get("outputTokenLimit")) or None,
                owner="google",
            )
            for m in as_objects(as_object(page).get("models"))
            if m.get("name")
        ]
        token = as_text(as_object(page).get("nextPageToken"))
        following = HttpCall(f"{_PAGE}&pageToken={quote(token, safe='')}", method="GET") if token else None
        return ModelsPage(models, following)


@lru_cache(256)  # a program has few models
def _path(model: str, *, stream: bool) -> str:
    named = model if "/" in model else f"models/{model}"
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/v1beta/{quote(named)}:{verb}"


def _body(request: ChatRequest, origin: str) -> dict[str, Json]:
    messages = without_opaque(request.messages, origin)
    body: dict[str, Json] = {"contents": _contents(messages, _generation(request.model))}
    system = [{"text": m.text} for m in messages if m.role == "system" and m.text]
    if system and not body["contents"]:  # instructions alone are no question
        body["contents"] = [{"role": "user", "parts": system}]
    elif system:
        body["systemInstruction"] = {"parts": system}
    if request.tools:
        body["tools"] = [
            {
                "functionDeclarations": [
                    {"name": t.name, "description": t.description, "parametersJsonSchema": t.parameters}
                    for t in request.tools
                ]
            }
        ]
        if request.tool_choice not in ("", "auto"):
            body["toolConfig"] = {"functionCallingConfig": _calling(request.tool_choice)}
    if config := _config(request):
        body["generationConfig"] = config
    return body


def _calling(choice: str) -> dict[str, Json]:
    if choice in ("none", "required"):
        return {"mode": "ANY" if choice == "required" else "NONE"}
    return {"mode": "ANY", "allowedFunctionNames": [choice]}


def _config(request: ChatRequest) -> dict[str, Json]:
    config: dict[str, Json] = {}
    if request.max_tokens is not None:
        config["maxOutputTokens"] = request.max_tokens
    if request.temperature is not None:
        config["temperature"] = request.temperature
    if request.top_p is not None:
        config["topP"] = request.top_p
    if request.stop:
        config["stopSequences"] = list(request.stop)
    if request.schema is not None:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = request.schema
    if request.effort and (thinking := _thinking(request.model.lower(), request.effort)):
        config["thinkingConfig"] = thinking
    return config


_NUMBER = re.compile(r"gemini-(\d+)(?:\.(\d+))?")


@lru_cache(256)
def _generation(model: str) -> tuple[int, int]:
    """Version of a Gemini by its name: (2, 5); a nameless one is new, a model of another family old."""
    found = _NUMBER.search(model.lower())
    if found:
        return int(found[1]), int(found[2] or 0)
    return (99, 0) if "gemini" in model.lower() else (0, 0)


def _thinking(model: str, effort: str) -> dict[str, Json] | None:
    version = _generation(model)
    if version < (2, 5):
        return None
    if version >= (3, 0):
        if effort == "none":  # it cannot be switched off; pro does not know the lowest level
            return {"thinkingLevel": "low" if "pro" in model else "minimal"}
        return {"thinkingLevel": effort, "includeThoughts": True}
    if effort == "none":
        return {"thinkingBudget": 128 if "pro" in model else 0}
    return {"thinkingBudget": _BUDGETS.get(effort, -1), "includeThoughts": True}  # -1: the model decides


def _contents(messages: tuple[Message, ...], version: tuple[int, int]) -> list[dict[str, Json]]:
    names = call_names(messages)
    contents: list[dict[str, Json]] = []
    results: list[Json] | None = None  # the open turn of function responses: one turn for parallel calls
    for message in messages:
        if message.role == "system":
            continue
        text = message.plain
        parts: list[Json] = [{"text": text}] if text else _parts(message, names)
        if message.role == "assistant" and version >= (3, 0):
            _sign(parts)
        if message.role == "tool" and results is not None:
            results.extend(parts)
        elif parts:
            contents.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
            results = parts if message.role == "tool" else None
    return contents


def _parts(message: Message, names: dict[str, str]) -> list[Json]:
    parts: list[Json] = []
    for part in message.parts:
        match part:
            case Text(text, opaque):
                if text or opaque:
                    parts.append({"text": text, **(opaque or {})})
            case Reasoning(text, opaque):
                if opaque:
                    parts.append({"text": text, "thought": True, **opaque})
            case ToolCall(id, name, arguments, opaque):
                call: dict[str, Json] = {"name": name, "args": arguments_object(arguments)}
                parts.append({"functionCall": _identified(call, id), **(opaque or {})})
            case ToolResult(id, name, text, is_error):
                answer = {
                    "name": name or names.get(id, id),
                    "response": {"error" if is_error else "output": text},
                }
                parts.append({"functionResponse": _identified(answer, id)})
            case Opaque(data):
                parts.append(data)
    return parts


def _identified(call: dict[str, Json], call_id: str) -> dict[str, Json]:
    """`call` with its id, unless we made that up: then the vendor matches by name and order."""
    return call if not call_id or Numbered.made(call_id) else {**call, "id": call_id}


def _sign(parts: list[Json]) -> None:
    calls = [p for p in parts if "functionCall" in p]
    if calls and not any("thoughtSignature" in p for p in calls):
        calls[0]["thoughtSignature"] = _FOREIGN_SIGNATURE
