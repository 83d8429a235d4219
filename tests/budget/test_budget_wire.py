"""The budget over real connections: twenty calls at once, and what a server can do to them."""

from __future__ import annotations

import asyncio
import socket

import pytest
from budget_kit import Till, target
from msgspec.structs import replace

from electrictown.budget.caps import Caps
from electrictown.errors import BadRequestError, BudgetExceeded, ElectrictownError, ProviderError
from electrictown.llm.messages import ChatRequest, user
from electrictown.llm.provider import ProviderSettings, make_provider
from electrictown.llm.router import RetryPolicy, Router
from electrictown.llm.routes import Price, Route, RouteTable, Target
from fakes.fake_server import FakeServer, Reply
from fakes.fake_wires import Seen

PRICE = Price(1.0, 10.0)
LIMIT = 1_000


def _target(kind: str = "openai", **more: object) -> Target:
    one = target("t", provider="p", provider_type=kind, model="some-model", local=False, price=PRICE)
    return replace(one, **more)


class _Street:
    """One provider at `url`, asked under a budget."""

    def __init__(self, url: str, caps: Caps, kind: str = "openai", **more: object) -> None:
        self.till = Till(caps)
        self.target = _target(kind, **more)
        self.provider = make_provider(ProviderSettings(name="p", type=kind, base_url=url))
        self.router = Router(
            {"p": self.provider},
            RouteTable({}, {}, {}),
            admission=self.till.purse,
            policy=RetryPolicy(tries=1, rate_limit_tries=1),
            prices=self.till.purse._prices,
        )

    async def ask(self, n: int = 0, *, stream: bool = False) -> str:
        request = ChatRequest(messages=(user(f"question {n}"),))
        route = Route("r", self.target)
        if not stream:
            return (await self.router.chat_completion(request, route, role="polecat", call=f"c{n}")).text
        async with self.router.stream_chat_completion(request, route, role="polecat", call=f"c{n}") as reply:
            return "".join([getattr(chunk, "text", "") async for chunk in reply])

    async def aclose(self) -> None:
        await self.provider.aclose()  # type: ignore[attr-defined]


def _usd(reply: Reply) -> float:
    return (reply.input_tokens * PRICE.input + reply.output_tokens * PRICE.output) / 1e6


@pytest.mark.parametrize("stream", [False, True])
async def test_twenty_calls_at_once_cannot_overshoot_whatever_becomes_of_them(stream: bool) -> None:
    cap = 0.055  # five replies and a half
    billed: list[float] = []
    in_flight: list[int] = []

    def answer(seen: Seen) -> Reply:
        number = len(billed)
        reply = Reply(output_tokens=LIMIT, latency=0.005)
        if number % 5 == 3:
            reply = Reply(status=500, error="broken")  # nothing is billed for it
        elif number % 5 == 4:
            reply = Reply(raw=b"", output_tokens=LIMIT)  # billed, and nobody hears of it
        billed.append(0.0 if reply.status == 500 else _usd(reply))
        in_flight.append(sum(server.in_flight.values()))
        return reply

    async with FakeServer(answer) as server:
        street = _Street(server.url, Caps(usd=cap), max_tokens=LIMIT)
        outcomes = await asyncio.gather(
            *(street.ask(n, stream=stream) for n in range(20)), return_exceptions=True
        )
        await street.aclose()
    assert all(isinstance(o, str | ElectrictownError) for o in outcomes), outcomes
    assert any(isinstance(o, BudgetExceeded) for o in outcomes)
    assert 5 <= len(billed) < 20
    assert max(in_flight) > 1
    assert sum(billed) <= cap
    assert sum(billed) <= street.till.spent[0] <= cap
    assert all(seen.body["max_tokens"] == LIMIT for seen in server.chats)
    assert len(street.till.reservations()) == len(server.chats) == len(street.till.settlements())
    assert street.till.idle


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("openai", ("max_tokens",)),
        ("anthropic", ("max_tokens",)),
        ("gemini", ("generationConfig", "maxOutputTokens")),
        ("ollama", ("options", "num_predict")),
    ],
)
async def test_every_wire_sends_the_limit_even_where_options_want_another(
    kind: str, field: tuple[str, ...]
) -> None:
    nested: object = -1
    for name in reversed(field):
        nested = {name: nested}
    async with FakeServer(Reply()) as server:
        street = _Street(server.url, Caps(tokens=100_000), kind, options=nested)
        await street.ask()
        await street.aclose()
    sent = server.chats[0].body
    for name in field:
        sent = sent[name]
    assert sent == 16_000


async def test_a_host_that_takes_no_limit_is_not_asked_without_one() -> None:
    def answer(seen: Seen) -> Reply:
        name = next((n for n in ("max_tokens", "max_completion_tokens") if n in seen.body), "")
        return Reply(status=400, error=f"unsupported parameter: {name}", param=name) if name else Reply()

    async with FakeServer(answer) as server:
        street = _Street(server.url, Caps(usd=1.0))
        with pytest.raises(BadRequestError) as caught:
            await street.ask()
        await street.aclose()
    assert "set max_tokens of some-model to what it takes" in caught.value.hint
    assert len(server.chats) == 2
    assert street.till.spent == (0.0, 0)


async def test_a_host_that_is_not_there_costs_nothing() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        street = _Street(url, Caps(usd=1.0))
        with pytest.raises(ProviderError) as caught:
            await street.ask()
        await street.aclose()
    assert not caught.value.sent
    assert street.till.spent == (0.0, 0)


async def test_a_stream_that_is_cut_counts_as_if_it_had_been_full() -> None:
    async with FakeServer(Reply(text="one two three four", cut=3)) as server:
        street = _Street(server.url, Caps(usd=1.0), max_tokens=LIMIT)
        with pytest.raises(ProviderError):
            await street.ask(stream=True)
        await street.aclose()
    assert street.till.spent[0] >= LIMIT * 10 / 1e6
    (settled,) = street.till.settlements()
    assert (settled.outcome, settled.partial) == ("failed", True)
