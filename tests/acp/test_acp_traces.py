"""Turns of real agents, as they were recorded with a fake model behind them, are understood.

`traces.jsonl` holds a turn a line: what the agent sent, and the end. opencode 1.18.33, gemini-cli 0.61.0,
claude-code-acp 0.16.2, mistral-vibe 3.0.2; their folder is called /folder here, and lists
of commands are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from acp_kit import Heard, agent, do
from msgspec import Struct

from electrictown.llm.messages import Usage

TRACES = Path(__file__).with_name("traces.jsonl").read_text().splitlines()


class Expected(Struct):
    agent: str
    text: str
    notes: list[str]
    answers: list[Any]
    files: list[str] = []
    usage: Usage | None = None
    usd: float | None = None
    asked: list[str] = []


def chosen(option: str) -> dict[str, object]:
    return {"outcome": {"outcome": "selected", "optionId": option}}


TURN = Usage(input=11, output=7)
SHELL = "echo x > shell.txt; pwd; echo SHELL''OUT"
RUN = [f"fake asks leave to run a command: {SHELL}"]
EXPECTED = [
    Expected(
        "opencode",
        "I write.\n\nwrite done",
        ["edit: write new.txt"],
        [chosen("once"), {}],
        ["new.txt"],
        TURN,
        5e-05,
    ),
    Expected(
        "opencode", "Running it.\n\nshell done", [f"execute: {SHELL}"], [chosen("once")], [], TURN, 1e-04, RUN
    ),
    Expected(
        "gemini",
        "I write.\n\nwrite done",
        ["edit: Writing to new.txt"],
        [chosen("proceed_once"), {}],
        ["new.txt"],
        Usage(input=22, output=14),
    ),
    Expected(
        "gemini",
        "Running it.\n\nshell done",
        [f"execute: {SHELL}"],
        [chosen("proceed_once")],
        [],
        Usage(input=22, output=14),
        None,
        RUN,
    ),
    Expected(
        "claude-code-acp",
        "W.\n\nwrite done",
        ["edit: Write /folder/new.txt"],
        [chosen("allow"), {}],
        ["new.txt"],
    ),
    Expected("vibe", "Hello from the fake.", [], [], [], TURN),
    Expected(
        "gemini",
        "I write.\n\nAfter reject text.",
        ["edit: Writing to new.txt"],
        [chosen("proceed_once")],
        [],
        Usage(input=22, output=14),
    ),
]


@pytest.mark.parametrize(("line", "expected"), list(zip(TRACES, EXPECTED, strict=True)))
async def test_a_turn_of_a_real_agent_is_understood(line: str, expected: Expected, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    turn = json.loads(line.replace("/folder", str(folder)))
    heard, asked = Heard(), list[str]()

    async def person(words: str) -> bool:
        asked.append(words)
        return True

    assert turn["agent"] == expected.agent
    async with agent().engage(folder, consent=person) as fake:
        reply = await do(
            fake, ["replay", turn["said"], f"{tmp_path}/answers"], ["ends", turn["end"]], emit=heard
        )
    notes = [note.replace(str(folder), "/folder") for note in heard.notes]
    answers = json.loads((tmp_path / "answers").read_text())
    assert reply.text == expected.text
    assert (notes, answers, asked) == (expected.notes, expected.answers, expected.asked)
    assert [file.path for file in reply.files] == expected.files
    assert (reply.usage, reply.usd, reply.stopped) == (expected.usage, expected.usd, "")
