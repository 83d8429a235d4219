"""Configuration -> the data that llm/ works with: provider settings, targets, routes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec.structs import replace

from electrictown.budget.caps import Cap, Caps, caps_of
from electrictown.llm.hosts import identity
from electrictown.llm.provider import ProviderSettings, Timeouts
from electrictown.llm.routes import Price, Route, RouteTable, Target

if TYPE_CHECKING:
    from electrictown.config import Config, ModelConfig, ProviderConfig, RoleConfig

__all__ = ["Routes", "budget_of", "budget_said", "settings_of"]

_SELF_HOSTED = frozenset({"ollama", "lmstudio", "local"})
"""Types that run on the user's own hardware: free of charge, and one call at a time is what they bear."""


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
            roles={name: self._route(name, role) for name, role in config.roles.items()},
            aliases={alias: self._target(alias) for alias in config.models},
            providers={name: self._on(name, "", None) for name in config.providers},
            default=default,
        )

    def specialists(self) -> dict[str, Route]:
        """The routes of the specialists, by name."""
        return {name: self._route(name, role) for name, role in self._config.specialists.items()}

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
