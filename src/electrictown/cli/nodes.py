"""`et nodes`: which hosts answer, what they hold, how fast they are."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click
from msgspec import Struct
from msgspec.structs import replace

from electrictown.cli.setup import GoFlags, config_option, environment, settle
from electrictown.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from electrictown.llm.provider import Node, Provider
    from electrictown.town import Town

__all__ = ["command"]

_PATIENCE = 30.0


class HostState(Struct, frozen=True):
    """What was found of one host. Times in seconds; `tokens_per_second` None where nothing was measured."""

    host: str
    up: bool = False
    version: str = ""
    latency: float = 0.0
    models: int = 0
    loaded: tuple[str, ...] = ()
    measured_on: str = ""
    first_token: float | None = None
    tokens_per_second: float | None = None
    speed_error: str = ""
    error: str = ""


@click.command(cls=GoFlags, short_help="Show which hosts answer, what they hold, how fast they are.")
@config_option
@click.option(
    "--speed/--no-speed",
    default=None,
    help="Measure tokens a second on every host, or on none.  [default: on your own hosts, where it is free]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(config: str | None, speed: bool | None, as_json: bool) -> int:
    """Show which hosts answer, what they hold, how fast they are.

    For every provider: up or down and why, version, latency, how many models,
    which are in memory, and the speed of a short reply.

    The exit code is 0 when every host is up, 1 when one is down.
    """
    states = asyncio.run(_look(config, speed))
    if as_json:
        print_json(states)
    else:
        print_table(
            ("host", "state", "version", "latency", "models", "loaded", "tok/s", "measured on"),
            [_row(state) for state in states],
        )
    return 0 if all(state.up for state in states) else 1


async def _look(path: str | None, speed: bool | None) -> list[HostState]:
    from electrictown.town import Town

    config = await settle(path, environment(), require_keys=False)
    async with Town.open(config) as town, asyncio.TaskGroup() as group:
        tasks = [group.create_task(_host(town, name, speed)) for name in town.providers]
        await asyncio.wait(tasks)
        return [task.result() for task in tasks]


async def _host(town: Town, name: str, speed: bool | None) -> HostState:
    from electrictown.errors import ElectrictownError

    started = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE):
            node = await _inspect(town.providers[name])
    except ElectrictownError as error:
        return HostState(name, error=error.message)
    except TimeoutError:
        return HostState(name, error=f"no answer within {_PATIENCE:g} s")
    state = HostState(
        name,
        up=True,
        version=node.version,
        latency=time.monotonic() - started,
        models=len(node.models),
        loaded=node.loaded,
    )
    wanted = speed or (speed is None and town.routes.providers[name].local)
    return await _measured(town, state, node) if wanted else state


async def _inspect(provider: Provider) -> Node:
    from electrictown.llm.provider import Inspectable, Node

    if isinstance(provider, Inspectable):
        return await provider.inspect()
    return Node(models=tuple(m.id for m in await provider.list_models()))


async def _measured(town: Town, state: HostState, node: Node) -> HostState:
    """A short reply of a model that is loaded, else of one that the configuration names, else of any."""
    from electrictown.errors import ElectrictownError
    from electrictown.llm.probe import pace

    named = [t.model for t in town.routes.aliases.values() if t.provider == state.host]
    loaded = [m for m in named if m in node.loaded] or list(node.loaded)
    model = next(iter([*loaded, *(m for m in named if m in node.models), *named, *node.models]), None)
    if model is None:
        return state
    try:
        async with asyncio.timeout(_PATIENCE * 4):
            measured = await pace(town.providers[state.host], model, max_tokens=48)
    except ElectrictownError as error:
        return replace(state, measured_on=model, speed_error=error.message)
    except TimeoutError:
        return replace(state, measured_on=model, speed_error=f"not done within {_PATIENCE * 4:g} s")
    return replace(
        state,
        measured_on=model,
        first_token=measured.first_token,
        tokens_per_second=measured.tokens_per_second,
    )


def _row(state: HostState) -> tuple[str, ...]:
    if not state.up:
        return (state.host, f"down: {state.error}", "", "", "", "", "", "")
    rate = state.tokens_per_second
    return (
        state.host,
        "up",
        state.version or "-",
        f"{state.latency * 1000:.0f} ms",
        str(state.models),
        ", ".join(state.loaded) or "-",
        f"{rate:.0f}" if rate is not None else "-",
        f"{state.measured_on}: {state.speed_error}" if state.speed_error else state.measured_on or "-",
    )
