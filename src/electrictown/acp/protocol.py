"""What is said in the Agent Client Protocol, version 1: the part of it that we use.

Fields and words are those of the schema that the protocol's makers publish (npm `@agentclientprotocol/sdk`
2.4.0), and `models` of the versions before, which agents still speak. Agents leave out what they must send
and send null for what they do not know, so nearly everything has a default.
"""

from __future__ import annotations

import shlex
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, field

__all__ = [
    "VERSION",
    "AuthMethod",
    "Chunk",
    "ConfigOption",
    "Initialized",
    "Kind",
    "Opened",
    "PermissionOption",
    "PermissionRequest",
    "Plan",
    "PromptEnd",
    "ReadRequest",
    "ToolCall",
    "Update",
    "UsageTold",
    "UsageUpdate",
    "WriteRequest",
]

VERSION: Final = 1


class _Said(Struct, frozen=True, rename="camel"):
    pass


class AuthMethod(_Said, frozen=True):
    """A way to log in."""

    id: str = ""
    name: str | None = None
    description: str | None = None


class _Capabilities(_Said, frozen=True):
    load_session: bool | None = None
    session_capabilities: dict[str, Any] | None = None


class Initialized(_Said, frozen=True):
    """The answer to `initialize`."""

    protocol_version: int
    agent_capabilities: _Capabilities | None = None
    auth_methods: list[AuthMethod] | None = None


class _Choice(_Said, frozen=True):
    """A value of an option, or a group of them."""

    value: str = ""
    options: list[_Choice] | None = None


class ConfigOption(_Said, frozen=True):
    """Something about a session that can be chosen. Its values are `values`."""

    id: str
    category: str | None = None
    current_value: str | bool | None = None
    options: list[_Choice] | None = None

    @property
    def values(self) -> tuple[str, ...]:
        """All values that may be chosen."""
        nested = [each for choice in self.options or () for each in (choice, *(choice.options or ()))]
        return tuple(choice.value for choice in nested if choice.value)


class _Model(_Said, frozen=True):
    model_id: str = ""


class _Models(_Said, frozen=True):
    available_models: list[_Model] | None = None
    current_model_id: str | None = None


class Opened(_Said, frozen=True):
    """The answer to `session/new`, and to what takes a session up again (then without an id)."""

    session_id: str = ""
    models: _Models | None = None
    config_options: list[ConfigOption] | None = None


class UsageTold(_Said, frozen=True):
    """Tokens of a turn."""

    input_tokens: int
    output_tokens: int
    total_tokens: int | None = None
    thought_tokens: int | None = None
    cached_read_tokens: int | None = None
    cached_write_tokens: int | None = None


class _Count(Struct, frozen=True):
    input_tokens: int
    output_tokens: int


class _ModelUsage(Struct, frozen=True):
    model: str = ""


class _Quota(Struct, frozen=True):
    token_count: _Count | None = None
    model_usage: list[_ModelUsage] | None = None


class _Meta(Struct, frozen=True):
    quota: _Quota | None = None
    """gemini-cli's own."""


class PromptEnd(_Said, frozen=True):
    """The answer to `session/prompt`. `meta` and `usage` are read apart: they are not agreed upon yet."""

    stop_reason: str
    usage: Raw = Raw(b"null")
    meta: Raw = field(name="_meta", default=Raw(b"null"))

    @property
    def told(self) -> tuple[UsageTold | None, str]:
        """The turn's tokens and its one model, as far as they are told."""
        try:
            usage = msgspec.json.decode(self.usage, type=UsageTold | None)
            meta = msgspec.json.decode(self.meta, type=_Meta | None)
        except msgspec.DecodeError:
            return None, ""
        quota = meta.quota if meta is not None else None
        if quota is None:
            return usage, ""
        models = {each.model for each in quota.model_usage or ()}
        if usage is None and quota.token_count is not None:
            usage = UsageTold(quota.token_count.input_tokens, quota.token_count.output_tokens)
        return usage, models.pop() if len(models) == 1 else ""


class Update(_Said, frozen=True):
    """The notification `session/update`."""

    session_id: str
    update: Raw


class Kind(_Said, frozen=True):
    """Which update it is."""

    session_update: str


class _Content(_Said, frozen=True):
    type: str
    text: str = ""


class Chunk(_Said, frozen=True):
    """A piece of a message. Pieces of one message have one id, where there are ids."""

    content: _Content
    message_id: str | None = None


class _Location(_Said, frozen=True):
    path: str


class _Piece(_Said, frozen=True):
    """A part of what a tool call has to show; the path is a diff's."""

    type: str
    path: str | None = None
    content: _Content | None = None


class _Run(Struct, frozen=True):
    command: str | list[str]


class ToolCall(_Said, frozen=True):
    """A tool call, or what is new of it: fields that are None are as they were."""

    tool_call_id: str
    title: str | None = None
    kind: str | None = None
    status: str | None = None
    locations: list[_Location] | None = None
    content: list[_Piece] | None = None
    raw_input: Raw = Raw(b"null")

    def updated(self, new: ToolCall) -> ToolCall:
        """This call with what is new of it."""
        return ToolCall(
            self.tool_call_id,
            new.title or self.title,
            new.kind or self.kind,
            new.status or self.status,
            new.locations or self.locations,
            new.content or self.content,
            self.raw_input if bytes(new.raw_input) in (b"null", b"{}") else new.raw_input,
        )

    @property
    def command(self) -> str:
        """The command it means to run, where it says so as agents do; "" otherwise."""
        try:
            command = msgspec.json.decode(self.raw_input, type=_Run).command
        except msgspec.DecodeError:
            return ""
        return command if isinstance(command, str) else shlex.join(command)

    @property
    def told(self) -> str:
        """The first text of what it has to show."""
        return next((piece.content.text for piece in self.content or () if piece.content is not None), "")

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path it names, as the agent has them."""
        named = [location.path for location in self.locations or ()]
        named += [piece.path for piece in self.content or () if piece.path]
        return tuple(dict.fromkeys(named))


class _PlanEntry(_Said, frozen=True):
    content: str = ""
    status: str = ""


class Plan(_Said, frozen=True):
    """What the agent means to do, whole each time."""

    entries: list[_PlanEntry]


class _Money(_Said, frozen=True):
    amount: float
    currency: str


class UsageUpdate(_Said, frozen=True):
    """What the session has cost since it was begun."""

    cost: _Money | None = None


class PermissionOption(_Said, frozen=True):
    """A way to answer; `kind` is allow_once, allow_always, reject_once or reject_always."""

    option_id: str
    kind: str


class PermissionRequest(_Said, frozen=True):
    """The request `session/request_permission`."""

    tool_call: ToolCall
    options: list[PermissionOption]


class ReadRequest(_Said, frozen=True):
    """The request `fs/read_text_file`."""

    path: str
    line: int | None = None
    limit: int | None = None


class WriteRequest(_Said, frozen=True):
    """The request `fs/write_text_file`."""

    path: str
    content: str
