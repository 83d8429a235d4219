"""Entries as text for people: what they look like, and that no cut of a text lets anything through."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from electrictown import redact
from electrictown.console.text import blocks
from electrictown.pane.lines import Lines, SafeStream
from electrictown.redact import Secret, mask, settled
from electrictown.sessions.log import Entry

SECRET = "sk-live-0123456789"
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")

_litter = st.sampled_from(
    [
        *(
            "\x1b[31m",
            "\x1b]0;title\x07",
            "\x1b]52;c;aGk=\x1b\\",
            "\x1b[",
            "\x1b]8;;http://x",
            "\x1bP",
            "\x1b",
            "\x9b",
        ),
        *(
            "\r",
            "\n",
            "\t",
            "\x07",
            "\\",
            "\u202e",
            "\u061c",
            "31m",
            ";",
            "text ",
            "é",
            "日本",
            "👩\u200d👧",
            "[",
            "]",
        ),
    ]
)
_litters = st.lists(_litter, max_size=20).map("".join)


def chunks(text: str, cuts: list[int]) -> list[str]:
    at = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(at)]


def read(*entries: Entry) -> str:
    lines = Lines()
    return "".join(lines.text(entry) for entry in entries)


@given(_litters | st.text(max_size=40), st.lists(st.integers(0, 400), max_size=12))
@example("\x1b]0;x\x1b\\y", [5])
def test_no_cut_of_a_text_lets_a_terminal_obey_it(text: str, cuts: list[int]) -> None:
    stream = SafeStream()
    shown = "".join([*(stream.feed(piece) for piece in chunks(text, cuts)), stream.rest()])

    assert not OBEYED.search(shown)
    assert shown == blocks(text)  # no more and no less than of the whole


@given(
    st.lists(st.sampled_from([SECRET, "sk-", "sk-live-", "s", " and ", "-01", "\x1b[1m", "89"]), max_size=8),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_no_cut_of_a_text_lets_a_secret_through(parts: list[str], cuts: list[int]) -> None:
    redact._known[:] = []
    Secret(SECRET)
    text = "".join(parts)
    stream = SafeStream()
    shown = "".join([*(stream.feed(piece) for piece in chunks(text, cuts)), stream.rest()])

    assert SECRET not in shown
    assert shown == blocks(text)


@given(st.text(alphabet="ab", max_size=24), st.lists(st.integers(0, 24), max_size=6))
def test_secrets_that_overlap_are_not_cut_through(text: str, cuts: list[int]) -> None:
    redact._known[:] = ["abbabaab", "abbaba", "baabab"]
    held, shown = "", ""
    for piece in chunks(text, cuts):
        held += piece
        cut = settled(held)
        shown += mask(held[:cut])
        held = held[cut:]

    assert not [secret for secret in redact._known if secret in shown + mask(held)]


def test_a_password_in_an_address_is_masked_wherever_it_is_cut() -> None:
    text = "see https://user:pass-word@host/path now"
    for at in range(len(text)):
        stream = SafeStream()
        shown = stream.feed(text[:at]) + stream.feed(text[at:]) + stream.rest()
        assert shown == "see https://***@host/path now"


def test_a_sequence_without_end_does_not_hold_a_reply_back_for_ever() -> None:
    stream = SafeStream()
    for _ in range(6):
        stream.feed("\x1b]" + "a" * 1000)
    stream.feed("\x1b]0;" + "b" * 5000)

    assert "the end" in stream.feed("\nthe end")


def test_a_conversation_reads_well() -> None:
    assert read(
        Entry("said", "How many\nlegs has an ant?\n", sender="typed"),
        Entry("text", "\n\nSi"),
        Entry("text", "x.\nAnts are insects.\n\n"),
        Entry("end", outcome="done", model="qwen3@ai01", tokens=1234, usd=0.0123, seconds=4.2),
        Entry("said", "And a spider?", sender="et-mayor-07aa"),
        Entry("text", "Se"),
        Entry("note", "qwen3@ai01 failed (overloaded)\n  hint: wait"),
        Entry("reset", "overloaded"),
        Entry("text", "Eight"),
        Entry("ask", "may it run `ls`?"),
        Entry("end", outcome="interrupted", model="gpt@openai", tokens=1, usd=None, seconds=1),
        Entry("said", "Why?", sender="typed"),
        Entry("end", "no host\nanswers", outcome="failed", hint="start\none", usd=0.0, seconds=65),
    ) == (
        "> How many\n  legs has an ant?\n"
        "\n"
        "Six.\nAnts are insects.\n"
        "— qwen3@ai01  1,234 tokens  $0.0123  4.2s\n"
        "\n"
        "et-mayor-07aa> And a spider?\n"
        "\n"
        "Se\n"
        "— qwen3@ai01 failed (overloaded)\n    hint: wait\n"
        "— the reply begins anew: overloaded\n"
        "Eight\n"
        "? may it run `ls`?\n"
        "— interrupted  gpt@openai  1 token  cost unknown  1.0s\n"
        "\n"
        "> Why?\n"
        "\n"
        "— failed: no host answers  $0  1m05s\n  hint: start one\n"
    )


def test_a_reply_goes_on_below_what_was_noted_after_one_empty_line() -> None:
    pieces = [Entry("text", text) for text in ("I will.", "\n\n", "\nThat is", "\n\ndone.")]
    note = Entry("note", "ran ls")
    told = "I will.\n— ran ls\n\nThat is\n\ndone.\n— done  cost unknown  0.0s\n"
    assert read(pieces[0], note, *pieces[1:], Entry("end", "", outcome="done")) == told.replace(
        "done  c", "c"
    )


def test_a_turn_that_was_cut_says_nothing_of_its_cost() -> None:
    assert read(Entry("end", "cut: it is answered later")) == "— cut: it is answered later\n"


@pytest.mark.parametrize("kind", ["said", "text", "reset", "end", "note", "ask"])
def test_nothing_of_an_entry_is_obeyed(kind: str) -> None:
    evil = "\x1b[2J\x1b]0;t\x07evil\u202e\r\x9b31m"
    entry = Entry(kind, evil, sender=evil, model=evil, outcome=evil)  # pyright: ignore[reportArgumentType]
    lines = Lines()
    shown = lines.text(entry) + lines.text(Entry("end"))

    assert "evil" in shown
    assert not OBEYED.search(shown)


def test_a_reset_voids_what_still_waited() -> None:
    assert "secret-title" not in read(
        Entry("text", "a\x1b]0;secret-title"), Entry("reset", "x"), Entry("text", "b")
    )
