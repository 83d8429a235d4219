"""Whatever happens, in whatever order: no cap is overshot, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Literal

from budget_kit import CHEAP, DEAR, FREE, Lane, Till, instantly, question
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from electrictown.budget.caps import Cap, Caps
from electrictown.errors import BudgetExceeded, ConnectError, IdleTimeout, ProviderError, ServerError
from electrictown.journal.records import Reserved, Settled
from electrictown.llm.admission import Asking
from electrictown.llm.bounds import most_input
from electrictown.llm.messages import Usage, user
from electrictown.llm.prices import Prices
from electrictown.llm.routes import Target

NANO = 10**9
PRICES = Prices()

Fate = Literal["done", "silent", "500", "504", "unsent", "lost", "cut", "left", "cancelled", "unanswered"]
FATES: tuple[Fate, ...] = (
    "done",
    "silent",
    "500",
    "504",
    "unsent",
    "lost",
    "cut",
    "left",
    "cancelled",
    "unanswered",
)
UNBILLED = {"500", "unsent"}


class Plot(Struct, frozen=True):
    """What one call will come to. `share` is how much of its worst case the vendor really bills."""

    target: Target
    role: str
    subtask: str
    size: int
    max_tokens: int | None
    fate: Fate
    share: float
    start: float
    lasts: float


PLOTS = st.builds(
    Plot,
    target=st.sampled_from([CHEAP, DEAR, FREE]),
    role=st.sampled_from(["mayor", "polecat"]),
    subtask=st.sampled_from(["", "t1", "t2"]),
    size=st.integers(0, 3000),
    max_tokens=st.none() | st.integers(1, 30_000),
    fate=st.sampled_from(FATES),
    share=st.floats(0, 1),
    start=st.floats(0, 5),
    lasts=st.floats(0.01, 5),
)
MONEY = st.none() | st.floats(0.001, 2.0)
TOKENS = st.none() | st.integers(2_000, 200_000)
CAP = st.builds(Cap, usd=MONEY, tokens=TOKENS)
CAPS = st.builds(
    Caps,
    usd=MONEY,
    tokens=TOKENS,
    per_role=st.dictionaries(st.sampled_from(["mayor", "polecat"]), CAP, max_size=2),
    per_subtask=CAP,
)


class Vendor:
    """Knows what is really paid, by scope, whoever hears of it."""

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self.nano: Counter[tuple[str, str]] = Counter()
        self.tokens: Counter[tuple[str, str]] = Counter()

    def bills(self, plot: Plot, limit: int, prompt: int) -> tuple[Usage, float]:
        usage = Usage(input=int(prompt * plot.share), output=int(limit * plot.share))
        usd = PRICES.usd(plot.target, usage)
        assert usd is not None
        if plot.fate not in UNBILLED:
            for scope in scopes(plot.role, plot.subtask):
                self.nano[scope] += round(usd * NANO)
                self.tokens[scope] += usage.total
        within(self.caps, self.nano, self.tokens)
        return usage, usd


def scopes(role: str, subtask: str) -> list[tuple[str, str]]:
    return [("", ""), ("role", role), *([("subtask", subtask)] if subtask else [])]


def within(caps: Caps, nano: Counter[tuple[str, str]], tokens: Counter[tuple[str, str]]) -> None:
    """No scope holds more than its cap."""
    for kind, name in {*nano, *tokens}:
        cap = {"": caps.run, "role": caps.per_role.get(name, Cap()), "subtask": caps.per_subtask}[kind]
        assert cap.usd is None or nano[kind, name] <= round(cap.usd * NANO), (kind, name)
        assert cap.tokens is None or tokens[kind, name] <= cap.tokens, (kind, name)


def audit(caps: Caps, lane: Lane) -> None:
    """The committed steps alone, as a crash would leave them, never come to more than a cap."""
    nano: Counter[tuple[str, str]] = Counter()
    tokens: Counter[tuple[str, str]] = Counter()
    for key, step in lane.steps.items():
        if step.kind != "reserve":
            continue
        reserved, settlement = step.read(Reserved), lane.steps.get(f"{key}.settled")
        usd, used = reserved.usd or 0.0, reserved.tokens
        if settlement is not None:
            settled = settlement.read(Settled)
            usd, used = settled.charged_usd, settled.charged_tokens
        for scope in scopes(reserved.role, reserved.subtask):
            nano[scope] += round(usd * NANO)
            tokens[scope] += used
    within(caps, nano, tokens)


async def play(till: Till, vendor: Vendor, plot: Plot, name: str, done: set[str]) -> None:
    await asyncio.sleep(plot.start)
    request = question(max_tokens=plot.max_tokens)
    request = type(request)(messages=(user("x" * plot.size),), max_tokens=plot.max_tokens)
    try:
        async with till.purse.admit(plot.target, request, Asking(plot.role, plot.subtask, name)) as lease:
            if lease is None:
                return
            sent = lease.request
            if till.purse.caps.run:
                assert sent.capped
                assert sent.max_tokens is not None
            limit = sent.max_tokens or 16_000
            usage, usd = vendor.bills(plot, limit, most_input(sent))
            await asyncio.sleep(plot.lasts)
            errors: dict[str, ProviderError] = {
                "500": ServerError("broken", status=500),
                "504": ServerError("the gateway would not wait", status=504),
                "unsent": ConnectError("refused"),
                "lost": ConnectError("lost"),
                "cut": IdleTimeout("silence"),
            }
            errors["unsent"].sent = False
            match plot.fate:
                case "done":
                    lease.finished(usage, usd, plot.lasts)
                case "silent":
                    lease.finished(None, None if usd else usd, plot.lasts)
                case "cut":
                    # The stream told its prompt, and less of its output than is billed.
                    lease.answered()
                    known = Usage(input=usage.input, output=usage.output // 2, partial=True)
                    lease.failed(errors["cut"], known, PRICES.usd(plot.target, known))
                case "left":
                    lease.abandoned()
                case "cancelled":
                    raise asyncio.CancelledError  # noqa: TRY301  (as a cancellation comes)
                case "unanswered":
                    return
                case fate:
                    lease.failed(errors[fate], None, 0.0)
    except (BudgetExceeded, asyncio.CancelledError):
        pass
    else:
        done.add(name)


async def live(till: Till, vendor: Vendor, plots: list[Plot], crash: float | None, done: set[str]) -> None:
    """One process: it ends when all calls have, or is struck down at `crash`."""
    till.lane.committed = lambda: audit(till.purse.caps, till.lane)
    tasks = [
        asyncio.create_task(play(till, vendor, plot, f"c{n}", done))
        for n, plot in enumerate(plots)
        if f"c{n}" not in done
    ]
    if tasks:
        _, pending = await asyncio.wait(tasks, timeout=10_000 if crash is None else crash)
        if pending:
            assert crash is not None, "somebody waits for ever"
            till.lane.dead = True  # from here on nothing reaches the disk
            for future in [*till.journal._queued.values()]:
                future.cancel()
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            return
        for task in tasks:
            task.result()
    await asyncio.sleep(1)
    assert till.idle


@settings(max_examples=150)
@given(
    caps=CAPS,
    plots=st.lists(PLOTS, min_size=1, max_size=12),
    crashes=st.lists(st.floats(0.05, 8), max_size=2),
    delay=st.sampled_from([0.0, 0.03]),
)
def test_what_is_set_aside_and_paid_never_exceeds_a_cap(
    caps: Caps, plots: list[Plot], crashes: list[float], delay: float
) -> None:
    async def run() -> None:
        vendor = Vendor(caps)
        done: set[str] = set()
        till = Till(caps, Lane(delay=delay))
        for crash in crashes:
            await live(till, vendor, plots, crash, done)
            till = till.again()
        await live(till, vendor, plots, None, done)

    instantly(run())
