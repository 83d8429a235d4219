"""A whole run under a budget: how it ends, and how it goes on with more."""

from __future__ import annotations

from electrictown.budget.caps import Caps
from electrictown.config import parse_config
from electrictown.engine.team import RunOptions
from electrictown.town import Town
from electrictown.work import Done, Task
from fakes.fake_server import FakeServer, Reply
from fakes.town_kit import FakeTown, yaml_of

PRICED = "".join(
    f"  {name}: {{provider: {host}, model: fake, max_tokens: 1000, price: {{input: 0, output: 100}}}}\n"
    for name, host in (("chief", "boss"), ("m0", "h0"), ("m1", "h1"))
)


def _yaml(url: str, budget: str) -> str:
    lines = yaml_of(url, type_="openai").splitlines()
    kept = [line for line in lines if not line.startswith(("  m0:", "  m1:", "  chief:"))]
    at = kept.index("models:") + 1
    return "\n".join([*kept[:at], PRICED.rstrip(), *kept[at:], f"budget: {budget}"]) + "\n"


async def test_at_the_cap_the_run_ends_with_5_and_hands_over_what_was_made() -> None:
    town_of = FakeTown()
    # Every reply is billed in full, ten cents: the plan, the brief and two subtasks are paid for.
    bills = Reply(output_tokens=1000)
    answers = {**town_of.answers}
    town_of.answers = {
        phase: Reply(text=text, output_tokens=bills.output_tokens)
        for phase, text in answers.items()
        if isinstance(text, str)
    }
    async with FakeServer(town_of) as server:
        config = parse_config(_yaml(server.url, "0.45"), "town.yaml", {})
        async with Town.open(config) as town:
            report = await town.run(Task("do it"), RunOptions(witness=False, refinery=False))
    assert (report.outcome, report.exit_code) == ("failed", 5)
    assert report.error is not None
    assert report.error.type == "BudgetExceeded"
    assert report.error.hint == f"et resume {report.run} --budget MORE"
    assert len(server.chats) == 4
    assert sum(isinstance(r, Done) for r in report.results) == 2
    assert "def parse()" in report.text
    assert report.budget is not None
    assert report.budget.usd == 0.45
    assert abs(report.budget.spent_usd - 0.40) < 1e-6
    assert report.budget.reserved_usd == 0.0
    assert any(note.startswith("80% of the budget is spent") for note in report.notes)
    assert not report.hops


async def test_the_budget_of_the_options_comes_before_the_files() -> None:
    async with FakeServer(FakeTown()) as server:
        config = parse_config(_yaml(server.url, "0.0001"), "town.yaml", {})
        async with Town.open(config) as town:
            options = RunOptions(witness=False, refinery=False, caps=Caps())
            report = await town.run(Task("do it"), options)
    assert (report.exit_code, report.budget) == (0, None)
    assert all("max_tokens" in seen.body for seen in server.chats)
