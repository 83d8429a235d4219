"""Each promise of the budget, by itself."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from budget_kit import CHEAP, DEAR, FREE, UNKNOWN, Lane, Till, capped, instantly, question

from electrictown.budget.caps import UNASKED, Cap, Caps, caps_of, check_prices
from electrictown.budget.halts import standing_halt
from electrictown.budget.reservation import spent_before
from electrictown.config import parse_config
from electrictown.errors import (
    AuthError,
    BadRequestError,
    BudgetExceeded,
    ConfigError,
    ConnectError,
    IdleTimeout,
    JournalError,
    ProviderError,
    ServerError,
    StoppedError,
    UsageError,
)
from electrictown.journal.records import Exchange
from electrictown.llm.admission import Asking
from electrictown.llm.bounds import LEAST_OUTPUT, limited, most_input, own_limit, usual_limit
from electrictown.llm.costs import CostTracker
from electrictown.llm.mends import Mends
from electrictown.llm.messages import ToolSpec, Usage, user
from electrictown.llm.prices import Prices
from electrictown.llm.routes import Price, Target
from electrictown.redact import Secret
from electrictown.wiring import budget_said
from router.router_kit import target

POLECAT = Asking("polecat", "t1", "t1.attempt1")
ROUND = target("round", local=False, price=Price(0.0, 1000.0), max_tokens=1_000)
"""A reply costs a dollar at the most, a prompt nothing."""


async def ask(
    till: Till, one: Target = ROUND, usd: float = 1.0, asking: Asking = POLECAT, lasts: float = 1.0
) -> None:
    """A call that is billed `usd`."""
    async with till.purse.admit(one, question(), asking) as lease:
        assert lease is not None
        await asyncio.sleep(lasts)
        lease.finished(Usage(output=round(usd * 1000)), usd, lasts)


async def fail(
    till: Till, error: ProviderError, usage: Usage | None = None, usd: float | None = None
) -> None:
    async with till.purse.admit(ROUND, question(), POLECAT) as lease:
        assert lease is not None
        lease.failed(error, usage, usd)


def money(till: Till) -> float:
    return round(till.spent[0], 6)


# --- setting aside


def test_a_reservation_is_committed_before_the_leave_to_go() -> None:
    async def run() -> None:
        till = Till(Caps(usd=5), Lane(delay=0.5))
        async with till.purse.admit(ROUND, question(), POLECAT) as lease:
            assert lease is not None
            assert [*till.lane.steps] == ["t1.attempt1.e1.r1"]
            (reserved,) = till.reservations()
            assert (reserved.call, reserved.role, reserved.subtask) == ("t1.attempt1", "polecat", "t1")
            assert reserved.usd == pytest.approx(1.0)
            assert reserved.tokens == 1_000 + most_input(question())
            lease.finished(Usage(output=500), 0.5, 1.0)
        await asyncio.sleep(1)
        assert [*till.lane.steps] == ["t1.attempt1.e1.r1", "t1.attempt1.e1.r1.settled"]
        (settled,) = till.settlements()
        assert (settled.outcome, settled.usd, settled.charged_usd, settled.output) == ("done", 0.5, 0.5, 500)

    instantly(run())


def test_without_any_cap_every_request_is_a_step_and_goes_as_it_is() -> None:
    async def run() -> None:
        till = Till()
        async with till.purse.admit(UNKNOWN, question(), Asking("mayor")) as lease:
            assert lease is not None
            assert lease.request == question()
            lease.finished(Usage(input=3, output=4), None, 1.0)
        assert [s.key for s in till.journal.steps()] == ["mayor.e1.r1", "mayor.e1.r1.settled"]
        assert till.purse.budget is None

    instantly(run())


def test_many_at_once_never_have_more_set_aside_than_the_cap_and_nobody_is_refused_too_early() -> None:
    async def run() -> None:
        till = Till(Caps(usd=3.5))
        calls = [asyncio.create_task(ask(till, usd=0.1)) for _ in range(20)]
        await asyncio.sleep(0.5)
        assert till.reserved[0] == pytest.approx(3.0)
        await asyncio.gather(*calls)
        assert money(till) == 2.0
        assert till.idle

    instantly(run())


def test_who_came_first_is_not_passed_by_smaller_ones() -> None:
    async def run() -> None:
        till = Till(Caps(usd=2.0))
        order: list[str] = []

        async def one(name: str, limit: int, lasts: float) -> None:
            async with till.purse.admit(capped(ROUND, max_tokens=limit), question(), POLECAT) as lease:
                assert lease is not None
                order.append(name)
                await asyncio.sleep(lasts)
                lease.finished(Usage(), 0.0, lasts)

        async with asyncio.TaskGroup() as group:
            group.create_task(one("first", 1_000, 10))
            await asyncio.sleep(1)
            group.create_task(one("large", 1_900, 1))
            await asyncio.sleep(1)
            for n in range(3):
                group.create_task(one(f"small{n}", 500, 30))
        assert order == ["first", "large", "small0", "small1", "small2"]

    instantly(run())


def test_who_waits_for_money_holds_no_slot() -> None:
    async def run() -> None:
        one = capped(ROUND, host="box", host_limit=2)
        till = Till(Caps(usd=1.5, per_role={"mayor": Cap(usd=1.0)}))
        first = asyncio.create_task(ask(till, one, 0.0, Asking("mayor"), lasts=10))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(ask(till, one, 0.0, Asking("mayor")))
        await asyncio.sleep(1)
        async with asyncio.timeout(1.5):
            await ask(till, capped(FREE, host="box", host_limit=2), 0.0, Asking("polecat"), lasts=1)
        assert not waiting.done()
        await asyncio.gather(first, waiting)

    instantly(run())


def test_a_free_model_is_asked_while_others_wait_for_money() -> None:
    async def run() -> None:
        till = Till(Caps(usd=1.0))
        first = asyncio.create_task(ask(till, usd=0.0, lasts=10))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(ask(till, usd=0.0))
        await asyncio.sleep(1)
        async with asyncio.timeout(2):
            await ask(till, FREE, 0.0)
        assert not waiting.done()
        await asyncio.gather(first, waiting)

    instantly(run())


def test_who_waits_and_is_cancelled_is_in_nobodys_way() -> None:
    async def run() -> None:
        till = Till(Caps(usd=2.0))
        first = asyncio.create_task(ask(till, usd=0.0, lasts=10))
        await asyncio.sleep(1)
        large = asyncio.create_task(ask(till, capped(ROUND, max_tokens=2_000), 0.0))
        await asyncio.sleep(1)
        small = asyncio.create_task(ask(till, usd=0.0))
        await asyncio.sleep(1)
        assert not small.done()
        large.cancel()
        await asyncio.sleep(1.5)
        assert small.done()
        await asyncio.gather(first, small)
        assert till.idle

    instantly(run())


# --- refusing


def test_what_does_not_fit_is_refused_with_cap_spent_need_and_remedy_and_nothing_follows() -> None:
    async def run() -> None:
        till = Till(Caps(usd=2.5))
        await ask(till)
        await ask(till)
        with pytest.raises(BudgetExceeded) as caught:
            await ask(till)
        error = caught.value
        assert "$2.50 is reached: $2.00 spent" in error.message
        assert "round, could come to $1.00" in error.message
        assert error.hint == "et resume r1 --budget MORE"
        assert error.exit_code == 5
        with pytest.raises(BudgetExceeded):
            await ask(till, FREE, 0.0)
        assert till.purse.refusal is not None

    instantly(run())


@pytest.mark.parametrize(
    ("caps", "closed", "open_", "hint"),
    [
        (
            Caps(usd=9, per_role={"mayor": Cap(usd=1.5)}),
            Asking("mayor"),
            POLECAT,
            "et resume r1 --budget mayor=MORE",
        ),
        (Caps(per_subtask=Cap(usd=1.5)), POLECAT, Asking("polecat", "t2"), "--budget subtask=MORE"),
        (
            Caps(per_role={"mayor": Cap(tokens=4_000)}),
            Asking("mayor"),
            POLECAT,
            "et resume r1 --budget mayor=MOREt",
        ),
    ],
)
def test_the_cap_of_a_role_or_subtask_closes_that_alone(
    caps: Caps, closed: Asking, open_: Asking, hint: str
) -> None:
    async def run() -> None:
        till = Till(caps)
        one = ROUND if caps.per_role.get("mayor", Cap()).tokens is None else capped(ROUND, max_tokens=3_000)
        usd = 1.0 if one is ROUND else 3.0
        await ask(till, one, usd, closed)
        with pytest.raises(BudgetExceeded) as caught:
            await ask(till, one, usd, closed)
        assert hint in caught.value.hint
        await ask(till, one, usd, open_)
        assert till.purse.refusal is None

    instantly(run())


def test_tokens_of_local_models_count_and_cost_nothing() -> None:
    async def run() -> None:
        till = Till(Caps(tokens=5_000))
        one = capped(FREE, max_tokens=2_000)
        async with till.purse.admit(one, question(), POLECAT) as lease:
            assert lease is not None
            lease.finished(Usage(input=100, cache_read=20, output=1_000), 0.0, 1.0)
        assert till.spent == (0.0, 1_120)
        await ask(till, one, 2.0)
        with pytest.raises(BudgetExceeded, match="5,000 tokens is reached: 3,120 tokens spent"):
            await ask(till, one)

    instantly(run())


def test_a_model_of_unknown_price_is_refused_by_name_before_and_at_the_request() -> None:
    async def run() -> None:
        prices = Prices()
        everybody = {"mayor": [CHEAP, UNKNOWN], "polecat": [FREE]}
        with pytest.raises(ConfigError) as caught:
            await check_prices(everybody, Caps(usd=1), prices)
        assert caught.value.exit_code == 2
        assert "nameless" in str(caught.value)
        assert "add price: {input: ..., output: ...}" in str(caught.value)
        assert "models.nameless" in str(caught.value)
        await check_prices(everybody, Caps(tokens=5), prices)
        await check_prices(everybody, Caps(per_role={"polecat": Cap(usd=1)}), prices)
        with pytest.raises(ConfigError, match="nameless"):
            await check_prices(everybody, Caps(per_role={"mayor": Cap(usd=1)}), prices)
        till = Till(Caps(usd=1), prices=prices)
        with pytest.raises(ConfigError, match="nameless"):
            async with till.purse.admit(UNKNOWN, question(), POLECAT):
                raise AssertionError("asked")
        assert till.idle

    instantly(run())


# --- settling


@pytest.mark.parametrize(
    ("error", "usage", "usd", "charged"),
    [
        (ServerError("broken", status=500), None, 0.0, 0.0),
        (BadRequestError("no", status=400), None, 0.0, 0.0),
        (AuthError("no key"), None, 0.0, 0.0),
        (ServerError("the gateway gave up", status=504), None, 0.0, 1.0),
        (ConnectError("lost"), None, 0.0, 1.0),
        (IdleTimeout("silence"), None, None, 1.0),
        (IdleTimeout("silence"), Usage(input=10, output=100, partial=True), 0.1, 1.0),
        (ServerError("in mid-stream", status=500), Usage(output=100, partial=True), 0.1, 1.0),
    ],
)
def test_a_failure_is_charged_with_what_can_have_been_billed(
    error: ProviderError, usage: Usage | None, usd: float | None, charged: float
) -> None:
    async def run() -> None:
        till = Till(Caps(usd=5))
        await fail(till, error, usage, usd)
        assert money(till) == pytest.approx(charged, abs=1e-6)
        (settled,) = till.settlements()
        assert settled.outcome == "failed"
        assert settled.error is not None
        assert settled.charged_usd == pytest.approx(charged, abs=1e-6)

    instantly(run())


def test_a_request_that_reached_nobody_costs_nothing() -> None:
    async def run() -> None:
        till = Till(Caps(usd=5))
        error = ConnectError("refused")
        error.sent = False
        await fail(till, error, None, 0.0)
        assert till.spent == (0.0, 0)
        assert not till.settlements()[0].billed

    instantly(run())


def test_the_prompt_of_a_cut_stream_counts_as_told_and_its_reply_as_full() -> None:
    async def run() -> None:
        till = Till(Caps(usd=5))
        one = target("t", local=False, price=Price(100.0, 1000.0), max_tokens=1_000)
        async with till.purse.admit(one, question(), POLECAT) as lease:
            assert lease is not None
            lease.answered()
            known = Usage(input=10, output=1, partial=True)
            lease.failed(IdleTimeout("silence"), known, 0.002)
        assert till.spent == (pytest.approx(0.001 + 1.0, abs=1e-6), 10 + 1_000)
        assert till.settlements()[0].usd == 0.002

    instantly(run())


def test_a_reply_without_usage_and_a_call_that_is_left_cost_the_worst() -> None:
    async def run() -> None:
        till = Till(Caps(usd=5))
        async with till.purse.admit(ROUND, question(), POLECAT) as lease:
            assert lease is not None
            lease.finished(None, None, 1.0)
        async with till.purse.admit(ROUND, question(), POLECAT):
            pass
        call = asyncio.create_task(ask(till, lasts=9))
        await asyncio.sleep(1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert money(till) == pytest.approx(3.0, abs=1e-6)
        assert [s.outcome for s in till.settlements()] == ["done", "abandoned", "abandoned"]

    instantly(run())


def test_who_is_cancelled_before_anything_went_out_pays_nothing() -> None:
    async def run() -> None:
        till = Till(Caps(usd=5), Lane(delay=1.0))
        call = asyncio.create_task(ask(till))
        await asyncio.sleep(0.5)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await asyncio.sleep(3)
        assert till.spent == (0.0, 0)
        assert till.idle
        again = till.again()
        assert again.spent == (0.0, 0)
        assert spent_before(again.journal) == []

    instantly(run())


def test_nothing_goes_out_when_the_reservation_cannot_be_written() -> None:
    async def run() -> None:
        till = Till(Caps(usd=5))

        def full(step: object) -> asyncio.Future[object]:
            future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            future.set_exception(JournalError("the disk is full"))
            return future

        till.lane.put = full  # type: ignore[assignment]
        with pytest.raises(JournalError, match="full"):
            async with till.purse.admit(ROUND, question(), POLECAT):
                raise AssertionError("asked")
        assert till.idle
        assert not till.lane.steps

    instantly(run())


def test_a_bill_above_its_reservation_is_said_once_and_nothing_follows() -> None:
    async def run() -> None:
        till = Till(Caps(usd=50))
        async with till.purse.admit(ROUND, question(), POLECAT) as lease:
            assert lease is not None
            lease.finished(Usage(output=9_000), 9.0, 1.0)
        assert till.warnings == ["round billed $9.00 for a request that was to be $1.00 at the most"]
        assert money(till) == 9.0
        with pytest.raises(BudgetExceeded, match=r"billed \$9.00"):
            await ask(till)

    instantly(run())


def test_a_halt_is_remembered_until_a_driver_is_given_a_budget() -> None:
    async def run() -> None:
        till = Till(Caps(usd=50))
        till.journal.note("budget.e1", till.purse.caps, kind="budget")
        assert standing_halt(till.journal.steps()) is None
        async with till.purse.admit(ROUND, question(), POLECAT) as lease:
            assert lease is not None
            lease.finished(Usage(output=9_000), 9.0, 1.0)
        steps = till.journal.steps()
        halt = standing_halt(steps)
        assert halt is not None
        assert "billed $9.00" in halt.message
        assert "et resume r1 --budget AMOUNT" in halt.hint
        # Who works for the same driver heeds it; a driver that was given a budget in spite of it does not.
        other = Till(Caps(usd=50), Lane(till.lane.steps.values()), epoch=1)
        with pytest.raises(BudgetExceeded, match="billed"):
            await ask(other)
        again = till.again()
        again.journal.note("budget.e2", again.purse.caps, kind="budget")
        assert standing_halt(again.journal.steps()) is None
        await ask(again)

    instantly(run())


def test_tiny_caps_are_told_in_figures_that_count() -> None:
    async def run() -> None:
        till = Till(Caps(usd=0.000012))
        with pytest.raises(BudgetExceeded, match=r"of \$0.000012 is reached: \$0.00 spent"):
            await ask(till)

    instantly(run())


def test_a_failed_request_is_kept_without_secrets_and_not_too_long() -> None:
    async def run() -> None:
        secret = Secret("sk-0123456789abcdef")
        till = Till()
        asked = type(question())(messages=(user(f"{secret.reveal()} " + "x" * 100_000), user("end")))
        async with till.purse.admit(ROUND, asked, POLECAT) as lease:
            assert lease is not None
            lease.failed(ServerError(f"broken by {secret.reveal()}", status=500), None, 0.0)
        (step,) = till.journal.steps(("failure",))
        assert step.key == "t1.attempt1.e1.r1.failed"
        told = step.read(Exchange)
        assert (told.role, told.subtask, told.error.type) == ("polecat", "t1", "ServerError")
        text = msgspec.json.encode(told).decode()
        assert secret.reveal() not in text
        assert "characters are left out here" in text
        assert '"end"' in text
        assert len(text) < 20_000

    instantly(run())


def test_a_request_of_very_many_messages_is_kept_by_its_ends() -> None:
    async def run() -> None:
        till = Till()
        asked = type(question())(messages=tuple(user(f"message {n} " + "y" * 500) for n in range(500)))
        async with till.purse.admit(ROUND, asked, POLECAT) as lease:
            assert lease is not None
            lease.failed(ServerError("broken", status=500), None, 0.0)
        (step,) = till.journal.steps(("failure",))
        assert len(step.value) < 64_000
        request = step.read(Exchange).request
        assert "message 0 " in request["first"]
        assert "message 499 " in request["last"]
        assert "500 messages" in request["cut"]

    instantly(run())


# --- taking up again


def test_what_was_settled_and_what_a_crash_left_counts_as_spent_and_keys_never_repeat() -> None:
    async def run() -> None:
        till = Till(Caps(usd=3.0))
        await ask(till, usd=0.25)
        hanging = asyncio.create_task(ask(till, lasts=99))
        await asyncio.sleep(1)
        again = till.again()
        assert again.spent[0] == pytest.approx(1.25, abs=1e-6)
        await ask(again, usd=0.5)
        assert "t1.attempt1.e2.r1" in again.lane.steps
        with pytest.raises(BudgetExceeded):
            await ask(again, capped(ROUND, max_tokens=2_000))
        more = again.again(Caps(usd=9.0))
        await ask(more, capped(ROUND, max_tokens=2_000))
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)

    instantly(run())


def test_the_bill_of_a_resumed_run_is_that_of_the_whole_run() -> None:
    async def run() -> None:
        till = Till(Caps(usd=9.0))
        await ask(till, usd=0.25)
        await fail(till, ServerError("broken", status=500), None, 0.0)
        hanging = asyncio.create_task(ask(till, lasts=99))
        await asyncio.sleep(1)
        tracker = CostTracker()
        tracker.records.extend(spent_before(till.again().journal))
        total = tracker.summary().total
        assert (total.requests, total.output, total.partial) == (2, 250, 1)
        assert (total.usd, total.known_usd) == (None, 0.25)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)

    instantly(run())


# --- the reply's limit


@pytest.mark.parametrize("caps", [Caps(usd=1), Caps(tokens=50_000), Caps(per_subtask=Cap(usd=1))])
def test_under_a_cap_a_limit_is_always_sent_and_marked(caps: Caps) -> None:
    async def run() -> None:
        till = Till(caps)
        async with till.purse.admit(CHEAP, question(), POLECAT) as lease:
            assert lease is not None
            assert (lease.request.max_tokens, lease.request.capped) == (16_000, True)
        till = Till(caps)
        async with till.purse.admit(CHEAP, question(max_tokens=77), POLECAT) as lease:
            assert lease is not None
            assert (lease.request.max_tokens, lease.request.capped) == (77, True)

    instantly(run())


def test_only_the_usual_limit_shrinks_to_what_is_left_and_only_when_nothing_is_under_way() -> None:
    async def run() -> None:
        one = target("t", local=False, price=Price(0.0, 100.0))  # the usual limit costs $1.60
        till = Till(Caps(usd=2.0))
        first = asyncio.create_task(ask(till, one, usd=1.5, lasts=5))
        await asyncio.sleep(1)
        started = asyncio.get_running_loop().time()
        async with till.purse.admit(one, question(), POLECAT) as lease:
            assert asyncio.get_running_loop().time() - started >= 3  # it waited for more
            assert lease is not None
            assert lease.request.max_tokens is not None
            assert 4_990 <= lease.request.max_tokens <= 5_000
            lease.finished(Usage(output=4_500), 0.45, 1.0)
        await first
        with pytest.raises(BudgetExceeded):
            await ask(till, one)
        assert LEAST_OUTPUT * 100e-6 > 0.05

    instantly(run())


def test_a_limit_in_the_options_is_bounded_too() -> None:
    asked = question(options={"max_tokens": 90_000, "options": {"num_predict": -1}, "n": 3, "seed": 1})
    assert own_limit(asked, FREE) is None
    assert own_limit(question(options={"generationConfig": {"maxOutputTokens": 50}}), FREE) == 50
    sent = limited(asked, 10)
    assert sent.max_tokens == 10
    assert sent.options == {"options": {}, "n": 3, "seed": 1}
    one = Prices().worst_case(question(max_tokens=1_000, options={"n": 3}), ROUND)
    assert one == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("model", "window", "limit"),
    [
        ("gpt-5", None, 16_000),
        ("claude-3-haiku-20240307", None, 4_096),
        ("gpt-4", None, 4_096),
        ("gpt-4.1", None, 16_000),
        ("gpt-4o", None, 16_000),
        ("gemini-2.0-flash", None, 8_000),
        ("qwen", 8_192, 4_096),
        ("tiny", 512, 512),
    ],
)
def test_the_usual_limit_is_one_that_the_model_takes(model: str, window: int | None, limit: int) -> None:
    assert usual_limit(target("t", model=model, context_window=window)) == limit


def test_tools_schemas_and_options_are_part_of_the_bound() -> None:
    plain = most_input(question())
    tool = ToolSpec("look", "d" * 100, {"type": "object", "properties": {"p": {"enum": ["v" * 100]}}})
    assert most_input(question(tools=(tool,))) >= plain + 200 + 530
    assert most_input(question(schema={"const": "s" * 300})) >= plain + 300 + 530
    assert most_input(question(options={"system": "ä" * 300})) >= plain + 600


def test_a_limit_that_a_model_refuses_is_never_mended_away_under_a_cap() -> None:
    mends = Mends()
    body = b'{"model":"m","max_tokens":5}'
    first = mends.learn("m", "max_tokens", body, capped=True)
    assert first is not None
    assert b"max_completion_tokens" in first[0]
    assert mends.learn("m", "max_completion_tokens", first[0], capped=True) is None
    assert b"max_tokens" in mends.apply("m", body, capped=True)  # it may have been the size
    refused = BadRequestError("too many", status=400, param="max_tokens")
    assert "set max_tokens of m" in mends.unlimited("m", refused).hint
    assert mends.learn("g", "maxOutputTokens", b'{"generationConfig":{"maxOutputTokens":5}}') is not None
    with pytest.raises(BadRequestError, match="does not take") as caught:
        mends.apply("g", b'{"generationConfig":{"maxOutputTokens":5}}', capped=True)
    assert not caught.value.sent


# --- telling, stopping


def test_at_eighty_percent_it_is_said_once_for_each_cap() -> None:
    async def run() -> None:
        till = Till(Caps(usd=5.0, per_role={"polecat": Cap(usd=4.0)}))
        await ask(till)
        await ask(till)
        await ask(till)
        assert till.warnings == []
        await ask(till, usd=0.2)
        assert till.warnings == ["80% of the budget of the role polecat is spent: $3.20 of $4.00"]
        await ask(till, usd=1.0, asking=Asking("mayor"))
        await ask(till, FREE, usd=0.0)
        assert till.warnings[1:] == ["80% of the budget is spent: $4.20 of $5.00"]
        budget = till.purse.budget
        assert budget is not None
        assert (budget.usd, round(budget.spent_usd, 6), budget.reserved_usd) == (5.0, 4.2, 0.0)

    instantly(run())


def test_a_closed_purse_lets_nothing_begin_and_what_is_under_way_end() -> None:
    async def run() -> None:
        till = Till(Caps(usd=1.5))
        running = asyncio.create_task(ask(till, lasts=5))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(ask(till))
        sleeping = asyncio.create_task(till.purse.pause([ROUND], 100))
        await asyncio.sleep(1)
        till.purse.close(StoppedError("somebody pressed Ctrl-C"))
        with pytest.raises(StoppedError):
            await waiting
        with pytest.raises(StoppedError):
            await sleeping
        with pytest.raises(StoppedError):
            await ask(till)
        await running
        assert money(till) == 1.0
        assert till.idle

    instantly(run())


def test_a_pause_ends_as_the_inner_one_does() -> None:
    async def run() -> None:
        till = Till(Caps(usd=1))
        loop = asyncio.get_running_loop()
        started = loop.time()
        await till.purse.pause([ROUND], 7)
        assert loop.time() - started == pytest.approx(7)
        sleeping = asyncio.create_task(till.purse.pause([ROUND], 100))
        await asyncio.sleep(1)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping

    instantly(run())


# --- in one line


@pytest.mark.parametrize(
    ("text", "caps"),
    [
        ("2.50", Caps(usd=2.5, tokens=7)),
        ("$2.5", Caps(usd=2.5, tokens=7)),
        ("500000t", Caps(usd=1.0, tokens=500_000)),
        ("500 tokens", Caps(usd=1.0, tokens=500)),
        (
            "3, mayor=1 ,mayor=5t,subtask=.2",
            Caps(3.0, 7, {"mayor": Cap(1.0, 5)}, Cap(0.2)),
        ),
        ("none", Caps()),
    ],
)
def test_a_budget_in_one_line_changes_what_it_names(text: str, caps: Caps) -> None:
    read = caps_of(text, Caps(usd=1.0, tokens=7), ("mayor", "polecat"))
    assert read == caps
    assert caps_of(str(caps), Caps()) == caps


@pytest.mark.parametrize(
    "text", ["", "much", "0", "-1", "1.5t", "nan", "mayor=", "=1", "1,,2", "mayr=1", "1e9"]
)
def test_what_is_no_budget_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        caps_of(text, Caps(), ("mayor",))
    assert caught.value.hint
    assert UNASKED.usd == 1.0


@pytest.mark.parametrize("text", ["2,50", "1,2", "2,2", "10t,20t", "mayor=1, mayor=2", "subtask=1,subtask=2"])
def test_the_same_cap_said_twice_is_refused_with_the_right_way_to_write_cents(text: str) -> None:
    with pytest.raises(UsageError, match="said twice") as caught:
        caps_of(text)
    assert "2.50" in caught.value.hint


@pytest.mark.parametrize("text", ["1,500t", "1,500", "mayor=1,200t", "2,000,000t"])
def test_figures_in_groups_of_three_are_not_taken_apart(text: str) -> None:
    with pytest.raises(UsageError, match="in two ways"):
        caps_of(text)
    assert caps_of("2.50,500t") == Caps(2.5, 500)
    assert caps_of("1, 500t") == Caps(1, 500)


@pytest.mark.parametrize("text", ["9" * 400, "1000000001", f"{10**15 + 1}t", "mayor=" + "9" * 400 + "t"])
def test_a_budget_that_nothing_can_count_is_refused_shortly(text: str) -> None:
    with pytest.raises(UsageError, match="more than can be counted") as caught:
        caps_of(text)
    assert len(caught.value.message) < 100
    assert "$1,000,000,000" in caught.value.hint
    assert caps_of(f"1000000000,{10**15}t") == Caps(1e9, 10**15)


@pytest.mark.parametrize(
    ("text", "supervisor", "remedy"),
    [
        ("sql=1", "mayor", "sql spends as polecat: write polecat=1"),
        ("reviewer=5t", "mayor", "reviewer spends as witness: write witness=5t"),
        ("mayor=0.0001", "architect", "mayor spends as architect: write architect=0.0001"),
        ("clerk=1", "mayor", "roles: mayor, polecat, witness, refinery"),
    ],
)
def test_a_cap_for_who_spends_nothing_is_refused_with_who_does(
    text: str, supervisor: str, remedy: str
) -> None:
    file = """
providers: {p: {type: ollama}}
models: {m: {provider: p, model: x}}
roles: {mayor: {model: m}, architect: {model: m}, polecat: {model: m}, clerk: {model: m}}
specialists: {sql: {model: m, description: queries}}
"""
    config = parse_config(file, "town.yaml", {})
    with pytest.raises(UsageError) as caught:
        budget_said(text, Caps(), config, supervisor)
    assert caught.value.hint == remedy
    allowed = budget_said(f"{supervisor}=1,polecat=2", Caps(), config, supervisor)
    assert [*allowed.per_role] == [supervisor, "polecat"]


def test_the_dearest_of_the_cache_prices_bounds_the_prompt() -> None:
    one = capped(DEAR, price=Price(1.0, 1.0, cache_read=50.0), max_tokens=1)
    usage = Usage(cache_read=most_input(question()))
    bill, worst = Prices().usd(one, usage), Prices().worst_case(question(), one)
    assert bill is not None
    assert worst is not None
    assert bill <= worst
