"""Who answers: targets, routes, and the table that a name is looked up in. Data only."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from electrictown.errors import ConfigError
from electrictown.llm.messages import Json

__all__ = ["Price", "Route", "RouteTable", "Target"]


class Price(Struct, frozen=True):
    """US dollars per million tokens. A cache price left out is the input price."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None


class Target(Struct, frozen=True, kw_only=True):
    """One model on one provider, with what the configuration says of it.

    `host` is the provider entry it is asked through: health is measured by it. `address` is the host's
    identity on the network (`llm/hosts.py`), "" for one that only this process has. Targets of one
    `capacity` share `host_limit` calls in flight (None: no limit), also between processes. `limit` is
    how many calls this target takes at once as a pool member.
    `price` overrides the price list; `local` targets cost nothing. `price_provider` says whose prices
    of the list hold: the vendor's name there, or the API's base URL ("": the vendor of the provider
    type). `max_tokens`, `temperature` and `options` apply where a request leaves them open.
    """

    alias: str
    provider: str
    model: str
    provider_type: str = ""
    host: str = ""
    address: str = ""
    limit: int = 1
    host_limit: int | None = None
    context_window: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    effort: str = ""
    options: dict[str, Json] = field(default_factory=dict[str, Json])
    price: Price | None = None
    price_provider: str = ""
    local: bool = False

    @property
    def label(self) -> str:
        """How a person tells it apart: the alias, or provider/model where there is none."""
        return self.alias or f"{self.provider}/{self.model}"

    @property
    def capacity(self) -> str:
        """Whose calls in flight are counted together: the address, or the host that only this process has."""
        return self.address or self.host or self.provider


class Route(Struct, frozen=True):
    """What a role or name resolves to: the primary, the pool of parallel members, the fallbacks.

    `patient` is False where the caller has others to turn to: the router then makes one attempt a
    target and neither waits nor asks the same one again.
    """

    name: str
    primary: Target
    pool: tuple[Target, ...] = ()
    fallbacks: tuple[Target, ...] = ()
    patient: bool = True

    @property
    def chain(self) -> tuple[Target, ...]:
        """Primary and fallbacks in the order they are tried."""
        return (self.primary, *self.fallbacks)

    def only(self, target: Target, *, patient: bool = True) -> Route:
        """The route that asks `target` and nobody else."""
        return Route(self.name, target, patient=patient)


class RouteTable(Struct, frozen=True):
    """Everything a name can mean: roles, then aliases, then `provider/model`, then the default.

    `providers` maps a provider's name to the target that stands for any model on it (its `model` is
    empty).
    """

    roles: Mapping[str, Route]
    aliases: Mapping[str, Target]
    providers: Mapping[str, Target]
    default: Route | None = None

    def for_role(self, role: str) -> Route:
        """The route of a role, or the defaults' route.

        Raises:
            ConfigError: when neither is configured.
        """
        route = self.roles.get(role)
        if route is not None:
            return route
        if self.default is not None:
            return self.default
        raise ConfigError(
            f"role {role!r} is not configured and there is no defaults.model",
            hint=f"add it under roles:, or set defaults.model; configured: {', '.join(self.roles) or 'none'}",
        )

    def resolve(self, name: str) -> Route:
        """The route of an alias, a `provider/model`, or a role's name; "" is the default.

        Raises:
            ConfigError: for a name that means nothing.
        """
        target = self.aliases.get(name)
        if target is not None:
            return Route(name, target)
        if name in self.roles or not name:
            return self.for_role(name)
        provider, slash, model = name.partition("/")
        if slash and model and provider in self.providers:
            return Route(name, replace(self.providers[provider], model=model))
        raise ConfigError(
            f"{name!r} is no model alias, no provider/model and no role",
            hint=f"aliases: {', '.join(self.aliases) or 'none'}; providers: {', '.join(self.providers)}",
        )
