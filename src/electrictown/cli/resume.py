"""`et resume`: a run goes on where it ended, and nothing that was finished is paid for again."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypedDict, Unpack

import click
from msgspec.structs import replace

from electrictown.cli.drive import Driver, Output, drive, premises, repeated
from electrictown.cli.journals import db_option, run_argument, store_url
from electrictown.cli.setup import environment
from electrictown.errors import UsageError

if TYPE_CHECKING:
    from electrictown.budget.caps import Caps
    from electrictown.journal.journal import RunRow, Store
    from electrictown.journal.records import Header

__all__ = ["command"]


class _Given(TypedDict):
    """What the command line says, by the names of the options below."""

    name: str
    db: str | None
    env_file: str | None
    anyway: bool
    budget: str | None
    as_json: bool
    as_jsonl: bool
    quiet: bool


@click.command(short_help="Go on with a run that did not end, or did not end well.")
@run_argument
@db_option
@click.option("--env-file", metavar="FILE", help="KEY=VALUE lines to add to the environment.")
@click.option(
    "--budget", metavar="AMOUNT", help="Another budget for the whole run: 2.50, 500000t, mayor=1, none."
)
@click.option("--anyway", is_flag=True, help="Go on with a run that was cancelled.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="Print every event as a JSON line.")
@click.option("--quiet", "-q", is_flag=True, help="No progress: the result and errors only.")
def command(**given: Unpack[_Given]) -> int:
    """Go on with RUN where it ended.

    RUN is a run's id, the beginning of one, or "last". What was finished is
    neither done nor paid for again; what failed is tried once more. The run
    keeps the configuration, the options and the budget it was begun with; what
    it has spent counts. Keys are read from the environment, or from its file.

    \b
      et resume last
      et resume 20261122-18 --budget 5

    A run that is done is not run again: its result is printed.
    """
    output = Output(given["as_json"], given["as_jsonl"], given["quiet"])
    output.check()
    return drive(output, partial(_resume, given))


async def _resume(given: _Given, driver: Driver) -> None:
    from electrictown.config.snapshot import restore
    from electrictown.engine.team import RunOptions
    from electrictown.town import Town
    from electrictown.wiring import budget_said

    environ = environment(given["env_file"])
    url = store_url(given["db"], environ)
    driver.where = repeated(given["db"], given["env_file"])
    async with premises(url, environ, driver) as at:
        row = await at.store.find(given["name"])
        await _refuse_session(at.store, row.run)
        if await _is_over(at.store, row, driver, given):
            return
        # All that can be wrong with the command is found out before the run has another driver.
        header, granted = await _begun(at.store, row.run, anew=given["budget"] is not None)
        config = restore(header.config, header.file, environ)
        options = RunOptions.of(header.settings)
        async with Town.open(config, at.slots) as town:
            caps = granted or town.caps(options)
            if given["budget"] is not None:
                caps = budget_said(given["budget"], caps, config, options.supervisor)
            options = replace(options, caps=caps)
            await town.check_prices(options)
            town.check_agents(options, elsewhere=at.dispatching is not None)
            journal = await at.store.resume(row.run)
            prepare = partial(town.prepare, header.task, options, driver.emit, journal)
            await driver.execute(prepare, journal, at)


async def _refuse_session(store: Store, run: str) -> None:
    """See to it that `run` is no session, which is another program's to go on with.

    Raises:
        UsageError: when it is one.
    """
    from electrictown.journal.records import Header

    for step in await store.steps(run, kinds=("run",)):
        if "session" in step.read(Header).settings:
            raise UsageError(f"{run} is a session", f"et session spawn --resume {run}")


async def _begun(store: Store, run: str, *, anew: bool) -> tuple[Header, Caps | None]:
    """How `run` was begun, and the budget that its last driver was given.

    Raises:
        BudgetExceeded: when a bill above its bound halted the run, unless it is given a budget `anew`.
    """
    from electrictown.budget.caps import Caps
    from electrictown.budget.halts import standing_halt
    from electrictown.journal.records import Header

    header: Header | None = None
    caps: Caps | None = None
    steps = await store.steps(run, kinds=("run", "budget", "halt"))
    for step in steps:
        if step.kind == "run":
            header = step.read(Header)
        elif step.kind == "budget":
            caps = step.read(Caps)
    if not anew and (halt := standing_halt(steps)) is not None:
        raise halt
    if header is None:
        raise UsageError(f"the run {run} was never begun", "start it anew with et run")
    return header, caps


async def _is_over(store: Store, row: RunRow, driver: Driver, given: _Given) -> bool:
    """Whether there is nothing to go on with; what the run came to is shown then.

    Raises:
        UsageError: for a run that was cancelled, unless it is to go on anyway.
    """
    if row.state == "cancelled" and not given["anyway"]:
        raise UsageError(f"the run {row.run} was cancelled", f"et resume {row.run} --anyway goes on with it")
    if row.state not in ("done", "dry-run"):
        return False
    from electrictown.events import RunEnded
    from electrictown.work import Report

    report = (await store.steps(row.run, kinds=("end",)))[-1].read(Report)
    driver.show(report)
    if given["as_jsonl"]:
        driver.emit(RunEnded(report=report))
    if not given["quiet"]:
        with suppress(OSError):
            print(f"the run {row.run} is done; this is its result", file=sys.stderr)
    return True
