"""`et show`: all that is known of one run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

import click

from electrictown.cli.journals import db_option, json_option, moment, run_argument, with_store
from electrictown.cli.tables import print_json, table_lines

if TYPE_CHECKING:
    from electrictown.cli.dossier import Dossier, Failing, Part
    from electrictown.journal.records import Header, Json

__all__ = ["command"]

_RESUMABLE = ("stopped", "interrupted", "failed")

_TASK = 500
"""Characters of the task that are shown."""

_TEXT = 60
"""Characters of a subtask's text that are shown."""

_DIGEST = 12
"""Characters of a file's digest that are shown."""


@click.command(short_help="Show all that is known of one run.")
@run_argument
@click.option(
    "--failed", is_flag=True, help="The requests that failed, each with what was asked and answered."
)
@json_option
@db_option
def command(name: str, failed: bool, as_json: bool, db: str | None) -> None:
    """Show all that is known of RUN: the plan and what became of each subtask,
    who worked and what the reviews said, decisions, costs, failovers, files.

    RUN is a run's id, the beginning of one, or `last`.

    \b
      et show last
      et show last --failed
      et show 20261122 --json

    With --failed: every request that failed, without its secrets.
    """
    from electrictown.cli.dossier import read_dossier, read_failures

    if failed:
        failures = with_store(db, lambda store: read_failures(store, name))
        if as_json:
            print_json(failures)
        else:
            _print(_failures(failures))
        return
    dossier = with_store(db, lambda store: read_dossier(store, name))
    if as_json:
        print_json(dossier)
    else:
        _print(_lines(dossier))


def _print(lines: Iterable[str]) -> None:
    from electrictown.redact import mask

    for text in lines:
        click.echo(mask(text))


def _lines(dossier: Dossier) -> Iterable[str]:
    from electrictown.console.closing import bill_lines, hops
    from electrictown.console.text import count, line

    yield from _head(dossier)
    yield from _section(f"Plan: {count(len(dossier.parts), 'subtask')}", _plan(dossier.parts))
    yield from _section("Decisions", [line(text) for text in dossier.decisions])
    yield from _section("Costs", bill_lines(dossier.costs, dossier.total))
    yield from _section("Failed over", hops(dossier.hops))
    yield from _section("Files", _files(dossier))
    yield from _section("Refused files", [line(text) for text in dossier.refused])


def _section(title: str, lines: Sequence[str]) -> Iterable[str]:
    if lines:
        yield ""
        yield title
        yield from (f"  {text}" for text in lines)


def _head(dossier: Dossier) -> Iterable[str]:
    from electrictown.console.text import duration, failure, line

    row, header = dossier.row, dossier.header
    facts: list[tuple[str, str]] = [("run", row.run)]
    ended = f" (exit code {row.exit_code})" if row.exit_code is not None else ""
    facts.append(("state", f"{row.state}{ended}"))
    if dossier.error is not None:
        facts.append(("error", failure(dossier.error)))
    source = header.task.source
    facts.append(
        ("task", line(header.task.text, _TASK) + (f" (from {source})" if source != "argument" else ""))
    )
    facts.append(("config", header.file or "what was found on the machine"))
    if header.folder:
        facts.append(("folder", header.folder))
    if chosen := _chosen(header):
        facts.append(("options", ", ".join(chosen)))
    last = row.ended if row.ended is not None else time.time() if row.state == "running" else None
    took = f", {duration(last - row.started)}" if last is not None else ""
    facts.append(("started", moment(row.started) + took))
    for drive in dossier.drivers:
        d = drive.driver
        what = "begun" if drive.epoch == 1 else "resumed"
        with_ = f" with {d.program}" if d.program else ""
        facts.append((what, f"{moment(drive.at)} by process {d.pid} on {d.host}{with_}"))
    facts.append(("budget", _budget(dossier)))
    if row.state in _RESUMABLE:
        resume = "et session spawn --resume" if "session" in header.settings else "et resume"
        facts.append(("go on", f"{resume} {row.run}"))
    yield from (f"{name:<8} {line(text)}" for name, text in facts)


_APART = ("caps", "plan", "session")
"""What the settings hold beside the options: the budget and the plan have places of their own."""


def _chosen(header: Header) -> list[str]:
    """The options that are not as they are by default."""
    from electrictown.engine.team import RunOptions

    usual = {**RunOptions().settings(), **{key: header.settings.get(key) for key in _APART}}
    return [f"{key}={value}" for key, value in header.settings.items() if value != usual.get(key)]


def _budget(dossier: Dossier) -> str:
    """The cap, and what was counted against it: more than was billed, where that is not known."""
    from electrictown.console.text import bill, count, money

    budget = dossier.budget
    spent = f"{money(budget.usd)} and {count(budget.tokens, 'token')}" if budget.cap else bill(dossier.total)
    told = [f"{budget.cap or 'none'}: {spent} spent"]
    for left, what in ((budget.unsettled, "left unsettled by a crash"), (budget.in_flight, "in flight")):
        if left.requests:
            most = money(left.usd, left.known_usd)
            told.append(f"{count(left.requests, 'request')} {what}, at the most {most}")
    return ", ".join(told)


def _plan(parts: Sequence[Part]) -> list[str]:
    if not parts:
        return []
    rows = [("", "state", "who", "attempts", "reviews", "subtask"), *(_row(part) for part in parts)]
    return table_lines(rows, right={3})


def _row(part: Part) -> tuple[str, ...]:
    from electrictown.console.text import failure, line, who

    s = part.subtask
    marks = [f"after {', '.join(s.depends)}"] if s.depends else []
    marks += [f"for {s.specialist}"] if s.specialist else []
    about = line(s.text, _TEXT) + (f" ({'; '.join(marks)})" if marks else "")
    workers = dict.fromkeys(who(a.model, a.provider) for a in part.attempts)
    scores = ["no score" if r.score is None else f"{r.score:g}" for r in part.reviews]
    return (
        s.id,
        part.state,
        ", then ".join(workers) or "-",
        str(len(part.attempts)),
        ", then ".join(scores) or "-",
        f"{about}: {failure(part.error)}" if part.error is not None else about,
    )


def _files(dossier: Dossier) -> list[str]:
    from electrictown.console.text import count

    rows = [
        (
            placed.file.path,
            placed.subtask,
            count(placed.file.bytes, "byte"),
            f"sha256 {placed.file.digest[:_DIGEST]}",
            f"(was there before: kept as {placed.file.kept})" if placed.file.kept else "",
        )
        for placed in dossier.files
    ]
    return table_lines([("file", "subtask", "size", "digest", ""), *rows], right={2}) if rows else []


def _failures(failures: Sequence[Failing]) -> Iterable[str]:
    from electrictown.console.text import blocks, count, failure, line, who

    yield f"{count(len(failures), 'failed request')}" if failures else "no request failed"
    for failing in failures:
        e = failing.exchange
        yield ""
        asker = " ".join(filter(None, (e.role, e.subtask)))
        yield line(f"{moment(failing.at)}  {asker} asked {who(e.model, e.provider)}  [{failing.key}]")
        yield f"  {failure(e.error)}"
        if e.error.hint:
            yield f"  hint: {line(e.error.hint)}"
        for title, lines in (("asked", _tree(e.request)), ("answered", blocks(e.reply).splitlines())):
            yield f"  {title}:" if lines else f"  {title}: nothing"
            yield from (f"    {text}" for text in lines)


def _tree(value: Json) -> list[str]:
    """A JSON value as indented lines, texts as they read: line breaks in them are line breaks here."""
    from electrictown.console.text import blocks

    if isinstance(value, dict):
        return [text for pair in cast("dict[str, Json]", value).items() for text in _named(*pair)]
    if isinstance(value, list):
        items = [_tree(item) for item in cast("list[Json]", value)]
        return [f"{'  ' if n else '- '}{text}" for item in items for n, text in enumerate(item)]
    return blocks(value if isinstance(value, str) else _plain(value)).splitlines()


def _named(key: str, value: Json) -> list[str]:
    """A field of a JSON object; what is empty is left out."""
    from electrictown.console.text import line

    inner = [] if value in (None, "", [], {}) else _tree(value)
    if len(inner) == 1 and not isinstance(value, dict | list):
        return [f"{line(key)}: {inner[0]}"]
    return [f"{line(key)}:", *(f"  {text}" for text in inner)] if inner else []


def _plain(value: Json) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()
