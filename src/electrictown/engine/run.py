"""One run: task, plan, brief, work, synthesis, polish, report. The whole pipeline on one screen.

Data flows one way. Events are the only side channel and are never read back to decide anything.
Whatever ends a run (a failure, the deadline, Ctrl-C), the report holds all that was done until then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Protocol

from msgspec.structs import replace

from electrictown.budget.reservation import spent_before
from electrictown.engine.calls import key_of_all
from electrictown.engine.chronicle import Chronicle
from electrictown.engine.delivery import Delivery
from electrictown.engine.foresight import foresee
from electrictown.engine.relay import stream_text
from electrictown.engine.remote import Dispatch, RemoteWorker
from electrictown.engine.schedule import schedule
from electrictown.engine.verdict import exit_code, outcome, side_by_side, worst
from electrictown.engine.worker import TextWorker
from electrictown.engine.workshop import Workshop
from electrictown.errors import (
    AuthError,
    DeadlineError,
    ElectrictownError,
    HaltError,
    JournalError,
    PlanError,
)
from electrictown.events import Noted, PhaseEnded, PhaseStarted, PlanMade, RunEnded, RunStarted
from electrictown.journal.records import Receipt
from electrictown.llm.messages import Chunk
from electrictown.roles.plans import single, validate_plan
from electrictown.roles.refinery import Refinery, polished
from electrictown.roles.role import text_of
from electrictown.work import Budget, Done, Failure, Plan, Planned, Report, Result, Task
from electrictown.workspace.folder import Folder

__all__ = ["INTERRUPTED", "Gate", "Run"]

INTERRUPTED = 130


class Gate(Protocol):
    """What every request of a run passes, and where its cost is counted."""

    @property
    def budget(self) -> Budget | None:
        """What of the budget is gone; None for a run without one."""
        ...

    async def refresh(self) -> None:
        """Know what all who work the run have spent, where several machines do."""
        ...

    def close(self, error: HaltError) -> None:
        """Let nobody pass any more, and tell them `error`."""
        ...


class Run:
    """One task from start to report. An object serves one run: `report = await run.execute()`.

    What the journal knows is neither done nor paid for again.
    """

    def __init__(
        self,
        task: Task,
        shop: Workshop,
        chronicle: Chronicle,
        gate: Gate,
        dispatch: Dispatch | None = None,
    ) -> None:
        self._task = task
        self._shop = shop
        self._team = shop.team
        self._router = shop.router
        self._options = options = shop.options
        self._journal = shop.journal
        self._emit = shop.emit
        self._chronicle = chronicle
        self._gate = gate
        self._dispatch = dispatch
        self._plan: Plan | None = options.plan
        self._folder = (
            Folder(options.output_dir, shop.journal.run) if options.output_dir is not None else None
        )
        self._brief = ""
        self._results: dict[str, Result] = {}
        self._text = ""
        self._planned: tuple[Planned, ...] = ()
        self._error: Failure | None = None
        self.report: Report | None = None

    def stop(self, why: HaltError) -> None:
        """Begin nothing new; what is under way may end, and then the run does."""
        self._note("stopping: what is under way may end")
        self._gate.close(why)
        if self._dispatch is not None:
            self._dispatch.close(why)

    async def execute(self) -> Report:
        """Run to the end; an expected failure is in the report, never raised.

        Raises:
            CancelledError: when the run is interrupted, after its report was emitted.
        """
        started = time.monotonic()
        self._emit(RunStarted(run=self._journal.run, task=self._task.text))
        interrupted = False
        limit = asyncio.timeout(self._options.timeout)
        try:
            async with limit:
                await self._pipeline()
        except TimeoutError:
            if not limit.expired():
                raise
            late = DeadlineError(
                f"the run was not finished after {self._options.timeout:g} s", "--timeout allows more"
            )
            self._error = Failure.of(late)
        except ElectrictownError as error:
            self._error = Failure.of(error)
        except asyncio.CancelledError:
            interrupted = True
            raise
        except Exception as bug:
            self._error = Failure(type(bug).__name__, f"a fault of the program itself: {bug}")
            raise
        finally:
            report = self._report(time.monotonic() - started, interrupted=interrupted)
            report = self.report = await self._closed(report)
            self._emit(RunEnded(report=report))
        return report

    async def _pipeline(self) -> None:
        if self._folder is not None and not self._options.dry_run:
            self._know_own_files(self._folder)
            await self._folder.prepare()  # before a model is paid for what could not be written
        plan = await self._plan_made()
        if self._options.dry_run:
            self._planned = await foresee(plan, self._team, self._router, self._options)
            return
        # One worker alone needs no mayor, not even for a plan that was brought along.
        several = self._team.worker.several
        if self._options.brief and several and len(plan.subtasks) > 1:
            await self._briefed(plan)
        results = await self._worked(plan)
        done = [r for r in results if isinstance(r, Done)]
        if not done:
            return
        if not several and len(results) == 1:
            self._text = done[0].text
        elif several and self._options.synthesize:
            await self._synthesized(plan, results)
        else:
            self._text = side_by_side(plan, results)
        if self._options.refinery and self._team.refinery is not None:
            await self._refined(self._team.refinery, key_of_all("refine", results, self._journal))

    def _know_own_files(self, folder: Folder) -> None:
        """Files that this run wrote, or was about to write, before it was taken up again are its own."""
        for step in self._journal.steps(("intent", "receipt")):
            for file in step.read(Receipt).written:
                folder.adopt(file.path, file.digest, step.key.partition(".")[0])

    async def _closed(self, report: Report) -> Report:
        """`report`, recorded; where it cannot be, it says so."""
        try:
            await self._journal.record(f"end.e{self._journal.epoch}", report, kind="end")
        except JournalError as error:
            if report.error is None:
                return replace(report, outcome="failed", exit_code=error.exit_code, error=Failure.of(error))
        return report

    async def _plan_made(self) -> Plan:
        plan = self._journal.recorded("plan", Plan)
        if plan is None:
            plan = await self._planned_anew()
            await self._journal.record("plan", plan, kind="plan")
        self._plan = plan
        self._emit(PlanMade(plan=plan))
        return plan

    async def _planned_anew(self) -> Plan:
        plan = validate_plan(self._plan) if self._plan is not None else None
        if plan is None and not self._team.worker.several:
            plan = single(self._task.text)
        if plan is None:
            refused = len(self._journal.steps(("refusal",)))
            call = f"plan{refused + 1}" if refused else "plan"
            async with self._phase("plan", self._team.mayor.role):
                try:
                    plan = await self._team.mayor.decompose(self._task.text, call=call)
                except PlanError as error:
                    if not self._team.one_subtask_if_unplannable:
                        # Whoever takes the run up again asks anew: these replies are of no use.
                        await self._journal.record(f"{call}.refused", Failure.of(error), kind="refusal")
                        raise
                    note = f"the model could not make a plan ({error.message}): the task is one subtask"
                    plan = single(self._task.text, note)
        return plan

    async def _briefed(self, plan: Plan) -> None:
        with self._helpful("the coordination brief"):
            async with self._phase("brief", self._team.mayor.role):
                self._brief = await self._team.mayor.brief(plan)

    async def _worked(self, plan: Plan) -> tuple[Result, ...]:
        worker = self._worker(plan)
        async with self._phase("work"):
            results = await schedule(plan, worker, self._ended)
        if self._dispatch is not None:  # what was asked elsewhere is on the bill too
            await self._dispatch.caught_up()
            await self._gate.refresh()
            self._router.tracker.records[:] = spent_before(self._journal)
        self._error = worker.witness_failure
        if worker.halted is not None:
            if any(isinstance(r, Done) for r in results):
                self._text = side_by_side(plan, results)
            raise worker.halted
        return results

    def _worker(self, plan: Plan) -> TextWorker | RemoteWorker:
        """Who works: other machines where there is somebody to hand subtasks to, else this process."""
        delivery = Delivery(self._folder, self._journal, self._emit) if self._folder is not None else None
        if self._dispatch is not None:
            return RemoteWorker(self._dispatch, delivery, plan, self._journal, self._emit)
        return self._shop.worker(plan, self._brief, delivery)

    async def _synthesized(self, plan: Plan, results: tuple[Result, ...]) -> None:
        mayor = self._team.mayor
        call = key_of_all("synthesize", results, self._journal)
        try:
            async with self._phase("synthesize", mayor.role):
                self._text = await self._streamed(
                    "synthesize", mayor.synthesize_stream(plan.task, results, plan=plan, call=call)
                )
        except ElectrictownError:
            # The work is done and paid for: it is handed over as it is, and the run says what failed.
            self._text = side_by_side(plan, results)
            raise

    async def _refined(self, refinery: Refinery, call: str) -> None:
        with self._helpful("the polish"):
            async with self._phase("refine", refinery.role):
                reply = refinery.refine_stream(self._text, call=call)
                response = await stream_text(reply, self._emit, "refine")
                self._text = polished(self._text, response)

    async def _streamed(self, phase: str, reply: AbstractAsyncContextManager[AsyncIterator[Chunk]]) -> str:
        response = await stream_text(reply, self._emit, phase)
        if response.finish_reason == "length":
            self._note(f"the reply of {phase} was cut at the model's token limit", "warning")
        return text_of(response)

    @asynccontextmanager
    async def _phase(self, name: str, role: str = "") -> AsyncGenerator[None]:
        model = self._router.routes.for_role(role).primary.label if role else ""
        self._emit(PhaseStarted(phase=name, model=model))
        started = time.monotonic()
        failure: Failure | None = None
        try:
            yield
        except ElectrictownError as error:
            failure = Failure.of(error)
            raise
        finally:
            self._emit(PhaseEnded(phase=name, seconds=time.monotonic() - started, error=failure))

    @contextmanager
    def _helpful(self, what: str) -> Generator[None]:
        """A phase that improves the result but is not the result: without it the work still stands.

        It is said aloud all the same; a wrong key fails the run's exit code, since it will not mend itself.
        """
        try:
            yield
        except HaltError:
            raise
        except ElectrictownError as error:
            self._note(f"without {what}: {error.message}", "warning")
            if isinstance(error, AuthError):
                self._error = Failure.of(error)

    def _ended(self, result: Result) -> None:
        self._results[result.subtask] = result

    def _note(self, text: str, level: str = "info") -> None:
        self._emit(Noted(text=text, level=level))

    def _report(self, seconds: float, *, interrupted: bool) -> Report:
        plan, seen = self._plan, self._chronicle
        order = [s.id for s in plan.subtasks] if plan is not None else []
        results = tuple(self._results[name] for name in order if name in self._results)
        if interrupted:
            code, ended = INTERRUPTED, outcome(INTERRUPTED)
        else:
            code = exit_code(self._error, results)
            ended = "dry-run" if not code and self._options.dry_run else outcome(code)
        costs = self._router.tracker.summary()
        return Report(
            run=self._journal.run,
            task=self._task.text,
            outcome=ended,
            exit_code=code,
            text=self._text,
            plan=plan,
            brief=self._brief,
            results=results,
            files=seen.files,
            refused=seen.refused,
            costs={"role": costs.by_role, "provider": costs.by_provider, "model": costs.by_model},
            total=costs.total,
            hops=seen.hops,
            notes=seen.notes,
            planned=self._planned,
            budget=self._gate.budget,
            error=worst(results, self._error),
            seconds=seconds,
        )
