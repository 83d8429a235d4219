"""`et models`: what every provider has on offer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from electrictown.cli.setup import GoFlags, config_option, environment, settle
from electrictown.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from electrictown.errors import ElectrictownError
    from electrictown.llm.messages import Model
    from electrictown.town import Town

__all__ = ["command"]


@click.command(cls=GoFlags, short_help="List the models of all providers.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(config: str | None, as_json: bool) -> int:
    """List the models of all providers, asked all at once.

    A provider that does not answer is listed as down, with the reason. The exit
    code is 0 when at least one answered.
    """
    offers = asyncio.run(_ask_all(config))
    if as_json:
        print_json([_entry(name, answer) for name, answer in offers])
    else:
        print_table(("provider", "model", "context", "alias or state"), _rows(offers))
    answered = [name for name, answer in offers if isinstance(answer, list)]
    return 0 if answered else max(e.exit_code for _, e in offers if not isinstance(e, list))


async def _ask_all(path: str | None) -> list[tuple[str, list[Model] | ElectrictownError]]:
    from electrictown.town import Town

    config = await settle(path, environment(), require_keys=False)
    async with Town.open(config) as town, asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(_ask(town, name)) for name in town.providers}
        await asyncio.wait(tasks.values())
        return [(name, task.result()) for name, task in tasks.items()]


async def _ask(town: Town, name: str) -> list[Model] | ElectrictownError:
    from electrictown.errors import ElectrictownError

    try:
        return await town.providers[name].list_models()
    except ElectrictownError as error:
        return error


def _rows(offers: list[tuple[str, list[Model] | ElectrictownError]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, answer in offers:
        if not isinstance(answer, list):
            rows.append((name, "-", "-", f"down: {answer.message}"))
        elif not answer:
            rows.append((name, "-", "-", "up, but it has no models"))
        else:
            rows += [
                (name, m.id, f"{m.context_window:,}" if m.context_window else "-", m.name) for m in answer
            ]
    return rows


def _entry(name: str, answer: list[Model] | ElectrictownError) -> dict[str, object]:
    if isinstance(answer, list):
        return {"provider": name, "up": True, "models": answer}
    from electrictown.work import Failure

    return {"provider": name, "up": False, "models": [], "error": Failure.of(answer)}
