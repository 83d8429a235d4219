"""Servers that speak the four wires: our own fake, and aimock, which others wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import select

import pytest

from fakes.fake_server import Reply, Seen
from fakes.town_kit import serving

__all__ = ["AIMOCK", "IDS", "WIRES", "Peer", "aimock", "fake"]

WIRES = [("openai", ""), ("openai", "responses"), ("anthropic", ""), ("gemini", ""), ("ollama", "")]
IDS = ["openai", "responses", "anthropic", "gemini", "ollama"]
AIMOCK = Path(__file__).parents[2] / ".peers" / "aimock"

PLAIN = "Forty-two is the answer, as everybody knows."
CALLS = (("weather", '{"city":"Oslo"}'), ("weather", '{"city":"Rome"}'))
BOUND = '{"n": 7}'
LONG = "one two three four five six seven eight nine ten eleven twelve"
PHASES = {
    "Workers have done the parts of a task": "The merged result.",
    "Review this work.": '{"critique": "fine", "score": 8}',
    "Several workers are about to do": "Agree on the name parse().",
    "Break this task into subtasks": "1. write the parser\n2. write the printer\n3. test [depends: 1, 2]",
    "## Your subtask": "def parse(): ...",
}
"""What each phase of a run is answered, by what its prompt holds."""


@dataclass(frozen=True)
class Peer:
    """A server that answers as the word in a prompt says: plain, tool, schema, limit, cut, broken."""

    name: str
    url: str


@contextmanager
def fake() -> Generator[Peer]:
    def reply(seen: Seen) -> str | Reply:
        words = seen.prompt
        phase = next((text for mark, text in PHASES.items() if mark in words), None)
        if phase is not None:
            return phase
        if "say tool" in words:
            return "Cold there, warm here." if "-5 degrees" in words else Reply(text="", tool_calls=CALLS)
        answers = {
            "say plain": Reply(text=PLAIN),
            "say schema": Reply(text=BOUND),
            "say limit": Reply(status=429, error="slow down", headers=(("Retry-After", "7"),)),
            "say broken": Reply(status=500, error="out of order"),
            "say cut": Reply(text=LONG, cut=7, pause=0.002),
        }
        return next(answer for mark, answer in answers.items() if mark in words)

    with serving(reply) as server:
        yield Peer("fake", server.url)


def _fixtures() -> list[dict[str, object]]:
    def answer(mark: str, response: dict[str, object], **more: object) -> dict[str, object]:
        return {"match": {"userMessage": mark}, "response": response, **more}

    def failure(status: int, message: str, kind: str) -> dict[str, object]:
        return {"error": {"message": message, "type": kind}, "status": status}

    calls = [{"name": name, "arguments": json.loads(arguments)} for name, arguments in CALLS]
    return [
        *(answer(mark, {"content": text}) for mark, text in PHASES.items()),
        answer("say plain", {"content": PLAIN}),
        {"match": {"userMessage": "say tool", "hasToolResult": False}, "response": {"toolCalls": calls}},
        {
            "match": {"userMessage": "say tool", "hasToolResult": True, "toolResultContains": "-5 degrees"},
            "response": {"content": "Cold there, warm here."},
        },
        answer("say schema", {"content": BOUND}),
        answer("say limit", {**failure(429, "slow down", "rate_limit_error"), "retryAfter": 7}),
        answer("say broken", failure(500, "out of order", "server_error")),
        answer("say cut", {"content": LONG}, truncateAfterChunks=8, chunkSize=6, latency=5),
    ]


@contextmanager
def aimock(folder: Path) -> Generator[Peer]:
    """A running aimock; skips where it is not installed."""
    if not AIMOCK.exists():
        pytest.skip("aimock is not installed (scripts/npm-peer.sh aimock)")
    fixtures, config = folder / "fixtures.json", folder / "aimock.json"
    fixtures.write_text(json.dumps({"fixtures": _fixtures()}))
    config.write_text(json.dumps({"llm": {"fixtures": str(fixtures)}}))
    process = subprocess.Popen(
        [AIMOCK, "--config", config, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder)},
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield Peer("aimock", _address(process))
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    told = ""
    while select([process.stdout], [], [], 30)[0]:
        line = process.stdout.readline()
        told += line
        if "listening on " in line:
            return line.split("listening on ")[1].strip()
        if not line:
            break
    raise AssertionError(f"aimock did not start: {told}")
