"""What a screen holds and how it lays words out, without a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pane_kit import NAME
from prompt_toolkit.utils import get_cwidth

from electrictown.pane.bar import bar
from electrictown.pane.lines import Look
from electrictown.pane.scene import Scene
from electrictown.pane.wrap import Wrap
from electrictown.sessions.log import Entry
from electrictown.sessions.records import Status
from electrictown.work import Cost


def scene() -> Scene:
    return Scene(lambda: None, clock=iter(range(100)).__next__)


def shown(scene: Scene) -> list[str]:
    return [piece.text for piece in scene.whole()]


def test_only_lines_that_are_complete_go_up() -> None:
    view = scene()
    view.entry(Entry("text", "one\ntw"))
    assert (shown(view), view.partial) == (["one\n"], "tw")
    view.entry(Entry("text", "o"))
    assert (shown(view), view.partial) == ([], "two")
    view.entry(Entry("end", outcome="done", usd=0.0))
    assert (shown(view), view.partial) == (["two\n", "— $0  0.0s\n"], "")


def test_what_was_typed_waits_until_its_own_turn_begins() -> None:
    view = scene()
    view.unsaid += ["again", "other", "again"]
    view.entry(Entry("said", "again", sender="et-mayor-1a2b"))
    assert view.unsaid == ["again", "other", "again"]
    view.entry(Entry("said", "again", sender="typed"))
    assert view.unsaid == ["other", "again"]


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y", True), (" YES ", True), ("n", False), ("no", False), ("yes please", None), ("nope", None)],
)
def test_only_a_plain_word_is_an_answer(typed: str, answer: bool | None) -> None:
    view = scene()
    view.typing(typed)
    assert view.answer(typed) is None  # nothing is asked
    view.typing("")
    view.entry(Entry("ask", "may it?"))
    view.typing(typed)
    assert view.answer(typed) is answer


def test_what_was_being_typed_when_it_was_asked_is_no_answer() -> None:
    view = scene()
    view.typing("y")
    view.entry(Entry("ask", "may it?"))
    assert view.answer("y") is None
    view.typing("")
    view.typing("y")
    assert view.answer("y") is True
    view.take(Status("waiting for input"))
    view.take(Status("working"))  # somebody else has answered
    assert view.answer("y") is None


def test_the_time_of_a_turn_is_its_own() -> None:
    view = scene()
    assert view.working is None
    view.entry(Entry("said", "x"))
    assert view.working == 1
    view.entry(Entry("end"))
    assert view.working is None


LONG = Status(
    "working",
    model="qwen3-coder-30b@ai01",
    queued=2,
    cost=Cost("total", input=123_456, usd=None, known_usd=0.01),
    why="gpt@openai failed (overloaded)",
)


def line(status: Status, columns: int, working: float | None = None) -> str:
    return "".join(text for _, text in bar(NAME, "polecat", status, columns, working))


def test_the_bar_leaves_out_what_matters_least() -> None:
    assert line(LONG, 200, 61.5) == (
        "et-polecat-a3f2  polecat  qwen3-coder-30b@ai01  working 1m01s  gpt@openai failed (overloaded)"
        "  123,456 tokens  $0.0100 + unknown  1 queued"  # behind the one that is answered
    )
    assert line(LONG, 80) == "et-polecat-a3f2  qwen3-coder-30b@ai01  working  $0.0100 + unknown  2 queued"
    assert line(LONG, 40) == "et-polecat-a3f2  working  2 queued"
    assert line(LONG, 30) == "et-polecat-a3f2  working"
    assert line(LONG, 10) == "et-polecat-a3f2"


def test_the_bar_says_what_is_unknown_and_until_when() -> None:
    assert line(Status("ready", cost=Cost("total", usd=None)), 80).endswith("ready  cost unknown")
    limited = line(Status("rate-limited", until=1_700_000_000.0), 80)
    assert "rate-limited until " in limited
    assert limited.count(":") == 2


def test_nothing_in_the_bar_is_obeyed() -> None:
    assert "\x1b" not in line(Status("ready", model="a\x1b]0;t\x07b", why="\x1b[2J"), 200)


def wrapped(wrap: Wrap, text: str, columns: int, look: Look = "reply") -> str:
    return "".join(shown for _, shown, *_ in wrap.whole(text, look, columns))


@given(st.text(alphabet="ab é日👩 ,*", max_size=200), st.integers(20, 60))
def test_broken_prose_fits_and_keeps_its_words(text: str, columns: int) -> None:
    rows = wrapped(Wrap(), text, columns).split("\n")
    assert " ".join(rows).split() == text.split()
    for row in rows:
        assert get_cwidth(row.rstrip()) <= columns or len(row.split()) == 1


def test_code_tables_and_data_are_left_to_the_terminal() -> None:
    words = "word " * 20
    for row in (f"    {words}", f"\t{words}", f"| {words} |", "data " * 2000):
        assert wrapped(Wrap(), row, 40) == row
    wrap = Wrap()
    block = f"```python\n{words}\n``\n{words}\n```\n"
    assert wrapped(wrap, block, 40) == block
    assert "\n" in wrapped(wrap, words, 40)
    wrapped(wrap, "~~~\n", 40)
    assert wrap.partial(words, 40) == words
    wrapped(wrap, "— failed\n", 40, "trouble")  # a block that was cut ends with the reply
    assert "\n" in wrap.partial(words, 40)


def test_what_markdown_sets_apart_looks_so_and_stays_as_it_was_written() -> None:
    text = "# Title\nuse `f(x)`, **now**\n```py\nx = 1 ** 2\n```\n2 ** 3 * 4 ** 5\n"
    styled = Wrap().whole(text, "reply", 80)
    assert "".join(shown for _, shown, *_ in styled) == text
    looks = {shown.strip("\n"): style for style, shown, *_ in styled if shown.strip()}
    assert looks["# Title"] == "class:heading"
    assert looks["`f(x)`"] == looks["x = 1 ** 2"] == looks["```"] == "class:code"
    assert looks["**now**"] == "class:strong"
    assert looks["2 ** 3 * 4 ** 5"] == "class:reply"
    assert {style for style, *_ in Wrap().whole("# said\n", "said", 80)} == {"class:said"}


def test_rows_hang_below_their_beginning() -> None:
    assert wrapped(Wrap(), "  12. one two three four five", 20) == "  12. one two three\n      four five"
    assert wrapped(Wrap(), "— one two three four five", 20, "note") == "— one two three four\n  five"
