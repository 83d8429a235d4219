"""Configuration -> running parts. The only module that knows every class.

async with Town.open(load_config("electrictown.yaml")) as town:
    report = await town.run(Task("implement binary search in Python"))
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec.structs import replace

from electrictown.engine.chronicle import Chronicle
from electrictown.engine.relay import Station
from electrictown.engine.run import Run
from electrictown.engine.team import RunOptions, Team
from electrictown.errors import ConfigError
from electrictown.events import Emit, ignore
from electrictown.llm.admission import MemoryAdmission
from electrictown.llm.costs import CostTracker
from electrictown.llm.provider import Provider, ProviderSettings, Timeouts, make_provider
from electrictown.llm.router import Router
from electrictown.llm.routes import Price, Route, RouteTable, Target
from electrictown.roles.mayor import Mayor
from electrictown.roles.polecat import Polecat
from electrictown.roles.refinery import Refinery
from electrictown.roles.witness import Witness
from electrictown.work import Report, Task

if TYPE_CHECKING:
    from electrictown.config import Config, ModelConfig, ProviderConfig, RoleConfig

__all__ = ["Town", "new_run_id"]

_SELF_HOSTED = frozenset({"ollama", "lmstudio", "local"})
"""Types that run on the user's own hardware: free of charge, and one call at a time is what they bear."""

_MAYOR, _POLECAT, _WITNESS, _REFINERY = "mayor", "polecat", "witness", "refinery"


class Town:
    """The running parts of one configuration: providers, routes, admission. `open()` also closes them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.providers: Mapping[str, Provider] = _Providers(config)
        self.routes = _Routes(config).table()
        self.specialists = _Routes(config).specialists()
        self.admission = MemoryAdmission()

    @classmethod
    @asynccontextmanager
    async def open(cls, config: Config) -> AsyncGenerator[Town]:
        """A town that closes its connections and child processes on leaving."""
        town = cls(config)
        try:
            yield town
        finally:
            await town.aclose()

    async def aclose(self) -> None:
        """Close every provider that was used."""
        assert isinstance(self.providers, _Providers)  # noqa: S101  (made above)
        await self.providers.aclose()

    def router(self, *, emit: Emit = ignore, tracker: CostTracker | None = None) -> Router:
        """A router over this town's hosts; routers of one town share slots, breakers and measured speed."""
        return Router(
            self.providers,
            self.routes,
            admission=self.admission,
            tracker=tracker or CostTracker(),
            emit=emit,
        )

    async def run(
        self,
        task: Task,
        options: RunOptions | None = None,
        *,
        emit: Emit = ignore,
        supervisor: str = _MAYOR,
        max_subtasks: int = 10,
        specialists: bool = True,
        threshold: float = 6,
    ) -> Report:
        """Turn `task` into a report; what happens on the way goes to `emit`.

        Raises:
            ConfigError: when a role that the run needs has no model.
            CancelledError: when the run is interrupted; its report was emitted before.
        """
        chronicle = Chronicle(emit)
        router = self.router(emit=chronicle)
        team = self.team(
            router,
            supervisor=supervisor,
            max_subtasks=max_subtasks,
            specialists=specialists,
            threshold=threshold,
        )
        return await Run(new_run_id(), task, team, router, chronicle, options or RunOptions()).execute()

    def team(
        self,
        router: Router,
        *,
        supervisor: str = _MAYOR,
        max_subtasks: int = 10,
        specialists: bool = True,
        threshold: float = 6,
    ) -> Team:
        """The four roles as they are configured, asking through `router`.

        `threshold` is the witness's lowest passing score, 1 to 10.

        Raises:
            ConfigError: when a role that is needed has no model.
        """
        self._check_supervisor(supervisor)
        experts = self.specialists if specialists else {}
        described = {name: self.config.specialists[name].description for name in experts}
        route = self.routes.for_role(_POLECAT)
        leader = self.routes.for_role(supervisor) if route.pool else route
        return Team(
            mayor=Mayor(
                router,
                role=supervisor,
                system_prompt=self._prompt(supervisor),
                max_subtasks=max_subtasks,
                specialists=described,
            ),
            worker=Station(Polecat(router, system_prompt=self._prompt(_POLECAT)), route),
            specialists={name: Station(self._expert(router, name), on) for name, on in experts.items()},
            witness=self._witness(router, threshold) if self._has(_WITNESS) else None,
            refinery=Refinery(router, system_prompt=self._prompt(_REFINERY))
            if self._has(_REFINERY)
            else None,
            one_subtask_if_unplannable=leader.primary.provider_type == "local",
        )

    def _expert(self, router: Router, name: str) -> Polecat:
        prompt = self.config.specialists[name].system_prompt
        return Polecat(router, system_prompt=prompt or self._prompt(_POLECAT))

    def _witness(self, router: Router, threshold: float) -> Witness:
        return Witness(router, system_prompt=self._prompt(_WITNESS), threshold=threshold)

    def _has(self, role: str) -> bool:
        return role in self.config.roles

    def _prompt(self, role: str) -> str | None:
        configured = self.config.roles.get(role)
        return (configured.system_prompt or None) if configured is not None else None

    def _check_supervisor(self, role: str) -> None:
        if role == _MAYOR or self._has(role):
            return
        from difflib import get_close_matches

        near = get_close_matches(role, self.config.roles, n=1)
        known = ", ".join(self.config.roles) or "none"
        hint = f"did you mean {near[0]!r}?" if near else f"roles in {self.config.path}: {known}"
        raise ConfigError(f"there is no role {role!r}", hint, file=self.config.path)


def new_run_id() -> str:
    """A name for a run that sorts by time: 20261122-184207-3fa2."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


class _Providers(Mapping[str, Provider]):
    """The providers, each made when it is first asked for."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._made: dict[str, Provider] = {}

    def __getitem__(self, name: str) -> Provider:
        provider = self._made.get(name)
        if provider is None:
            provider = self._made[name] = make_provider(_settings(self._config, name))
        return provider

    def __iter__(self) -> Iterator[str]:
        return iter(self._config.providers)

    def __len__(self) -> int:
        return len(self._config.providers)

    async def aclose(self) -> None:
        """Close those that were made, all of them even if one cannot."""
        made, self._made = self._made, {}
        errors: list[Exception] = []
        for provider in made.values():
            close = getattr(provider, "aclose", None)
            if close is None:
                continue
            try:
                await close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("providers that could not be closed", errors)


def _settings(config: Config, name: str) -> ProviderSettings:
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


class _Routes:
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
        own = model is not None and "max_in_flight" in model.model_fields_set
        limit = model.max_in_flight if model is not None and own else entry.max_in_flight or 1
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
        limits = [m.max_in_flight for m in self._config.models.values() if m.provider == provider]
        return max(self._pooled[provider], *limits, 1)


def _is_self_hosted(entry: ProviderConfig) -> bool:
    if entry.type not in _SELF_HOSTED:
        return False
    host = urlsplit(entry.base_url).hostname or ""
    return not (host == "ollama.com" or host.endswith(".ollama.com"))
