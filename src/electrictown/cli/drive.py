"""Driving a run from the command line: its console, its journal, Ctrl-C, the result, and how to go on."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from shlex import quote
from typing import TYPE_CHECKING, cast

import click
from msgspec import Struct

from electrictown.errors import BudgetExceeded, ElectrictownError, JournalError, StoppedError, UsageError
from electrictown.events import Noted
from electrictown.redact import mask

if TYPE_CHECKING:
    from electrictown.engine.remote import Dispatch
    from electrictown.engine.run import Run
    from electrictown.events import Event
    from electrictown.journal.journal import Journal, Store
    from electrictown.journal.postgres_journal import PostgresJournal
    from electrictown.llm.slots import Slots
    from electrictown.work import Report

__all__ = ["Driver", "Output", "Premises", "drive", "premises", "repeated"]

_INTERRUPTED = 130


class Output(Struct, frozen=True):
    """What of a run is shown: the report as JSON, every event as a JSON line, or nothing but the result."""

    as_json: bool = False
    as_jsonl: bool = False
    quiet: bool = False

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            UsageError: for two formats at once.
        """
        if self.as_json and self.as_jsonl:
            raise UsageError("--json and --jsonl exclude each other", "choose one")


def drive(output: Output, begin: Callable[[Driver], Coroutine[None, None, None]]) -> int:
    """Have `begin` execute a run with the driver it is given; show what came of it.

    Returns the exit code: the report's own.
    """
    from electrictown.console.choose import choose

    console = choose(sys.stdout, sys.stderr, quiet=output.quiet, jsonl=output.as_jsonl)
    driver = Driver(console)
    trouble: ElectrictownError | None = None
    try:
        # A run that was interrupted, or whose journal failed, has a report too, of what was done until then.
        try:
            with suppress(asyncio.CancelledError, KeyboardInterrupt):
                asyncio.run(begin(driver))
        except ElectrictownError as error:
            if driver.report is None:
                raise
            trouble = error
        if driver.report is None:
            return _INTERRUPTED
        with suppress(BrokenPipeError):  # a reader that went away does not change how the run ended
            if output.as_json:
                _print_json(driver.report)
            elif not output.as_jsonl:
                _print_result(driver.report)
    finally:
        console.close()
    if driver.resumable and not output.quiet:
        with suppress(OSError):
            print(f"to go on: {_going_on(driver, driver.report)}", file=sys.stderr)
    if trouble is not None and trouble.exit_code != driver.report.exit_code:  # the report does not tell of it
        raise trouble
    return driver.report.exit_code


def _going_on(driver: Driver, report: Report) -> str:
    """The command that goes on; one with a larger budget where this one is spent."""
    error = report.error
    if error is not None and error.type == BudgetExceeded.__name__ and error.hint.startswith("et resume "):
        return error.hint + driver.where
    return f"et resume {report.run}{driver.where}"


class Driver:
    """Executes a run while it listens for Ctrl-C, SIGTERM and `et cancel`.

    The first Ctrl-C begins nothing new and lets end what is under way, the second cuts that too; SIGTERM
    and a cancellation cut at once. `report` is what the run came to, None before. `where` is what the
    command that goes on must say beside the run's name.
    """

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._interrupts = 0
        self._cut: Callable[[], object] = lambda: None
        self.report: Report | None = None
        self.resumable = False
        self.where = ""

    def emit(self, event: Event) -> None:
        """Show `event`."""
        self._emit(event)

    def cut(self, error: ElectrictownError) -> None:
        """End the run at once, since it may not go on; it can be taken up again."""
        self._emit(Noted(text=error.message, level="warning"))
        self._cut()

    async def execute(
        self, prepare: Callable[[Dispatch | None], Run], journal: Journal, at: Premises
    ) -> None:
        """Execute the run that `prepare` makes to its end, and let go of its `journal`.

        Raises:
            CancelledError: when it was cut; `report` is there all the same.
            JournalError: when the last steps could not be written.
        """
        try:
            async with at.dispatching(journal) if at.dispatching else nullcontext() as dispatch:
                await self._execute(prepare(dispatch), journal)
        finally:
            await journal.aclose()

    async def _execute(self, run: Run, journal: Journal) -> None:
        loop = asyncio.get_running_loop()
        main = asyncio.current_task()
        assert main is not None  # noqa: S101  (a coroutine that runs has a task)
        self._cut = main.cancel

        def interrupt() -> None:
            self._interrupts += 1
            if self._interrupts == 1:
                run.stop(StoppedError("interrupted", f"et resume {journal.run}{self.where} goes on"))
            else:
                main.cancel()

        def wished(looking: asyncio.Task[None]) -> None:
            error = None if looking.cancelled() else looking.exception()
            if isinstance(error, JournalError):  # what cannot be read any more is not written to either
                run.stop(error)
            elif error is not None:
                raise error
            elif not looking.cancelled():
                self.where += " --anyway"
                self._emit(Noted(text="somebody wants the run cancelled", level="warning"))
                main.cancel()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        loop.add_signal_handler(signal.SIGTERM, main.cancel)
        cancelled = loop.create_task(journal.cancelled(), name="cancellation")
        cancelled.add_done_callback(wished)
        try:
            await run.execute()
        finally:
            self.show(run.report)
            cancelled.cancel()
            await asyncio.wait((cancelled,))

    def show(self, report: Report | None) -> None:
        """Take `report` for what came of the run."""
        self.report = report
        self.resumable = report is not None and report.outcome in ("failed", "interrupted")


def repeated(db: str | None, env_file: str | None) -> str:
    """What the command that goes on must say again, beside the run's name; never a password."""
    given = {"--db": db and mask(db), "--env-file": env_file}
    return "".join(f" {option} {quote(value)}" for option, value in given.items() if value)


class Premises(Struct, frozen=True):
    """What a run is driven from: the store of its journal, the slots it shares with others, and who finds
    other machines for its subtasks (None: nobody, it works them itself).
    """

    store: Store
    slots: Slots
    dispatching: Callable[[Journal], AbstractAsyncContextManager[Dispatch]] | None = None


@asynccontextmanager
async def premises(db: str, environ: Mapping[str, str], driver: Driver) -> AsyncGenerator[Premises]:
    """Where the run of `driver` is driven from: this machine's own store ("" or a file's path), or a
    PostgreSQL that other machines share. Closed on leaving.

    Raises:
        JournalError: when the store cannot be opened.
        UsageError: when `db` names none.
    """
    from electrictown.journal.stores import is_shared, open_store, state_folder

    async with AsyncExitStack() as stack:
        store = await open_store(db, environ)
        stack.push_async_callback(store.aclose)
        if not is_shared(db):
            from electrictown.llm.machine_slots import MachineSlots

            yield Premises(store, MachineSlots(state_folder(environ) / "slots"))
            return
        from electrictown.engine.dispatch import Dispatcher
        from electrictown.journal.postgres import PostgresStore
        from electrictown.llm.postgres_slots import PostgresSlots

        assert isinstance(store, PostgresStore)  # noqa: S101  (open_store goes by the same word)
        database = store.database
        slots = await stack.enter_async_context(PostgresSlots(database, driver.cut))
        yield Premises(
            store,
            slots,
            lambda journal: Dispatcher(database, cast("PostgresJournal", journal), emit=driver.emit),
        )


def _print_json(report: Report) -> None:
    import msgspec

    click.echo(mask(msgspec.json.format(msgspec.json.encode(report), indent=2).decode()))


def _print_result(report: Report) -> None:
    # A model's words may hold escape sequences: a file gets them as they are, a terminal does not.
    from electrictown.console.text import blocks

    safe = blocks if sys.stdout.isatty() else str
    if report.outcome == "dry-run":
        from electrictown.console.foreseen import foreseen

        click.echo(safe(mask(foreseen(report))))
    elif report.text:
        click.echo(safe(mask(report.text)))
