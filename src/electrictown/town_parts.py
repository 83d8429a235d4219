"""Parts of a town that are made when they are first asked for: its providers and its agents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from electrictown.engine.agent_relay import Seat
from electrictown.llm.provider import Provider, make_provider
from electrictown.wiring import agent_settings, settings_of

if TYPE_CHECKING:
    from electrictown.config import Config
    from electrictown.engine.agents import Agent

__all__ = ["Agents", "Providers"]


class Providers(Mapping[str, Provider]):
    """The providers by their names."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._made: dict[str, Provider] = {}

    def __getitem__(self, name: str) -> Provider:
        provider = self._made.get(name)
        if provider is None:
            provider = self._made[name] = make_provider(settings_of(self._config, name))
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


class Agents:
    """The agents by their names, and the seats that they have in this process."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seats: dict[str, Seat] = {}

    def seat(self, name: str) -> Seat:
        """The seats of the agent `name`: one under `agents`, or a preset.

        Raises:
            ConfigError: when there is no such agent, or it wants variables that are not set.
        """
        seat = self._seats.get(name)
        if seat is None:
            entry = self._config.agents.get(name)
            seat = self._seats[name] = Seat.of(self._made(name), entry.slots if entry is not None else 1)
        return seat

    def _made(self, name: str) -> Agent:
        from electrictown.acp.agent import AcpAgent

        return AcpAgent(agent_settings(self._config, name))
