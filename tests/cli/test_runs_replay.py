"""`et replay --dry-run`: a run's bill beside the one of another configuration."""

from __future__ import annotations

import pytest
from cli_kit import Said, Shell

from electrictown.journal.journal import Journal
from fakes.journal_kit import ended, journal_of, request, settled, whole_run, write_runs

OTHER = """\
providers:
  near: {type: openai, base_url: http://127.0.0.1:1/v1}
  free: {type: ollama, base_url: http://127.0.0.1:1}
models:
  chief: {provider: near, model: m1, price: {input: 1000, output: 2000}}
  cheap: {provider: near, model: m2, price: {input: 100, output: 200}}
  dear: {provider: near, model: m3, price: {input: 300, output: 600}}
  odd: {provider: near, model: nobody-knows-this-model}
  own: {provider: free, model: qwen}
roles:
  mayor: {model: chief}
  polecat: {pool: [cheap, dear], fallbacks: [odd]}
specialists:
  artist: {model: own, description: draws}
"""


def replayed(shell: Shell, text: str = OTHER, *more: str) -> Said:
    shell.write("other.yaml", text)
    return shell.et("replay", "last", "--config", "other.yaml", "--dry-run", *more)


def test_each_role_and_specialist_is_priced_with_the_model_it_has_there(shell: Shell) -> None:
    """100 tokens in and 50 out a request: $0.20 from the chief, the mean of $0.02 and $0.06 in the pool."""
    write_runs(journal_of(shell.home), [("r1", "t", [whole_run])])
    said = replayed(shell)
    assert (said.code, said.err) == (0, "")
    rows = [line.split("  ") for line in said.out.splitlines() if line]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[0] == ["role", "requests", "tokens", "was", "cost", "would be", "cost"]
    assert cells[1] == ["mayor", "1", "150", "big@cloud", "$0.0200", "chief@near", "$0.2000"]
    pool = "cheap@near, dear@near"
    assert cells[2] == ["polecat", "2", "300", "big@cloud, small@box", "$0.0600", pool, "$0.0800"]
    assert cells[3] == ["witness", "2", "300", "big@box", "$0", "not asked", "-"]
    assert cells[4] == ["polecat (artist)", "1", "150", "big@box", "$0", "own@free", "$0"]
    assert cells[5] == ["total", "6", "900", "$0.0800", "$0.2800"]
    assert cells[6] == ["difference: $0.2000 more, 3.5 times the cost"]


def test_the_comparison_as_json(shell: Shell) -> None:
    write_runs(journal_of(shell.home), [("r1", "t", [whole_run])])
    found = replayed(shell, OTHER, "--json").json
    assert found["run"] == "r1"
    assert found["difference"] == pytest.approx(0.2)
    assert (found["was"]["usd"], found["would"]["usd"]) == (pytest.approx(0.08), pytest.approx(0.28))
    assert [(p["role"], p["specialist"]) for p in found["parts"]][-1] == ("polecat", "artist")


def test_a_price_that_nobody_knows_makes_the_difference_unknown(shell: Shell) -> None:
    write_runs(journal_of(shell.home), [("r1", "t", [whole_run])])
    said = replayed(shell, OTHER.replace("pool: [cheap, dear]", "pool: [cheap, odd]"))
    assert said.code == 0
    rows = said.out.splitlines()
    assert rows[2].endswith("unknown")
    assert rows[5].endswith("$0.2000 + unknown")
    assert rows[-1] == "difference: unknown: no price is known for odd@near"


def test_what_was_unknown_before_stays_unknown(shell: Shell) -> None:
    async def unpriced(journal: Journal) -> None:
        await request(journal, "a", settled("polecat", None))
        await ended()(journal)

    write_runs(journal_of(shell.home), [("r1", "t", [unpriced])])
    said = replayed(shell)
    assert said.out.splitlines()[-1] == "difference: unknown: the run's own cost is"


def test_tokens_that_nobody_told_have_no_price_but_where_all_is_free(shell: Shell) -> None:
    async def silent(journal: Journal) -> None:
        await request(journal, "a", settled("polecat", 0.0, input=0, output=0))

    write_runs(journal_of(shell.home), [("r1", "t", [silent])])
    assert "not all tokens were told" in replayed(shell).out
    free = OTHER.replace("pool: [cheap, dear]", "pool: [own]")
    assert replayed(shell, free).out.splitlines()[-1] == "difference: none"


def test_a_run_that_asked_nobody(shell: Shell) -> None:
    write_runs(journal_of(shell.home), [("r1", "t", [ended()])])
    said = replayed(shell)
    assert (said.code, said.out) == (0, "")
    assert "has made no request" in said.err


def test_only_the_dry_run_exists_and_a_wrong_configuration_is_named(shell: Shell) -> None:
    write_runs(journal_of(shell.home), [("r1", "t", [whole_run])])
    said = shell.et("replay", "r1", "--config", "other.yaml")
    assert said.code == 2
    assert "hint: et replay r1 --config other.yaml --dry-run" in said.err
    said = replayed(shell, "roles: {mayor: {modle: x}}\n")
    assert said.code == 2
    assert "did you mean 'model'" in said.err
    said = replayed(shell, OTHER.replace("mayor: {model: chief}", "clerk: {model: chief}"))
    assert said.code == 2
    assert "role 'mayor' is not configured" in said.err
    assert shell.et("replay", "r1", "--dry-run").code == 2
