"""What electrictown.yaml may say: the models that a file is read into, and nothing else.

The descriptions are the documentation: `et schema` and docs/configuration.md are made from them.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    WithJsonSchema,
)

from electrictown.config.origin import Origin, Source
from electrictown.config.yaml_tree import as_json
from electrictown.redact import Secret

__all__ = [
    "ClusterConfig",
    "Config",
    "DefaultsConfig",
    "ModelConfig",
    "PriceConfig",
    "ProviderConfig",
    "RoleConfig",
    "SpecialistConfig",
    "TimeoutsConfig",
]


def _secret(value: object) -> Secret:
    if not isinstance(value, str):
        raise ValueError("not text")  # noqa: TRY004  (pydantic collects ValueError only)
    return Secret(value)


_Key = Annotated[Secret, PlainValidator(_secret), WithJsonSchema({"type": "string"})]
_Options = Annotated[dict[str, Any], BeforeValidator(as_json)]
_Count = Annotated[int, Field(ge=1)]
_Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Dollars = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Temperature = Annotated[float, Field(ge=0, le=2)]


class _Part(BaseModel):
    # Models are built once, as parts of Config's: nobody validates a part alone. So a default is made by
    # `model_construct`: the constructor would validate it, and build the part's own validator for that.
    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, arbitrary_types_allowed=True, hide_input_in_errors=True
    )


class TimeoutsConfig(_Part):
    """The four limits of one request, in seconds; 0 is no limit."""

    connect: _Seconds = Field(default=10.0, description="Until the connection stands.")
    first_token: _Seconds = Field(
        default=120.0,
        description="From the request to the first byte of the reply; raise it for models that load slowly.",
    )
    idle: _Seconds = Field(default=60.0, description="Between two pieces of a stream.")
    total: _Seconds = Field(default=1800.0, description="The whole request.")


class ProviderConfig(_Part):
    """An endpoint: where it is and how it is asked."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(
        description="What it speaks: `openai` (and every compatible server), `anthropic`, `gemini`, "
        "`ollama`, `lmstudio`, `local` (llama.cpp inside the program), `scripted` (plays a script), or a "
        "type that an installed package adds."
    )
    base_url: str = Field(default="", description="Where it answers; the vendor's own address if left out.")
    api_key: _Key = Field(
        default_factory=lambda: Secret(""),
        description="The key, best as `$VARIABLE`. For `auth_type: basic` it is `user:password`.",
        repr=False,
    )
    auth_type: Literal["bearer", "basic", "none"] | None = Field(
        default=None,
        description="How an Ollama host is asked: `bearer` (the default where there is a key), `basic`, "
        "`none`. OpenAI, Anthropic and Gemini have one way each and ignore it.",
    )
    org: str = Field(default="", description="OpenAI's organization id.")
    api: Literal["chat", "responses"] | None = Field(
        default=None,
        description="Which of OpenAI's two APIs: `chat` (the default, and what compatible servers speak) "
        "or `responses`.",
    )
    headers: dict[str, str] = Field(
        default_factory=dict[str, str], description="Further HTTP headers of every request.", repr=False
    )
    max_in_flight: _Count | None = Field(
        default=None,
        description="How many calls this host takes at once, over all its models. Left out: one a pool slot.",
    )
    timeouts: TimeoutsConfig = Field(
        default_factory=TimeoutsConfig.model_construct, description="Limits of one request."
    )
    allow_incomplete: bool = Field(
        default=False,
        description="Accept a stream that ends without its protocol's end, for servers that never send one.",
    )
    num_ctx: _Count | None = Field(
        default=None,
        description="The context window in tokens that `ollama` and `local` load this host's models with.",
    )

    @property
    def extra(self) -> dict[str, Any]:
        """The keys that only this type of provider understands."""
        extra: dict[str, Any] = as_json(self.model_extra or {})
        return extra


class PriceConfig(_Part):
    """US dollars per million tokens."""

    input: _Money = Field(description="Tokens of the prompt that no cache held.")
    output: _Money = Field(description="Tokens of the reply, reasoning included.")
    cache_read: _Money | None = Field(
        default=None, description="Tokens read from the cache; left out: as `input`."
    )
    cache_write: _Money | None = Field(
        default=None, description="Tokens written to the cache; left out: as `input`."
    )


class ModelConfig(_Part):
    """A model's alias: which provider, which model there, and how it is asked."""

    provider: str = Field(description="A name under `providers`.")
    model: str = Field(
        description="The model's id at the provider. For `local`: a `.gguf` path, "
        "`hf:owner/repo/file.gguf`, or `smollm2`, the model that comes with the program."
    )
    max_in_flight: _Count = Field(
        default=1, description="Calls at once that one pool slot of this model takes."
    )
    context_window: _Count | None = Field(
        default=None,
        description="Its context window in tokens, where the provider does not say or says wrong.",
    )
    num_ctx: _Count | None = Field(
        default=None, description="The window that `ollama` and `local` load it with; else the provider's."
    )
    max_tokens: _Count | None = Field(default=None, description="Upper limit of a reply, in tokens.")
    temperature: _Temperature | None = Field(
        default=None, description="Sampling temperature; left out: the vendor's default."
    )
    effort: str = Field(
        default="", description="Reasoning effort, as the vendor names it: `none`, `low`, `medium`, `high`."
    )
    options: _Options = Field(
        default_factory=dict[str, Any], description="Further fields of the request body, sent as they are."
    )
    price: PriceConfig | None = Field(
        default=None, description="Overrides the price list; what is unknown stays unknown."
    )


class RoleConfig(_Part):
    """Who fills a role. A model is named by its alias, or as `provider/model`."""

    model: str = Field(
        default="", description="The primary model; left out: the pool's first, else `defaults.model`."
    )
    pool: tuple[str, ...] = Field(
        default=(),
        description="Models that work in parallel; the same one twice is two slots. Used for `polecat`.",
    )
    fallbacks: tuple[str, ...] = Field(
        default=(), description="Tried in this order when the model or the whole pool fails."
    )
    max_tokens: _Count | None = Field(default=None, description="Upper limit of a reply of this role.")
    temperature: _Temperature | None = Field(default=None, description="Sampling temperature of this role.")
    system_prompt: str = Field(default="", description="Replaces the role's own system prompt.")


class SpecialistConfig(RoleConfig):
    """A worker for one kind of subtask; the mayor reads the description and assigns."""

    description: str = Field(default="", description="What it is good at, for the mayor.")


class DefaultsConfig(_Part):
    """What holds where a role or a model says nothing."""

    model: str = Field(default="", description="The model of every role that is not configured.")
    fallbacks: tuple[str, ...] = Field(default=(), description="The fallbacks of those roles.")
    max_tokens: _Count | None = Field(default=None, description="Upper limit of a reply.")
    temperature: _Temperature | None = Field(default=None, description="Sampling temperature.")
    log_dir: str = Field(
        default="", description="Of the Go original: accepted, without effect; see `--jsonl`."
    )


class ClusterConfig(_Part):
    """Where several machines meet to share the work of a run."""

    db: str = Field(
        default="",
        description="A PostgreSQL, as `postgresql://user@host/database` or `$VARIABLE`: the journal is kept "
        "there, and `et worker` on other machines works the subtasks.",
    )


class CapConfig(_Part):
    """The most that may be spent. A bare number is `usd`."""

    usd: _Dollars | None = Field(default=None, description="US dollars; left out: no cap.")
    tokens: _Count | None = Field(
        default=None, description="Tokens, in and out together, those of local models too; left out: no cap."
    )


def _dollars(value: object) -> object:
    """A bare number in the place of a cap."""
    return {"usd": value} if isinstance(value, str | int | float) else value


_Cap = Annotated[CapConfig, BeforeValidator(_dollars, json_schema_input_type=float | CapConfig)]


class BudgetConfig(CapConfig):
    """The most that a run may spend, and each of its parts. A bare number is `usd`."""

    per_role: dict[str, _Cap] = Field(
        default_factory=dict[str, _Cap],
        description="Caps by role (`mayor: 1.0`); specialists spend as `polecat`.",
    )
    per_subtask: _Cap = Field(
        default_factory=CapConfig.model_construct,
        description="The cap of every single subtask, its reviews included.",
    )


class Config(_Part):
    """One electrictown.yaml, checked: every reference in it leads somewhere."""

    model_config = ConfigDict(defer_build=False, title="electrictown.yaml")

    providers: dict[str, ProviderConfig] = Field(description="The endpoints, by a name of your choice.")
    models: dict[str, ModelConfig] = Field(
        default_factory=dict[str, ModelConfig], description="Aliases: a short name for a provider's model."
    )
    roles: dict[str, RoleConfig] = Field(
        default_factory=dict[str, RoleConfig],
        description="Who fills which role: `mayor` plans, `polecat` works, `witness` reviews, `refinery` "
        "polishes; any other name may be asked for with `--role`. `reviewer` and `tester` are read as "
        "`witness` and `refinery`.",
    )
    specialists: dict[str, SpecialistConfig] = Field(
        default_factory=dict[str, SpecialistConfig], description="Workers for one kind of subtask."
    )
    defaults: DefaultsConfig = Field(
        default_factory=DefaultsConfig.model_construct, description="What holds where a role says nothing."
    )
    cluster: ClusterConfig = Field(
        default_factory=ClusterConfig.model_construct,
        description="Several machines for one run; see docs/cluster.md.",
    )
    budget: Annotated[
        BudgetConfig, BeforeValidator(_dollars, json_schema_input_type=float | BudgetConfig)
    ] = Field(
        default_factory=BudgetConfig.model_construct,
        description="The most that one run may spend; `--budget` says otherwise for one run. See "
        "[budget.md](budget.md).",
    )
    _source: Source = PrivateAttr()

    @property
    def path(self) -> str:
        """The file it was read from, as it was named."""
        return self._source.file

    @property
    def folder(self) -> str:
        """The folder of that file: relative paths in it start there."""
        return os.path.dirname(self._source.file) or "."  # noqa: PTH120  (a name, not yet a path)

    @property
    def text(self) -> str:
        """The file's text, its `$VARIABLES` unresolved."""
        return self._source.text

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know: keys without effect, names read as others, providers without key."""
        return tuple(self._source.notes)

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """Providers that lack something, with the variables that are not set ("": no key is named)."""
        return dict(self._source.missing)

    @property
    def origins(self) -> dict[str, Origin]:
        """Where each value came from, by its dotted name."""
        from electrictown.config.origin import origins

        return origins(self, self._source)

    def bind(self, source: Source) -> Config:
        """This configuration, knowing the file it was read from."""
        self._source = source
        return self

    def key_source(self, provider: str) -> str:
        """The variable that `provider`'s key came from ("$OPENAI_API_KEY"), "" for a key in the file."""
        return self._source.variables.get(("providers", provider, "api_key"), "")
