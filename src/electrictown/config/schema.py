"""What electrictown.yaml may say: the structs that a file is read into, and nothing else.

The text beside a field's type says what it is for, `Meta` its bounds. These are the documentation, too:
`et schema` and docs/configuration.md are made from them. They stand in the annotations themselves, which
are therefore no strings here: reading one costs nothing when the program starts.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from msgspec import Meta, field
from msgspec.structs import replace

from electrictown.config.origin import Origin, Source
from electrictown.config.parts import Part
from electrictown.redact import Hidden, Secret

__all__ = [
    "AgentConfig",
    "BudgetConfig",
    "CapConfig",
    "ClusterConfig",
    "Config",
    "DefaultsConfig",
    "ModelConfig",
    "PermissionsConfig",
    "PriceConfig",
    "ProviderConfig",
    "RoleConfig",
    "SpecialistConfig",
    "TimeoutsConfig",
]

_Count = Annotated[int, Meta(ge=1)]
_Money = Annotated[float, Meta(ge=0)]
_Dollars = Annotated[float, Meta(gt=0, le=1e9)]
_Allowance = Annotated[int, Meta(ge=1, le=10**15)]
_Seconds = Annotated[float, Meta(ge=0)]
_Decision = Literal["allow", "deny", "ask"]
_Temperature = Annotated[float, Meta(ge=0, le=2)]


class TimeoutsConfig(Part, frozen=True):
    """The four limits of one request, in seconds; 0 is no limit."""

    connect: Annotated[_Seconds, "Until the connection stands."] = 10.0
    first_token: Annotated[
        _Seconds,
        "From the request to the first byte of the reply; raise it for models that load slowly.",
    ] = 120.0
    idle: Annotated[_Seconds, "Between two pieces of a stream."] = 60.0
    total: Annotated[_Seconds, "The whole request."] = 1800.0


class ProviderConfig(Part, frozen=True):
    """An endpoint: where it is and how it is asked."""

    unshown: ClassVar[frozenset[str]] = frozenset({"api_key", "headers"})

    type: Annotated[
        str,
        "What it speaks: `openai` (and every compatible server), `anthropic`, `gemini`, "
        "`ollama`, `lmstudio`, `local` (llama.cpp inside the program), `scripted` (plays a script), or a "
        "type that an installed package adds.",
    ]
    base_url: Annotated[str, "Where it answers; the vendor's own address if left out."] = ""
    api_key: Annotated[
        Secret, "The key, best as `$VARIABLE`. For `auth_type: basic` it is `user:password`."
    ] = field(default_factory=lambda: Secret(""))
    auth_type: Annotated[
        Literal["bearer", "basic", "none"] | None,
        "How an Ollama host is asked: `bearer` (the default where there is a key), `basic`, "
        "`none`. OpenAI, Anthropic and Gemini have one way each and ignore it.",
    ] = None
    org: Annotated[str, "OpenAI's organization id."] = ""
    api: Annotated[
        Literal["chat", "responses"] | None,
        "Which of OpenAI's two APIs: `chat` (the default, and what compatible servers speak) or `responses`.",
    ] = None
    headers: Annotated[dict[str, str], "Further HTTP headers of every request."] = field(
        default_factory=dict[str, str]
    )
    max_in_flight: Annotated[
        _Count | None,
        "How many calls this host takes at once, over all its models. Left out: one a pool slot.",
    ] = None
    timeouts: Annotated[TimeoutsConfig, "Limits of one request."] = field(default_factory=TimeoutsConfig)
    allow_incomplete: Annotated[
        bool,
        "Accept a stream that ends without its protocol's end, for servers that never send one.",
    ] = False
    num_ctx: Annotated[
        _Count | None,
        "The context window in tokens that `ollama` and `local` load this host's models with.",
    ] = None

    _extra: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def extra(self) -> dict[str, Any]:
        """The keys that only this type of provider understands."""
        return self._extra


class PriceConfig(Part, frozen=True):
    """US dollars per million tokens."""

    input: Annotated[_Money, "Tokens of the prompt that no cache held."]
    output: Annotated[_Money, "Tokens of the reply, reasoning included."]
    cache_read: Annotated[_Money | None, "Tokens read from the cache; left out: as `input`."] = None
    cache_write: Annotated[_Money | None, "Tokens written to the cache; left out: as `input`."] = None


class ModelConfig(Part, frozen=True):
    """A model's alias: which provider, which model there, and how it is asked."""

    provider: Annotated[str, "A name under `providers`."]
    model: Annotated[
        str,
        "The model's id at the provider. For `local`: a `.gguf` path, "
        "`hf:owner/repo/file.gguf`, or `smollm2`, the model that comes with the program.",
    ]
    max_in_flight: Annotated[
        _Count | None,
        "Calls at once that one pool slot of this model takes; left out: as many as its provider, else one.",
    ] = None
    context_window: Annotated[
        _Count | None,
        "Its context window in tokens, where the provider does not say or says wrong.",
    ] = None
    num_ctx: Annotated[
        _Count | None,
        "The window that `ollama` and `local` load it with; else the provider's.",
    ] = None
    max_tokens: Annotated[_Count | None, "Upper limit of a reply, in tokens."] = None
    temperature: Annotated[_Temperature | None, "Sampling temperature; left out: the vendor's default."] = (
        None
    )
    effort: Annotated[str, "Reasoning effort, as the vendor names it: `none`, `low`, `medium`, `high`."] = ""
    options: Annotated[dict[str, Any], "Further fields of the request body, sent as they are."] = field(
        default_factory=dict[str, Any]
    )
    price: Annotated[PriceConfig | None, "Overrides the price list; what is unknown stays unknown."] = None


class PermissionsConfig(Part, frozen=True):
    """What an agent is answered when it asks for leave: `allow`, `deny`, or `ask` a person."""

    read: Annotated[_Decision | None, "Reading files; left out: `allow`."] = None
    search: Annotated[_Decision | None, "Searching; left out: `allow`."] = None
    think: Annotated[_Decision | None, "Thinking, as some agents ask for; left out: `allow`."] = None
    write: Annotated[_Decision | None, "`edit`, `delete` and `move` together."] = None
    edit: Annotated[
        _Decision | None, "Making and changing files in its folder; left out: `allow`. Never outside it."
    ] = None
    delete: Annotated[_Decision | None, "Removing files in its folder; left out: `allow`."] = None
    move: Annotated[_Decision | None, "Moving files in its folder; left out: `allow`."] = None
    execute: Annotated[_Decision | None, "Running commands; left out: `ask`."] = None
    fetch: Annotated[_Decision | None, "Reading from the network; left out: `ask`."] = None
    switch_mode: Annotated[_Decision | None, "Changing its own mode; left out: `ask`."] = None
    other: Annotated[_Decision | None, "All else; left out: `ask`."] = None


class AgentConfig(Part, frozen=True):
    """An agent from elsewhere: a program that speaks the Agent Client Protocol over its pipes."""

    unshown: ClassVar[frozenset[str]] = frozenset({"env"})

    type: Annotated[
        str,
        "The preset whose program and habits it has, such as `gemini` or `claude-code`; left out: the one "
        "of its own name, where there is one.",
    ] = ""
    command: Annotated[
        tuple[str, ...],
        "The program and its arguments, each as it stands: no shell sees them. Left out: the preset's.",
    ] = ()
    env: Annotated[
        dict[str, Hidden],
        "Variables of its environment beside those it needs anyway, best as `$VARIABLE`; never shown.",
    ] = field(default_factory=dict[str, Hidden])
    permissions: Annotated[
        PermissionsConfig,
        "What it is answered when it asks for leave. In a run there is nobody to ask, and `ask` denies.",
    ] = field(default_factory=PermissionsConfig)
    model: Annotated[str, "Which of its models it works with; left out: its own choice."] = ""
    slots: Annotated[
        _Count,
        "How many of it work at once. As `polecat` two or more are a pool: the run is planned.",
    ] = 1


class RoleConfig(Part, frozen=True):
    """Who fills a role. A model is named by its alias, or as `provider/model`."""

    agent: Annotated[
        str,
        "The agent that works, a name under `agents` or a preset; `model`, `pool` and `fallbacks` take over "
        "where it fails. Not for `mayor`, `witness` and `refinery`, which only ask.",
    ] = ""
    model: Annotated[str, "The primary model; left out: the pool's first, else `defaults.model`."] = ""
    pool: Annotated[
        tuple[str, ...],
        "Models that work in parallel; the same one twice is two slots. Used for `polecat`.",
    ] = ()
    fallbacks: Annotated[tuple[str, ...], "Tried in this order when the model or the whole pool fails."] = ()
    max_tokens: Annotated[_Count | None, "Upper limit of a reply of this role."] = None
    temperature: Annotated[_Temperature | None, "Sampling temperature of this role."] = None
    system_prompt: Annotated[str, "Replaces the role's own system prompt."] = ""


class SpecialistConfig(RoleConfig, frozen=True):
    """A worker for one kind of subtask; the mayor reads the description and assigns."""

    description: Annotated[str, "What it is good at, for the mayor."] = ""


class DefaultsConfig(Part, frozen=True):
    """What holds where a role or a model says nothing."""

    model: Annotated[str, "The model of every role that is not configured."] = ""
    fallbacks: Annotated[tuple[str, ...], "The fallbacks of those roles."] = ()
    max_tokens: Annotated[_Count | None, "Upper limit of a reply."] = None
    temperature: Annotated[_Temperature | None, "Sampling temperature."] = None
    log_dir: Annotated[str, "Of the Go original: accepted, without effect; see `--jsonl`."] = ""


class ClusterConfig(Part, frozen=True):
    """Where several machines meet to share the work of a run."""

    db: Annotated[
        str,
        "A PostgreSQL, as `postgresql://user@host/database` or `$VARIABLE`: the journal is kept "
        "there, and `et worker` on other machines works the subtasks.",
    ] = ""


class CapConfig(Part, frozen=True):
    """The most that may be spent. A bare number is `usd`."""

    bare: ClassVar[str] = "usd"

    usd: Annotated[_Dollars | None, "US dollars; left out: no cap."] = None
    tokens: Annotated[
        _Allowance | None,
        "Tokens, in and out together, those of local models too; left out: no cap.",
    ] = None


class BudgetConfig(CapConfig, frozen=True):
    """The most that a run may spend, and each of its parts. A bare number is `usd`."""

    per_role: Annotated[
        dict[str, CapConfig], "Caps by role (`mayor: 1.0`); specialists spend as `polecat`."
    ] = field(default_factory=dict[str, CapConfig])
    per_subtask: Annotated[CapConfig, "The cap of every single subtask, its reviews included."] = field(
        default_factory=CapConfig
    )


class Config(Part, frozen=True):
    """One electrictown.yaml, checked: every reference in it leads somewhere."""

    providers: Annotated[
        dict[str, ProviderConfig],
        "The endpoints, by a name of your choice. Without any, agents alone can work.",
    ] = field(default_factory=dict[str, ProviderConfig])
    models: Annotated[dict[str, ModelConfig], "Aliases: a short name for a provider's model."] = field(
        default_factory=dict[str, ModelConfig]
    )
    roles: Annotated[
        dict[str, RoleConfig],
        "Who fills which role: `mayor` plans, `polecat` works, `witness` reviews, `refinery` "
        "polishes; any other name may be asked for with `--role`. `reviewer` and `tester` are read as "
        "`witness` and `refinery`.",
    ] = field(default_factory=dict[str, RoleConfig])
    specialists: Annotated[dict[str, SpecialistConfig], "Workers for one kind of subtask."] = field(
        default_factory=dict[str, SpecialistConfig]
    )
    agents: Annotated[
        dict[str, AgentConfig],
        "Agents from elsewhere, by a name of your choice. One that is called as a preset needs no entry. "
        "See [agents.md](agents.md).",
    ] = field(default_factory=dict[str, AgentConfig])
    defaults: Annotated[DefaultsConfig, "What holds where a role says nothing."] = field(
        default_factory=DefaultsConfig
    )
    cluster: Annotated[ClusterConfig, "Several machines for one run; see docs/cluster.md."] = field(
        default_factory=ClusterConfig
    )
    budget: Annotated[
        BudgetConfig,
        "The most that one run may spend; `--budget` says otherwise for one run. See [budget.md](budget.md).",
    ] = field(default_factory=BudgetConfig)
    _source: Source = field(default_factory=Source)

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
    def environ(self) -> Mapping[str, str]:
        """The environment that its variables were read from."""
        return self._source.environ

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

    def bind(self, source: Source) -> Self:
        """This configuration, knowing the file it was read from."""
        return replace(self, _source=source)

    def unset_of(self, agent: str) -> tuple[str, ...]:
        """The variables that `agent` wants and that are not set ("$GEMINI_API_KEY")."""
        return self._source.lacking.get(agent, ())

    def key_source(self, provider: str) -> str:
        """The variable that `provider`'s key came from ("$OPENAI_API_KEY"), "" for a key in the file."""
        return self._source.variables.get(("providers", provider, "api_key"), "")
