"""`et run`: a task becomes finished work."""

from __future__ import annotations

import math
import re
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click
from msgspec.structs import replace

from electrictown.cli.drive import Driver, Output, drive, premises, repeated
from electrictown.cli.setup import Folder, GoFlags, Headed, config_option, environment, settle
from electrictown.cli.typed import read_text, typed_text
from electrictown.cli.version import version
from electrictown.errors import UsageError

if TYPE_CHECKING:
    from electrictown.budget.caps import Caps
    from electrictown.config import Config
    from electrictown.engine.team import RunOptions
    from electrictown.work import Plan, Task

__all__ = ["command"]


class _Duration(click.ParamType[float]):
    """`90s`, `30m`, `2h`; a bare number is minutes, as in the Go original. The value is seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h)?\s*", str(value))
        seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2] or "m"] if found else 0.0
        if not seconds:
            self.fail(f"{value!r} is no length of time; write 90s, 30m or 2h", param, ctx)
        return seconds


class _Score(click.FloatRange):
    """A score of the witness; "nan", which is within every range, is none."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        score = super().convert(value, param, ctx)
        if math.isnan(score):
            self.fail(f"{value!r} is no score", param, ctx)
        return score


class _Given(TypedDict):
    """What the command line says, by the names of the options below."""

    task: tuple[str, ...]
    config: str | None
    supervisor: str
    output_dir: Path | None
    max_subtasks: int
    no_brief: bool
    no_witness: bool
    no_synthesize: bool
    no_refinery: bool
    no_specialists: bool
    guardrail_threshold: float
    guardrail_retries: int
    timeout: float
    dry_run: bool
    plan_file: str | None
    as_json: bool
    as_jsonl: bool
    quiet: bool
    env_file: str | None
    db: str | None
    budget: str | None


class _Planning(Headed):
    heading = "Plan"


class _Phase(Headed):
    heading = "Phases"


class _Output(Headed):
    heading = "Output"


@click.command(
    cls=GoFlags, short_help="Turn a task into finished work.", context_settings={"max_content_width": 80}
)
@click.argument("task", nargs=-1)
@config_option
@click.option("--env-file", metavar="FILE", help="KEY=VALUE lines to add to the environment.")
@click.option(
    "--db",
    metavar="URL",
    help="A PostgreSQL whose `et worker` processes work the subtasks.  [default: cluster.db]",
)
@click.option(
    "--role", "supervisor", metavar="NAME", default="mayor", show_default=True, help="The role that plans."
)
@click.option(
    "--timeout",
    type=_Duration(),
    metavar="TIME",
    default="45m",
    show_default=True,
    help="For the whole run: 90s, 30m, 2h.",
)
@click.option(
    "--budget",
    metavar="AMOUNT",
    help="The most to spend: 2.50 (US dollars), 500000t (tokens), mayor=1 (a role's), none.  "
    "[default: the configuration's; $1 without one]",
)
@click.option(
    "--max-subtasks",
    cls=_Planning,
    type=click.IntRange(min=0),
    metavar="N",
    default=10,
    show_default=True,
    help="The most subtasks a plan may have; a longer one is sent back to be merged.",
)
@click.option(
    "--dry-run",
    cls=_Planning,
    is_flag=True,
    help="Make the plan, say who would be asked and what that costs at the most, and stop.",
)
@click.option(
    "--plan",
    "plan_file",
    cls=_Planning,
    metavar="FILE",
    help="Run this plan, the output of --dry-run --json, instead of paying for one.",
)
@click.option(
    "--no-brief",
    "--no-coordinate",
    cls=_Phase,
    is_flag=True,
    help="No brief of names and interfaces for all workers.",
)
@click.option("--no-specialists", cls=_Phase, is_flag=True, help="All work goes to the polecats.")
@click.option("--no-witness", "--no-reviewer", cls=_Phase, is_flag=True, help="No review, no retry.")
@click.option(
    "--guardrail-threshold",
    cls=_Phase,
    type=_Score(1, 10),
    metavar="N",
    default=6,
    show_default=True,
    help="The lowest score that passes the review.",
)
@click.option(
    "--guardrail-retries",
    cls=_Phase,
    type=click.IntRange(0, 10),
    metavar="N",
    default=1,
    show_default=True,
    help="How often a worker may try again below it.",
)
@click.option(
    "--no-synthesize",
    cls=_Phase,
    is_flag=True,
    help="Each worker's own text instead of one merged answer.",
)
@click.option("--no-refinery", "--no-tester", cls=_Phase, is_flag=True, help="No polish at the end.")
@click.option(
    "--output-dir",
    cls=_Output,
    type=Folder(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write the files that workers give into this folder.",
)
@click.option("--json", "as_json", cls=_Output, is_flag=True, help="Print the report as JSON.")
@click.option("--jsonl", "as_jsonl", cls=_Output, is_flag=True, help="Print every event as a JSON line.")
@click.option("--quiet", "-q", cls=_Output, is_flag=True, help="No progress: the result and errors only.")
def command(**given: Unpack[_Given]) -> int:
    """Turn TASK into finished work.

    TASK is the text itself, - to read it from stdin, or @FILE. The result goes
    to stdout, progress to stderr.

    \b
      et run "implement a rate limiter"
      et run --output-dir out @task.md
      et run --dry-run --json "build a REST API" > plan.json
      et run --plan plan.json

    Without a configuration it looks for keys, an Ollama, and the embedded
    model, and says what it chose.

    \b
    Exit codes: 0 done, 1 work failed, 2 usage or configuration, 4 a key was
    refused, 5 the budget is spent, 75 try again later, 130 interrupted.
    """
    from electrictown.engine.team import RunOptions

    output = Output(given["as_json"], given["as_jsonl"], given["quiet"])
    output.check()
    plan = _read_plan(given["plan_file"]) if given["plan_file"] else None
    task = _task(given["task"], plan)
    options = RunOptions(
        supervisor=given["supervisor"],
        max_subtasks=given["max_subtasks"] or 10,
        specialists=not given["no_specialists"],
        threshold=given["guardrail_threshold"],
        brief=not given["no_brief"],
        witness=not given["no_witness"],
        synthesize=not given["no_synthesize"],
        refinery=not given["no_refinery"],
        retries=given["guardrail_retries"],
        timeout=given["timeout"],
        output_dir=given["output_dir"].absolute() if given["output_dir"] else None,
        plan=plan,
        dry_run=given["dry_run"],
    )
    return drive(output, partial(_begin, task, options, given))


async def _begin(task: Task, options: RunOptions, given: _Given, driver: Driver) -> None:
    from electrictown.town import Town, new_run_id

    environ = environment(given["env_file"])
    config = await settle(given["config"], environ, quiet=given["quiet"])
    options = replace(options, caps=_caps(given["budget"], config, options.supervisor, quiet=given["quiet"]))
    db = given["db"] or config.cluster.db
    named = given["db"] or (config.cluster.db if given["config"] else "")  # resume looks for no -c
    driver.where = repeated(named, given["env_file"])
    async with premises(db, environ, driver) as at, Town.open(config, at.slots) as town:
        town.team(town.router(), options)  # what cannot be run is no run
        await town.check_prices(options)
        town.check_agents(options, elsewhere=at.dispatching is not None)
        header = town.header(task, options, version())
        journal = await at.store.begin(new_run_id(), header)
        prepare = partial(town.prepare, task, options, driver.emit, journal)
        await driver.execute(prepare, journal, at)


def _caps(text: str | None, config: Config, supervisor: str, *, quiet: bool) -> Caps:
    """The budget: what the command line says over what the configuration does; without both, a dollar."""
    from electrictown.budget.caps import UNASKED
    from electrictown.discovery import FOUND_HERE
    from electrictown.wiring import budget_of, budget_said

    if text is None and config.path == FOUND_HERE:
        if not quiet:
            with suppress(OSError):
                print(f"budget: ${UNASKED.usd:g}; --budget says otherwise", file=sys.stderr)
        return UNASKED
    caps = budget_of(config)
    return caps if text is None else budget_said(text, caps, config, supervisor)


def _task(words: tuple[str, ...], plan: Plan | None) -> Task:
    """The task as it was typed, from stdin (-), or from a file (@FILE); a plan brings its own."""
    from electrictown.work import Task

    typed, source = typed_text(words, "task")
    if not typed:
        if plan is not None:
            return Task(plan.task, "plan")
        raise UsageError(
            "there is no task", 'say what is to be done: et run "implement binary search in Python"'
        )
    if plan is not None and typed != plan.task.strip():
        raise UsageError("the plan was made for another task", "leave out the task, or the --plan")
    return Task(typed, source)


def _read_plan(file: str) -> Plan:
    from electrictown.roles.plans import plan_of

    return plan_of(read_text(file, "plan"), source=file)
