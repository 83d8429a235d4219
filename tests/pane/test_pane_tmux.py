"""The screen in a real tmux, with a person's keys."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from pane_kit import Pane, gone, until

STATUS = {"state": "working", "model": "qwen3@ai01"}
PROSE = "It has been the capital for so long that this line is wider than the screen. "


def test_a_turn_from_the_first_key_to_the_bill(pane: Pane) -> None:
    pane.tell(status={"state": "ready", "model": "qwen3@ai01"})
    pane.sees("et-polecat-a3f2  polecat  qwen3@ai01  ready  $0", "/help lists commands; Ctrl-b d leaves")
    pane.type('What is 東京 🗼; $(reboot) "q"? -x')
    pane.press("Enter")
    assert pane.heard() == ("say", 'What is 東京 🗼; $(reboot) "q"? -x')

    pane.show("said", "What is 東京?", sender="typed")
    pane.tell(status={**STATUS, "queued": 2}, busy=True)
    pane.show("text", "\x1b[31mThe capital\x1b]0;evil\x07 of Japan")
    shown = pane.sees("The capital of Japan", "qwen3@ai01  working", "1 queued")
    assert "evil" not in shown

    pane.show("text", " is Tōkyō.\nThat is 東")
    pane.show("text", "京 🗼.")
    pane.show("end", outcome="done", model="qwen3@ai01", tokens=1234, usd=0.0123, seconds=4.2)
    pane.tell(
        status={
            "state": "waiting for input",
            "model": "qwen3@ai01",
            "cost": {"name": "total", "output": 1234, "usd": 0.0123},
        }
    )
    pane.sees("waiting for input  1,234 tokens  $0.0123")
    assert pane.screen().rstrip().split("\n") == [
        "> What is 東京?",
        "",
        "The capital of Japan is Tōkyō.",
        "That is 東京 🗼.",
        "— qwen3@ai01  1,234 tokens  $0.0123  4.2s",
        "",
        ">",
        "et-polecat-a3f2  polecat  qwen3@ai01  waiting for input  1,234 tokens  $0.0123",
    ]


def test_a_message_is_typed_while_a_reply_streams(pane: Pane) -> None:
    pane.show("said", "Count", sender="spawn")
    pane.type("Firs")
    pane.show("text", "one\ntwo")
    pane.sees("two", "> Firs")
    pane.type("d")
    pane.press("BSpace")
    pane.show("text", "\nthree\n")
    pane.type("t things")
    pane.press("Home")
    pane.type("1. ")
    pane.sees("> 1. First things")
    pane.press("Enter")
    assert pane.heard() == ("say", "1. First things")
    pane.sees("  queued: 1. First things")
    pane.press("Up")
    pane.sees("> 1. First things")  # what was typed before

    pane.show("text", "four")
    pane.show("end", outcome="done")
    pane.show("said", "1. First things", sender="typed")
    shown = pane.sees("four\n— cost unknown", "> 1. First things\n\n")
    assert "queued:" not in shown


def test_a_paste_of_many_lines_is_one_message_even_while_a_reply_streams(pane: Pane) -> None:
    pane.tell(flood=["word\n"] * 100)
    pane.sees("word")
    text = "def f():\n\treturn 1\n\n/quit\n" + "x = 2\n" * 30
    pane.paste(text)
    pane.sees("x = 2")
    pane.press("Enter")
    heard = pane.heard()
    while heard[0] == "flooded":
        heard = pane.heard()
    assert heard == ("say", text)


def test_ctrl_c_cuts_the_reply_then_clears_the_input_then_says_how_to_leave(pane: Pane) -> None:
    pane.show("said", "Count", sender="typed")
    pane.type("half a thought")
    pane.sees("half a thought")
    pane.press("C-c")
    assert pane.heard() == ("interrupt", True)
    pane.show("end", outcome="interrupted", model="qwen")
    pane.sees("— interrupted  qwen", "> half a thought")

    pane.press("C-c")
    assert pane.heard() == ("interrupt", False)
    until(lambda: "half a thought" not in pane.screen())

    pane.press("C-c")
    assert pane.heard() == ("interrupt", False)
    assert "/quit ends" not in pane.screen()
    pane.press("C-c")
    pane.sees("/quit ends the session; Ctrl-b d leaves it running")
    pane.type("a")
    until(lambda: "/quit ends" not in pane.screen())
    pane.press("BSpace", "C-d")
    pane.sees("/quit ends the session")


def test_commands_are_done_or_stay_to_be_mended(pane: Pane) -> None:
    pane.type("/mo")
    pane.sees("/model  list the models")
    pane.press("Tab")
    pane.type(" gpt-m")
    pane.sees("/model gpt-mini")
    pane.press("Tab", "Enter")
    assert pane.heard() == ("use", "gpt-mini")

    pane.type("/qiut")
    pane.press("Enter")
    pane.sees("> /qiut", "there is no command /qiut; did you mean /quit?")
    pane.press("C-c")
    assert pane.heard()[0] == "interrupt"
    pane.type("/cost")
    pane.press("Enter")
    pane.sees("— total  3 requests")
    pane.type("/save")
    pane.press("Enter")
    pane.sees("— saved to")
    assert (pane.folder / "et-polecat-a3f2.md").exists()
    pane.type("//not a command")
    pane.press("Enter")
    assert pane.heard() == ("say", "/not a command")

    pane.show("text", "the last words")
    pane.type("/quit")
    pane.press("Enter")
    assert pane.heard() == ("quit", None)
    assert pane.heard() == ("over", "quit")
    shown = pane.sees("the last words\nleft with 0")
    assert "et-polecat-a3f2  polecat" not in shown
    until(lambda: " icanon" in (pane.folder / "errors.stty").read_text())


def test_leave_is_asked_and_given(pane: Pane) -> None:
    pane.show("ask", "it wants to run:\nmake")
    pane.tell(status={"state": "waiting for input"}, asking=True)
    pane.sees("? it wants to run:\n  make", "y allows, n denies, then Enter")
    pane.type("y")
    pane.press("Enter")
    assert pane.heard() == ("answer", True)
    pane.tell(status={"state": "working"})
    until(lambda: "y allows" not in pane.screen())

    pane.type("no")  # begun before it is asked: no answer to it
    pane.sees("> no")
    pane.show("ask", "it wants to write")
    pane.sees("? it wants to write")
    pane.press("Enter")
    assert pane.heard() == ("say", "no")
    pane.tell(asking=True)
    pane.type("no")
    pane.press("Enter")
    assert pane.heard() == ("answer", False)


def test_a_message_that_cannot_be_kept_comes_back(pane: Pane) -> None:
    pane.tell(fails=True)
    pane.type("precious words")
    pane.press("Enter")
    pane.sees("— the disk is full\n    hint: make room", "> precious words")


def test_prose_is_broken_between_words_and_code_is_not(pane: Pane) -> None:
    code = "call(" + ", ".join(f"argument_{n}" for n in range(12)) + ")"
    pane.show("text", f"{PROSE * 2}\n```\n{code}\n```\n* {PROSE * 2}\n")
    shown = pane.sees("* It has")

    assert "wider than the screen. It\nhas been" in shown
    assert "\n  It has been" in shown  # below the first word of the item
    assert code in pane.screen("-J")


def test_what_was_said_is_in_the_scrollback_once(pane: Pane) -> None:
    pane.tell(flood=[f"word{n} " if n % 9 else f"word{n}\n" for n in range(100)])
    for _ in range(30):
        assert pane.screen().count("et-polecat-a3f2") == 1  # no frame is seen half drawn
    assert pane.heard()[0] == "flooded"
    pane.sees("word99")
    words = pane.screen("-S", "-").split()

    assert [word for word in words if word.startswith("word")] == [f"word{n}" for n in range(100)]


def test_a_resize_leaves_one_input_and_one_bar(pane: Pane) -> None:
    pane.show("said", "Tell me", sender="typed")
    pane.show("text", "a whole line\n" + PROSE * 3)
    pane.type("typed 日本")
    pane.sees("> typed 日本")
    for columns, rows in ((40, 24), (100, 10), (30, 6), (80, 24)):
        pane.tmux("resize-window", "-t", "=town:", "-x", str(columns), "-y", str(rows))
        until(
            lambda: pane.screen().count("> typed 日本") == 1 == pane.screen().count("et-polecat-a3f2"),
            pane.screen,
        )
    pane.type("!")
    pane.sees("> typed 日本!")
    pane.show("text", "the end\n")
    pane.sees("the end")


def test_a_long_line_without_words_grows_below_what_fits(pane: Pane) -> None:
    data = "".join(f"<{n}>" for n in range(3000))
    pane.show("text", data)
    pane.sees("<2999>", "\n>", "et-polecat-a3f2")
    pane.show("text", "\nand on")
    until(lambda: data in pane.screen("-J", "-S", "-"))


def test_fifty_pieces_a_second_are_twenty_frames_a_second(
    pane: Pane, record_property: Callable[[str, object], None]
) -> None:
    pane.tell(flood=[f"word{n} " if n % 20 else "\n" for n in range(150)])
    verb, (seconds, frames, processor) = pane.heard()

    assert verb == "flooded"
    assert 0 < frames <= 20 * seconds + 2
    record_property("share of a core to show fifty pieces a second", f"{processor / seconds:.0%}")


def test_a_terminal_that_is_killed_ends_the_screen(pane: Pane) -> None:
    program = pane.program
    pane.tell(flood=["a reply that goes on and on\n"] * 5000)
    pane.sees("goes on")
    pane.tmux("kill-server")

    assert pane.heard() == ("over", "gone")
    until(lambda: gone(program))


def test_a_server_that_is_killed_outright_ends_the_screen(pane: Pane) -> None:
    program = pane.program
    os.kill(pane.server, signal.SIGKILL)

    assert pane.heard() == ("over", "gone")
    until(lambda: gone(program))


def test_a_terminal_that_takes_nothing_holds_nobody_up(pane: Pane) -> None:
    os.kill(pane.server, signal.SIGSTOP)
    pane.tell(entry={"kind": "text", "text": "much to be shown\n" * 20_000})
    pane.tell(flood=["and more\n"] * 10)
    assert pane.heard()[0] == "flooded"  # who speaks to the session is still answered
    pane.tell(end=True)

    assert pane.heard() == ("over", "cancelled")


def test_a_screen_that_is_cancelled_leaves_the_terminal_as_it_was(pane: Pane) -> None:
    pane.show("text", "half a line")
    pane.tell(end=True)
    assert pane.heard() == ("over", "cancelled")
    shown = pane.sees("half a line\nleft with 0")

    assert "et-polecat-a3f2" not in shown
    file = Path(pane.folder / "errors.stty")
    until(lambda: file.exists() and file.read_text() != "")
    stty = file.read_text()
    assert " icanon" in stty
    assert " echo " in stty
