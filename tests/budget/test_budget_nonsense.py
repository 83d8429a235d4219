"""What vendors tell of tokens and prices, true or not: nothing that they say gives money back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from budget_kit import Till, instantly, question, target
from test_budget_wire import _Street

from electrictown.budget.caps import Caps
from electrictown.budget.reservation import nano_up, spent_before
from electrictown.errors import ProviderError
from electrictown.llm.admission import Asking
from electrictown.llm.billing import as_usd, unbilled
from electrictown.llm.costs import CostTracker, summed
from electrictown.llm.messages import Usage
from electrictown.llm.routes import Price
from fakes.fake_server import FakeServer, Reply

LIMIT = 1_000
WORST = 0.01  # a reply of so many tokens alone

_WIRES = ("openai", "anthropic", "gemini", "ollama")
_NAMES = {
    "openai": ("prompt_tokens", "completion_tokens"),
    "anthropic": ("input_tokens", "output_tokens"),
    "gemini": ("promptTokenCount", "candidatesTokenCount"),
    "ollama": ("prompt_eval_count", "eval_count"),
}
_HUGE = int("9" * 40)


def _event(kind: str, usage: dict[str, Any], *, stream: bool) -> bytes:
    """A reply of `kind` with a text and this usage, whole or in events."""
    if kind == "openai":
        said = {"role": "assistant", "content": "work"}
        choice = {"index": 0, "finish_reason": "stop", "delta" if stream else "message": said}
        return _sse(stream, {"id": "x", "model": "m", "choices": [choice], "usage": usage}, done=True)
    if kind == "gemini":
        content = {"role": "model", "parts": [{"text": "work"}]}
        candidate = {"content": content, "finishReason": "STOP", "index": 0}
        return _sse(stream, {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"})
    if kind == "ollama":
        said = {"role": "assistant", "content": "work"}
        line = {"model": "m", "message": said, "done": True, "done_reason": "stop", **usage}
        return json.dumps(line).encode() + b"\n"
    message = {"type": "message", "id": "x", "model": "m", "role": "assistant"}
    if not stream:
        content = [{"type": "text", "text": "work"}]
        return json.dumps({**message, "content": content, "stop_reason": "end_turn", "usage": usage}).encode()
    events = (
        {"type": "message_start", "message": {**message, "content": [], "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "work"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    )
    return b"".join(_sse(True, event) for event in events)


def _sse(stream: bool, event: dict[str, Any], *, done: bool = False) -> bytes:
    body = json.dumps(event).encode()
    return b"data: " + body + b"\n\n" + (b"data: [DONE]\n\n" if done else b"") if stream else body


async def _asked(
    kind: str, usage: dict[str, Any], *, stream: bool, **more: object
) -> tuple[Till, CostTracker]:
    body = _event(kind, usage, stream=stream)
    async with FakeServer(lambda seen: Reply(body=body)) as server:
        street = _Street(server.url, Caps(usd=1.0), kind, max_tokens=LIMIT, **more)
        assert await street.ask(stream=stream) == "work"
        await street.aclose()
    return street.till, street.router.tracker


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", _WIRES)
@pytest.mark.parametrize(
    ("prompt", "output"),
    [
        (-1_000_000, -5_000_000),
        (-1_000_000, 10),
        (400, -5_000_000),
        (10**13, 5),
        (_HUGE, 5),
        (0, 0),
        (400, 0),
        (400, None),
        (None, 5),
        ("lots", "many"),
        (True, True),
    ],
)
async def test_usage_that_cannot_be_true_or_whole_costs_the_worst_and_is_not_told_as_exact(
    kind: str, stream: bool, prompt: object, output: object
) -> None:
    told = {n: v for n, v in zip(_NAMES[kind], (prompt, output), strict=True) if v is not None}
    till, tracker = await _asked(kind, told, stream=stream)
    (reserved,) = till.reservations()
    usd, tokens = till.spent
    assert reserved.usd is not None
    assert usd == pytest.approx(reserved.usd)
    assert tokens == reserved.tokens
    total = tracker.summary().total
    assert total.requests == 1
    assert total.usd is None
    assert min(total.input, total.output, total.known_usd) >= 0
    assert spent_before(till.journal) == tracker.records


@pytest.mark.parametrize("kind", _WIRES)
async def test_a_free_model_that_tells_no_tokens_costs_nothing_and_counts_the_worst(kind: str) -> None:
    told = dict.fromkeys(_NAMES[kind], 0)
    till, tracker = await _asked(kind, told, stream=False, local=True, price=None)
    (reserved,) = till.reservations()
    assert till.spent == (0.0, reserved.tokens)
    assert tracker.summary().total.usd == 0.0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("openai", {"prompt_tokens_details": {"cached_tokens": -100_000}}),
        ("openai", {"completion_tokens_details": {"reasoning_tokens": -100_000}}),
        ("anthropic", {"cache_read_input_tokens": -100_000}),
        ("anthropic", {"cache_creation": {"ephemeral_5m_input_tokens": -9, "ephemeral_1h_input_tokens": 9}}),
        ("anthropic", {"iterations": [{"type": "compaction", "output_tokens": -400}]}),
        ("gemini", {"cachedContentTokenCount": -100_000}),
        ("gemini", {"toolUsePromptTokenCount": -300}),
        ("gemini", {"thoughtsTokenCount": -300}),
    ],
)
async def test_a_part_that_is_negative_makes_nonsense_of_the_whole(
    kind: str, more: dict[str, Any], stream: bool
) -> None:
    told = {**dict(zip(_NAMES[kind], (400, 500), strict=True)), **more}
    till, _ = await _asked(kind, told, stream=stream)
    (reserved,) = till.reservations()
    assert till.spent == (pytest.approx(reserved.usd), reserved.tokens)


@pytest.mark.parametrize("kind", _WIRES)
async def test_usage_that_is_told_is_what_counts(kind: str) -> None:
    till, tracker = await _asked(kind, dict(zip(_NAMES[kind], (400, 500), strict=True)), stream=True)
    assert till.spent == (pytest.approx(400e-6 + 500e-5), 900)
    assert tracker.summary().total.usd == pytest.approx(400e-6 + 500e-5)
    assert not tracker.records[0].partial


@pytest.mark.parametrize(
    ("reply", "listed"),
    [
        (Reply(never=True), 1),
        (Reply(raw=b""), 1),
        (Reply(status=504, error="the gateway would not wait"), 1),
        (Reply(status=408, error="too slow"), 1),
        (Reply(status=307, error="elsewhere"), 0),
        (Reply(status=500, error="broken"), 0),
        (Reply(status=429, error="too many"), 0),
    ],
)
async def test_bill_and_budget_tell_of_the_same_requests(reply: Reply, listed: int) -> None:
    async with FakeServer(reply) as server:
        street = _Street(server.url, Caps(usd=1.0), max_tokens=LIMIT)
        with pytest.raises((ProviderError, TimeoutError)):
            async with asyncio.timeout(0.3 if reply.never else None):
                await street.ask()
        await street.aclose()
    total = street.router.tracker.summary().total
    assert total.requests == listed
    assert (street.till.spent[0] >= WORST) == bool(listed)
    assert total.usd == (None if listed else 0.0)
    assert summed("total", spent_before(street.till.journal)) == total


@pytest.mark.parametrize("kind", _WIRES)
async def test_a_cut_stream_is_no_exact_line_of_the_bill(kind: str) -> None:
    async with FakeServer(Reply(text="one two three four", cut=3)) as server:
        street = _Street(server.url, Caps(usd=1.0), kind, max_tokens=LIMIT)
        with pytest.raises(ProviderError):
            await street.ask(stream=True)
        await street.aclose()
    total = street.router.tracker.summary().total
    assert (total.requests, total.partial, total.usd) == (1, 1, None)
    assert total.known_usd < WORST <= street.till.spent[0]


async def test_more_thought_than_was_written_is_not_paid_back() -> None:
    told = {"prompt_tokens": 400, "completion_tokens": 500}
    thought = {"completion_tokens_details": {"reasoning_tokens": 100_000}}
    till, _ = await _asked("openai", {**told, **thought}, stream=False)
    assert till.spent[0] == pytest.approx(400e-6 + 500e-5)


@pytest.mark.parametrize("cost", [-5, 0, 1e308, int("9" * 400), "NaN", True, None])
async def test_a_vendors_own_price_below_ours_or_beyond_measure_is_not_what_is_charged(cost: object) -> None:
    listed: dict[str, object] = {"price": None, "provider_type": "openai", "model": "gpt-4o"}
    told = {"prompt_tokens": 400, "completion_tokens": 500, "cost": cost}
    till, tracker = await _asked("openai", told, stream=False, **listed)
    assert till.spent == (pytest.approx(400 * 2.5e-6 + 500 * 10e-6), 900)
    assert tracker.summary().total.known_usd >= 0


async def test_a_vendors_own_price_above_ours_is_what_is_charged() -> None:
    listed: dict[str, object] = {"price": None, "provider_type": "openai", "model": "gpt-4o"}
    told = {"prompt_tokens": 400, "completion_tokens": 500, "cost": 0.0075}
    till, tracker = await _asked("openai", told, stream=False, **listed)
    assert till.spent[0] == pytest.approx(0.0075)
    assert tracker.summary().total.usd == 0.0075


@pytest.mark.parametrize("usd", [-200.0, float("inf"), float("nan"), 1e308, None])
def test_nothing_that_is_settled_gives_money_back_or_breaks(usd: float | None) -> None:
    async def run() -> None:
        till = Till(Caps(usd=5.0))
        one = target("t", local=False, price=Price(0.0, 1000.0), max_tokens=1_000)
        async with till.purse.admit(one, question(), Asking("polecat")) as lease:
            assert lease is not None
            lease.finished(Usage(input=-500, output=3), usd, 1.0)
        usd_spent, tokens = till.spent
        assert 0 <= usd_spent <= 1e9
        assert tokens == 0
        assert till.again().spent == till.spent

    instantly(run())


def test_a_price_without_measure_is_a_reservation_that_fits_nowhere() -> None:
    assert nano_up(float("inf")) == 10**18
    assert as_usd(float("nan")) is None
    assert not unbilled(None)
