"""Configuration -> the data that llm/ works with: provider settings, targets, routes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec.structs import replace

from electrictown.budget.caps import Cap, Caps, caps_of
from electrictown.errors import ConfigError
from electrictown.llm.hosts import identity
from electrictown.llm.provider import ProviderSettings, Timeouts
from electrictown.llm.routes import Price, Route, RouteTable, Target

if TYPE_CHECKING:
    from electrictown.acp.policy import Decision, Permissions
    from electrictown.acp.settings import AgentSettings
    from electrictown.config import Config, ModelConfig, ProviderConfig, RoleConfig
    from electrictown.config.schema import PermissionsConfig

__all__ = ["Routes", "agent_settings", "budget_of", "budget_said", "settings_of"]

_SELF_HOSTED = frozenset({"ollama", "lmstudio", "local"})
"""Types that run on the user's own hardware: free of charge, and one call at a time is what they bear."""


_WRITING = ("edit", "delete", "move")
"""What `write` among an agent's permissions means."""


def settings_of(config: Config, name: str) -> ProviderSettings:
    """What the provider `name` is made from."""
    entry = config.providers[name]
    limits = entry.timeouts
    windows = {m.num_ctx for m in config.models.values() if m.provider == name and m.num_ctx}
    return ProviderSettings(
        name=name,
        type=entry.type,
        base_url=entry.base_url,
        api_key=entry.api_key,
        api_key_source=config.key_source(name),
        auth_type=entry.auth_type or "",
        org=entry.org,
        api=entry.api or "",
        headers=dict(entry.headers),
        # 0 is how a file says "no limit".
        timeouts=Timeouts(
            limits.connect or None, limits.first_token or None, limits.idle or None, limits.total or None
        ),
        allow_incomplete=entry.allow_incomplete,
        num_ctx=entry.num_ctx or (max(windows) if windows else None),
        extra=dict(entry.extra),
        folder=config.folder,
    )


def budget_of(config: Config) -> Caps:
    """The caps that the file sets."""
    budget = config.budget
    return Caps(
        usd=budget.usd,
        tokens=budget.tokens,
        per_role={role: Cap(cap.usd, cap.tokens) for role, cap in budget.per_role.items()},
        per_subtask=Cap(budget.per_subtask.usd, budget.per_subtask.tokens),
    )


def budget_said(text: str, caps: Caps, config: Config, supervisor: str) -> Caps:
    """`caps` with what `text` says instead, for a run that the role `supervisor` plans.

    Raises:
        UsageError: when it is no budget, or one for a role that spends nothing in such a run.
    """
    from electrictown.config.compat import RENAMED

    roles = dict.fromkeys((supervisor, "polecat", "witness", "refinery"))
    spend_as = {"mayor": supervisor, **RENAMED, **dict.fromkeys(config.specialists, "polecat")}
    return caps_of(text, caps, roles, spend_as)


def agent_settings(config: Config, name: str) -> AgentSettings:
    """What the agent `name` is started with: its entry over its preset, in the environment of `config`.

    Raises:
        ConfigError: when there is no such agent, or it wants variables that are not set.
    """
    from electrictown.acp.presets import PRESETS
    from electrictown.acp.settings import AgentSettings, environ_of
    from electrictown.config.schema import AgentConfig

    entry = config.agents.get(name) or AgentConfig()
    preset = PRESETS.get(entry.type or name)
    command = entry.command or (preset.command if preset is not None else ())
    if not command:
        from electrictown.config.reading import suggest

        known = dict.fromkeys((*config.agents, *PRESETS))
        raise ConfigError(f"there is no agent {name!r}", suggest(name, known), file=config.path)
    if unset := config.unset_of(name):
        raise ConfigError(
            f"agent {name!r} wants {', '.join(unset)}, which is not set or empty",
            "set it, or put it in a file for --env-file",
            file=config.path,
        )
    more = {**(preset.environ if preset is not None else {}), **entry.env}
    return AgentSettings(
        name=name,
        command=(_program(command[0], config.folder), *command[1:]),
        environ=environ_of(config.environ, preset.variables if preset is not None else (), more),
        permissions=_permissions(entry.permissions),
        model=entry.model,
        mode=preset.mode if preset is not None else "",
        label=preset.label if preset is not None else "",
        install=preset.install if preset is not None else "",
        login=preset.login if preset is not None else "",
    )


def _program(program: str, folder: str) -> str:
    """`program` as the configuration in `folder` means it: a name is looked up in PATH, a path is none of
    the folder that the agent works in.
    """
    path = os.path.expanduser(program)  # noqa: PTH111  (a name is no path)
    return os.path.abspath(os.path.join(folder, path)) if "/" in path else path  # noqa: PTH100, PTH118


def _permissions(said: PermissionsConfig) -> Permissions:
    from electrictown.acp.policy import KINDS, Permissions

    decisions: dict[str, Decision] = {}
    if said.write is not None:
        decisions |= dict.fromkeys(_WRITING, said.write)
    decisions |= {kind: value for kind in KINDS if (value := getattr(said, kind)) is not None}
    return Permissions(**decisions)


class Routes:
    """Turns names into targets: what a role says comes before what the model says, then the defaults."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pooled = Counter[str]()
        for role in (*config.roles.values(), *config.specialists.values()):
            here = Counter(self._model(name)[0] for name in role.pool)
            self._pooled |= here

    def table(self) -> RouteTable:
        """Everything a name can mean."""
        config = self._config
        defaults = config.defaults
        default = None
        if defaults.model:
            fallbacks = tuple(self._target(name) for name in defaults.fallbacks)
            default = Route("defaults", self._target(defaults.model), fallbacks=fallbacks)
        return RouteTable(
            roles=self._filled(config.roles),
            aliases={alias: self._target(alias) for alias in config.models},
            providers={name: self._on(name, "", None) for name in config.providers},
            default=default,
        )

    def specialists(self) -> dict[str, Route]:
        """The routes of the specialists, by name; an agent without models has none."""
        return self._filled(self._config.specialists)

    def _filled(self, roles: Mapping[str, RoleConfig]) -> dict[str, Route]:
        return {name: self._route(name, role) for name, role in roles.items() if role.model or not role.agent}

    def _route(self, name: str, role: RoleConfig) -> Route:
        primary = role.model or (role.pool[0] if role.pool else self._config.defaults.model)
        return Route(
            name,
            self._target(primary, role),
            tuple(self._target(member, role) for member in role.pool),
            tuple(self._target(fallback, role) for fallback in role.fallbacks),
        )

    def _model(self, name: str) -> tuple[str, str, ModelConfig | None]:
        model = self._config.models.get(name)
        if model is not None:
            return model.provider, model.model, model
        provider, _, identifier = name.partition("/")
        return provider, identifier, None

    def _target(self, name: str, role: RoleConfig | None = None) -> Target:
        provider, identifier, model = self._model(name)
        target = self._on(provider, identifier, model)
        if model is not None:
            target = replace(target, alias=name)
        if role is not None:
            target = replace(
                target,
                max_tokens=role.max_tokens or target.max_tokens,
                temperature=target.temperature if role.temperature is None else role.temperature,
            )
        return target

    def _on(self, provider: str, identifier: str, model: ModelConfig | None) -> Target:
        entry, defaults = self._config.providers[provider], self._config.defaults
        limit = (model.max_in_flight if model else None) or entry.max_in_flight or 1
        temperature = defaults.temperature
        price = None
        if model is not None:
            temperature = model.temperature if model.temperature is not None else temperature
            if model.price is not None:
                p = model.price
                price = Price(p.input, p.output, p.cache_read, p.cache_write)
        return Target(
            alias="",
            provider=provider,
            model=identifier,
            provider_type=entry.type,
            price_provider=entry.base_url,
            host=provider,
            address=identity(entry.type, entry.base_url, self._config.key_source(provider)),
            limit=limit,
            host_limit=self._host_limit(provider, entry),
            context_window=(model.context_window or model.num_ctx if model else None) or entry.num_ctx,
            max_tokens=(model.max_tokens if model else None) or defaults.max_tokens,
            temperature=temperature,
            effort=model.effort if model else "",
            options=dict(model.options) if model else {},
            price=price,
            local=_is_self_hosted(entry) or entry.type == "scripted",
        )

    def _host_limit(self, provider: str, entry: ProviderConfig) -> int | None:
        """How many calls the host takes at once: as configured, else what its pool slots come to."""
        if entry.max_in_flight is not None:
            return entry.max_in_flight
        if not _is_self_hosted(entry):
            return None
        limits = [m.max_in_flight or 1 for m in self._config.models.values() if m.provider == provider]
        return max(self._pooled[provider], *limits, 1)


def _is_self_hosted(entry: ProviderConfig) -> bool:
    if entry.type not in _SELF_HOSTED:
        return False
    host = urlsplit(entry.base_url).hostname or ""
    return not (host == "ollama.com" or host.endswith(".ollama.com"))
