"""Journals as a crash, an interruption or an end leaves them: written by the real store, read by `et`."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from electrictown.events import (
    Event,
    HopTaken,
    Noted,
    PlanMade,
    RunEnded,
    RunStarted,
    SubtaskEnded,
    SubtaskStarted,
)
from electrictown.journal.journal import Journal
from electrictown.journal.records import Exchange, Header, Receipt, Reserved, Settled, WrittenFile
from electrictown.journal.sqlite import SqliteStore
from electrictown.journal.stores import open_store
from electrictown.work import Attempt, Done, Failed, Failure, Plan, Report, Review, Subtask, Task

__all__ = [
    "PLAN",
    "Scribe",
    "crashed",
    "driven",
    "ended",
    "journal_of",
    "request",
    "reserved",
    "settled",
    "whole_run",
    "write_runs",
]

Scribe = Callable[[Journal], Awaitable[None]]
"""Writes one run's steps."""


def journal_of(home: Path) -> Path:
    """The journal that `et` finds by itself for who lives at `home`."""
    return home / ".local" / "state" / "electrictown" / "journal.db"


def write_runs(
    db: Path | str,
    runs: Sequence[tuple[str, str, Sequence[Scribe]]],
    settings: dict[str, object] | None = None,
) -> None:
    """Write runs, each with its id, task, and one scribe a driver it had; `settings` are their options."""

    async def write() -> None:
        store = await open_store(str(db), os.environ)
        try:
            for run, task, scribes in runs:
                for n, scribe in enumerate(scribes):
                    header = Header(
                        Task(task), file="electrictown.yaml", settings=settings or {}, program="1.0"
                    )
                    journal = await (store.resume(run) if n else store.begin(run, header))
                    try:
                        await scribe(journal)
                    finally:
                        await journal.aclose()
        finally:
            await store.aclose()

    asyncio.run(write())


@contextmanager
def driven(path: Path, run: str, *, ends_when_cancelled: bool = True) -> Generator[Callable[[Event], None]]:
    """`run` is driven by a thread until the block ends, or somebody cancels it; events are told to it."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()
    journals: list[Journal] = []

    async def drive() -> None:
        store = await SqliteStore.open(path)
        journal = await store.begin(run, Header(Task("a long task")))
        journals.append(journal)
        try:
            await journal.record("call1.e1.r1", reserved(usd=0.25), kind="reserve")
            ready.set()
            wish = loop.create_task(journal.cancelled())
            if ends_when_cancelled:
                wish.add_done_callback(lambda _: over.set())
            await over.wait()
            wish.cancel()
        finally:
            await journal.aclose()
            await store.aclose()

    thread = threading.Thread(target=loop.run_until_complete, args=(drive(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield lambda event: loop.call_soon_threadsafe(journals[0].tell, event) and None
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def reserved(role: str = "polecat", *, usd: float | None = None, subtask: str = "") -> Reserved:
    return Reserved("call1", role, "cloud", "big", subtask=subtask, usd=usd, tokens=1000)


def settled(
    role: str, usd: float | None, *, provider: str = "cloud", model: str = "big", **more: object
) -> Settled:
    counted: dict[str, object] = {"input": 100, "output": 50, "outcome": "done", **more}
    return Settled(call="c", role=role, provider=provider, model=model, usd=usd, **counted)  # type: ignore[arg-type]


async def request(journal: Journal, call: str, done: Settled) -> None:
    """One request: reserved, and settled."""
    key = f"{call}.e{journal.epoch}.r1"
    await journal.record(key, reserved(done.role, usd=done.usd, subtask=done.subtask), kind="reserve")
    await journal.record(f"{key}.settled", done, kind="settle")


async def crashed(journal: Journal) -> None:
    """Asks for a plan, and dies while the next request is under way."""
    await request(journal, "plan", settled("mayor", 0.5))
    await journal.record("t01.e1.r1", reserved(usd=0.25), kind="reserve")


def ended(outcome: str = "done", code: int = 0, **more: object) -> Scribe:
    """Writes the end of a run."""

    async def end(journal: Journal) -> None:
        report = Report(journal.run, "t", outcome, code, **more)  # type: ignore[arg-type]
        await journal.record(f"end.e{journal.epoch}", report, kind="end")

    return end


PLAN = Plan(
    "write a word counter",
    (
        Subtask("t01", "write the parser"),
        Subtask("t02", "write the printer", specialist="artist"),
        Subtask("t03", "write the tests", depends=("t01", "t02")),
        Subtask("t04", "write the manual", depends=("t03",)),
    ),
    notes=("two subtasks were merged",),
)
GONE = Failure("ServerError", "HTTP 500: the box is on fire", "try again later")
LOW, HIGH = Review("weak", passed=False, score=4, threshold=6), Review("good", passed=True, score=8)


async def whole_run(journal: Journal) -> None:
    """A run with all in it: a subtask done at its second try, one below par, one failed, one waiting."""
    now = 1_700_000_000.0
    journal.tell(RunStarted(run=journal.run, task=PLAN.task, time=now))
    await request(journal, "plan.call1", settled("mayor", 0.02))
    await journal.record("plan", PLAN, kind="plan")
    journal.tell(PlanMade(plan=PLAN, time=now + 1))
    first = Attempt(1, "big", "cloud", 1.5, 50, "draft", LOW)
    second = Attempt(2, "small", "box", 1.0, 60, "better", HIGH)
    for number, attempt in enumerate((first, second), 1):
        journal.tell(
            SubtaskStarted(subtask="t01", attempt=number, model=attempt.model, provider="x", time=now)
        )
        paid = settled("polecat", 0.03, provider=attempt.provider, model=attempt.model, subtask="t01")
        await request(journal, f"t01.attempt{number}", paid)
        await journal.record(f"t01.attempt{number}", attempt, kind="attempt")
        await request(journal, f"t01.review{number}", settled("witness", 0.0, provider="box", subtask="t01"))
        await journal.record(f"t01.review{number}", attempt.review, kind="review")
    file = WrittenFile("parser.py", "ab" * 32, 1234, "parser.py.kept")
    receipt = Receipt((file,), (("../evil", "it leads out of the folder"),))
    await journal.record("t01.files1", receipt, kind="receipt")
    await journal.record(
        "t01.result", Done("t01", "better", attempts=(first, second), review=HIGH), kind="result"
    )
    journal.tell(SubtaskEnded(subtask="t01", attempts=(first, second), time=now + 4))
    await request(journal, "t02.attempt1", settled("polecat", 0.0, provider="box", subtask="t02"))
    await journal.record("t02.result", Done("t02", "so so", attempts=(first,), accepted=False), kind="result")
    hop = HopTaken(failed="big", error=GONE, took_over="small", role="polecat", subtask="t03", time=now + 5)
    await journal.record("hop.e1.1", hop, kind="hop")
    journal.tell(hop)
    asked = {
        "messages": [{"role": "user", "parts": [{"type": "text", "text": "write the tests\nall of them"}]}]
    }
    failing = Exchange("polecat", "cloud", "big", GONE, asked, "<h1>500\x1b[2J</h1>", "t03")
    await journal.record("t03.attempt1.e1.r1.failed", failing, kind="failure")
    await request(
        journal,
        "t03.attempt1",
        settled("polecat", 0.0, subtask="t03", outcome="failed", billed=False, input=0),
    )
    await journal.record("note.e1.2", Noted(text="t02 was not accepted by the witness"), kind="note")
    failed = Failed("t03", GONE, (Attempt(1, "big", "cloud", error=GONE),))
    report = Report(
        journal.run, PLAN.task, "failed", 1, text="the merged text", results=(failed,), error=GONE
    )
    await journal.record(f"end.e{journal.epoch}", report, kind="end")
    journal.tell(RunEnded(report=report, time=now + 6))
