"""What a reply costs; unknown is unknown."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_kit import question, target

from electrictown.llm.messages import ToolSpec, Usage, system, user
from electrictown.llm.prices import Prices, Rates, Tiered
from electrictown.llm.routes import Price, Target

M = 1_000_000


def _cloud(model: str, provider_type: str = "openai", **more: object) -> Target:
    return target("t", model=model, provider_type=provider_type, local=False, **more)


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices()


def test_a_configured_price_comes_before_everything(prices: Prices) -> None:
    one = target("t", price=Price(1.0, 2.0, cache_read=0.1), local=True)
    usage = Usage(input=M, output=M, cache_read=M, cache_write=M, cost_usd=99.0)
    assert prices.usd(one, usage) == pytest.approx(1 + 2 + 0.1 + 1)


def test_local_is_free_even_when_usage_is_unknown(prices: Prices) -> None:
    assert prices.usd(target("t"), None) == 0.0
    assert prices.usd(target("t", local=False, provider_type="local"), Usage(input=M)) == 0.0
    assert prices.worst_case(question(), target("t")) == 0.0


def test_the_vendors_own_figure_comes_before_the_list(prices: Prices) -> None:
    assert prices.usd(_cloud("gpt-4o"), Usage(input=M, cost_usd=0.25)) == 0.25


@pytest.mark.parametrize(
    ("model", "provider_type", "more"),
    [
        ("no-such-model-at-all", "openai", {}),
        ("qwen3:8b", "ollama", {}),
        ("gpt-4o", "", {}),
        ("qwen3:8b", "openai", {"price_provider": "http://127.0.0.1:8000/v1"}),
        ("gpt-4o", "", {"price_provider": "nobody"}),
    ],
)
def test_unknown_is_none_and_never_zero(
    prices: Prices, model: str, provider_type: str, more: dict[str, object]
) -> None:
    one = _cloud(model, provider_type, **more)
    assert prices.usd(one, Usage(input=10, output=10)) is None
    assert prices.worst_case(question(max_tokens=10), one) is None


def test_unknown_usage_of_a_priced_model_is_unknown(prices: Prices) -> None:
    assert prices.usd(_cloud("gpt-4o"), None) is None


@pytest.mark.parametrize(
    ("model", "provider_type", "vendor", "more"),
    [
        ("gpt-4o", "openai", "openai", {}),
        ("claude-sonnet-4-5", "anthropic", "anthropic", {}),
        ("gemini-2.5-pro", "gemini", "google", {}),
        ("gpt-4o", "openai", "openai", {"price_provider": "https://gateway.example/v1"}),
        ("deepseek-chat", "openai", "deepseek", {"price_provider": "https://api.deepseek.com/v1"}),
        ("llama-3.3-70b-versatile", "openai", "groq", {"price_provider": "groq"}),
        ("sonar", "openai", "perplexity", {"price_provider": "https://api.perplexity.ai"}),
    ],
)
@settings(max_examples=25, deadline=None)
@given(tokens=st.tuples(*[st.integers(0, 400_000)] * 5))
def test_our_arithmetic_is_the_price_lists_own(
    model: str, provider_type: str, vendor: str, more: dict[str, object], tokens: tuple[int, ...]
) -> None:
    """Tiers, cache prices, hourly cache writes, a fee a request: compared with genai-prices itself."""
    from genai_prices import Usage as Theirs
    from genai_prices import calc_price

    fresh, read, write, hour, output = tokens
    hour = min(hour, write)
    ours = _PRICES.usd(
        _cloud(model, provider_type, **more),
        Usage(input=fresh, cache_read=read, cache_write=write, cache_write_1h=hour, output=output),
    )
    theirs = calc_price(
        Theirs(
            input_tokens=fresh + read + write,
            cache_read_tokens=read,
            cache_write_tokens=write,
            cache_write_1h_tokens=hour,
            output_tokens=output,
        ),
        model,
        provider_id=vendor,
        genai_request_timestamp=datetime.now(UTC),
    )
    assert ours == pytest.approx(float(theirs.total_price), rel=1e-9)


_PRICES = Prices()


def test_above_a_tiers_start_its_price_holds_for_all_tokens() -> None:
    tiered = Tiered(3.0, ((200_000, 6.0), (500_000, 9.0)))
    assert [tiered.at(n) for n in (0, 200_000, 200_001, 500_001)] == [3.0, 3.0, 6.0, 9.0]
    assert (tiered.highest, Tiered(1.0).highest) == (9.0, 1.0)


def test_thought_tokens_may_have_a_price_of_their_own() -> None:
    one = Tiered(1.0)
    rates = Rates(one, one, one, one, one, reasoning=Tiered(5.0))
    assert rates.usd(Usage(output=M, reasoning=M // 2)) == pytest.approx(0.5 + 2.5)


@settings(max_examples=50)
@given(text=st.text(max_size=300), tool=st.text(max_size=50), output=st.integers(0, 10_000))
def test_the_worst_case_is_never_below_the_bill(text: str, tool: str, output: int) -> None:
    """Even where every byte is a token, the cache is written for an hour, and the reply is full."""
    request = question(max_tokens=10_000, tools=(ToolSpec(tool, tool),))
    request = type(request)(
        messages=(system(text), user(text)), max_tokens=10_000, tools=(ToolSpec(tool, tool),)
    )
    one = _cloud("claude-sonnet-4-5", "anthropic")
    bytes_in = 2 * len(text.encode("utf-8", "ignore")) + 2 * len(tool.encode("utf-8", "ignore"))
    bill = _PRICES.usd(one, Usage(cache_write=bytes_in, cache_write_1h=bytes_in, output=output))
    worst = _PRICES.worst_case(request, one)
    assert bill is not None
    assert worst is not None
    assert worst >= bill


def test_the_worst_case_of_an_unbounded_reply_is_unknown(prices: Prices) -> None:
    one = target("t", price=Price(1.0, 2.0), local=False)
    assert prices.worst_case(question(), one) is None
    bounded = target("t", price=Price(1.0, 2.0), local=False, max_tokens=M)
    assert prices.worst_case(question(), bounded) == pytest.approx(2.0, rel=1e-3)


def test_only_a_listed_target_needs_the_list() -> None:
    prices = Prices()
    assert prices.ready(target("t"))
    assert prices.ready(target("t", local=False, price=Price(1, 1)))
    assert prices.ready(target("t", local=False, provider_type="ollama"))
    assert not prices.ready(_cloud("gpt-4o"))


async def test_the_list_is_loaded_once_in_a_thread() -> None:
    prices = Prices()
    one = _cloud("gpt-4o")
    await prices.load()
    assert prices.ready(one)
    await prices.load()
    assert prices.usd(one, Usage(input=M)) == pytest.approx(2.5)


def test_the_router_is_imported_without_prices_or_http() -> None:
    code = (
        "import sys, electrictown.llm.router; "
        "print([m for m in ('genai_prices', 'pydantic', 'aiohttp', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
