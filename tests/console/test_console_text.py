import pytest
from hypothesis import given
from hypothesis import strategies as st

from electrictown.console.closing import budget_line
from electrictown.console.text import blocks, duration, line, money, width
from electrictown.redact import Secret
from electrictown.work import Budget


@pytest.mark.parametrize(
    ("usd", "known", "said"),
    [
        (0.0, 0.0, "$0"),
        (0.0123, 0.0, "$0.0123"),
        (0.5, 0.0, "$0.5000"),
        (0.0000123, 0.0, "$0.000012"),
        (1234.5, 0.0, "$1,234.50"),
        (None, 0.0, "unknown"),
        (None, 0.01, "$0.0100 + unknown"),
    ],
)
def test_money_that_is_not_known_is_never_zero(usd: float | None, known: float, said: str) -> None:
    assert money(usd, known) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0.0s"), (-1, "0.0s"), (12.34, "12.3s"), (125, "2m05s"), (3720, "1h02m")]
)
def test_durations_read_well(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;evil title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x1b]52;c;clipboard\nnext line", "\nnext line"),
        ("\x1b[2J\x1b[Hcleared", "cleared"),
        ("a\x9b31mb", "a31mb"),
        ("over\rwrite\x08\x07", "overwrite"),
        ("ab\u202edc\u2066", "abdc"),
        ("tab\tand\r\nline", "tab\tand\nline"),
        ("[bold]not markup[/bold] :smile:", "[bold]not markup[/bold] :smile:"),
    ],
)
def test_what_a_terminal_would_obey_is_removed(raw: str, shown: str) -> None:
    assert blocks(raw) == shown


@given(st.text())
def test_no_control_character_survives(text: str) -> None:
    safe = blocks(text)
    assert not [c for c in safe if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160]
    assert "\n" not in line(text)


def test_secrets_are_masked() -> None:
    Secret("sk-very-secret-123")
    assert blocks("the key is sk-very-secret-123!") == "the key is ***!"


def test_a_line_is_cut_where_asked() -> None:
    assert line("one  two\nthree", 8) == "one two…"
    assert line("short", 8) == "short"


def test_width_counts_columns() -> None:
    assert width("ab") == 2
    assert width("日本") == 4
    assert width("e\u0301") == 1


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(usd=0.000012, spent_usd=0.0), "budget: $0 of $0.000012 spent"),
        (
            Budget(spent_usd=0.00028, spent_tokens=36),
            "budget: for roles or subtasks only; in all $0.00028, 36 tokens spent",
        ),
    ],
)
def test_a_budget_line_says_what_the_cap_is_for(budget: Budget, said: str) -> None:
    assert budget_line(budget) == said
