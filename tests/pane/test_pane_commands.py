"""What is typed: messages and commands, and what becomes of commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pane_kit import Script

from electrictown.pane.commands import Command, Message, Mistake, completions, obey, parse


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("hello", Message("hello")),
        ("  two\nlines \n", Message("  two\nlines \n")),
        ("//etc is a folder", Message("/etc is a folder")),
        ("//", Message("/")),
        ("/quit", Command("quit")),
        ("/exit ", Command("quit")),
        ("/QUIT", Command("quit")),
        ("/model", Command("model")),
        ("/model  gpt-mini ", Command("model", "gpt-mini")),
        ("/save my notes.md", Command("save", "my notes.md")),
    ],
)
def test_lines_mean(typed: str, meant: object) -> None:
    assert parse(typed) == meant


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("/qiut", "did you mean /quit?"),
        ("/modle gpt", "did you mean /model?"),
        ("/etc/passwd is a file", "// says it as a message"),
        ("/", "/help lists the commands"),
        ("/quit the job", "takes nothing more"),
        ("/save\nthe whales", "a command is one line"),
        ("/\x1b[31mred", "there is no command /red"),
    ],
)
def test_a_line_that_is_no_command_goes_nowhere_and_says_so(typed: str, why: str) -> None:
    mistake = parse(typed)
    assert isinstance(mistake, Mistake)
    assert why in mistake.why


@given(st.text())
def test_whatever_is_typed_can_be_said(text: str) -> None:
    assert parse("/" + text if text.startswith("/") else text) == Message(text)


def test_completion_knows_commands_and_models() -> None:
    def models() -> tuple[str, ...]:
        return "qwen", "gpt-mini", "gpt-large"

    assert [text for text, _ in completions("/in", models)] == ["/interrupt"]
    assert [text for text, _ in completions("/model g", models)] == ["/model gpt-mini", "/model gpt-large"]
    assert len([*completions("/", models)]) == 8
    assert not [*completions("say /in", models)]
    assert not [*completions("/save g", models)]


async def test_model_lists_and_chooses(tmp_path: Path) -> None:
    script = Script(tmp_path)

    assert "gpt-mini" in await obey(Command("model"), script)
    await obey(Command("model", "gpt-mini"), script)
    assert script.done == [("use", "gpt-mini")]
    told = await obey(Command("model", "qwne"), script)
    assert "no model 'qwne'" in told
    assert "hint: did you mean 'qwen'?" in told


async def test_cost_says_what_each_model_took(tmp_path: Path) -> None:
    told = await obey(Command("cost"), Script(tmp_path))

    assert told.splitlines() == [
        "total  3 requests  1,100 in  234 out  $0.0123 + unknown",
        "qwen   2 requests  1,000 in  234 out            $0.0123",
        "gpt     1 request    100 in    0 out            unknown",
    ]


async def test_save_overwrites_nothing(tmp_path: Path) -> None:
    script = Script(tmp_path)
    mine = tmp_path / f"{script.name}.md"
    mine.write_text("mine")

    told = await obey(Command("save"), script)
    again = await obey(Command("save"), script)

    assert mine.read_text() == "mine"
    assert told == f"saved to {tmp_path / f'{script.name}-2.md'}"
    assert again.endswith("-3.md")
    assert (tmp_path / f"{script.name}-2.md").read_text() == script.transcript()


async def test_save_follows_no_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "notes.md").symlink_to(tmp_path / "elsewhere.md")

    told = await obey(Command("save", "notes.md"), Script(tmp_path))

    assert told.endswith("notes-2.md")
    assert not (tmp_path / "elsewhere.md").exists()


@pytest.mark.parametrize(
    ("argument", "file"), [("a b.md", "a b.md"), ("sub", "sub/et-polecat-a3f2.md"), ("x", "x")]
)
async def test_save_writes_where_it_is_told(tmp_path: Path, argument: str, file: str) -> None:
    (tmp_path / "sub").mkdir()
    script = Script(tmp_path)

    assert await obey(Command("save", argument), script) == f"saved to {tmp_path / file}"
    assert (tmp_path / file).read_text() == script.transcript()


@pytest.mark.parametrize("argument", ["no/such/folder/x.md", "a\0b", "x" * 400, "~nobody-at-all/x"])
async def test_save_says_why_it_cannot(tmp_path: Path, argument: str) -> None:
    told = await obey(Command("save", argument), Script(tmp_path))

    assert told.startswith("the conversation is not saved: ")
    assert not [*tmp_path.iterdir()]


async def test_what_is_not_there_to_be_done_is_said(tmp_path: Path) -> None:
    script = Script(tmp_path)

    assert await obey(Command("interrupt"), script) == "no reply is under way"
    assert await obey(Command("allow"), script) == "nothing is asked"
    assert await obey(Command("deny"), script) == "nothing is asked"
    assert all(len(row) < 79 for row in (await obey(Command("help"), script)).splitlines())
    assert await obey(Command("quit"), script) == ""
    assert script.done[-1] == ("quit", None)
