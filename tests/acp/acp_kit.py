"""The fake agent as an `AcpAgent`, and looking at what is left of it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from electrictown.acp.agent import AcpAgent, AcpEngagement
from electrictown.acp.settings import AgentSettings, environ_of
from electrictown.engine.agents import AgentReply
from electrictown.events import Event, Noted, ignore

__all__ = ["FAKE", "Heard", "agent", "answers", "do", "gone", "until"]

FAKE = Path(__file__).with_name("fake_agent.py")


def agent(settings: dict[str, Any] | None = None, **habits: Any) -> AcpAgent:  # noqa: ANN401  (any JSON)
    """The fake agent with such habits."""
    usual: dict[str, Any] = {
        "name": "fake",
        "command": (sys.executable, "-u", str(FAKE), json.dumps(habits)),
        "environ": environ_of({"PATH": os.environ["PATH"]}),
    }
    return AcpAgent(AgentSettings(**{**usual, **(settings or {})}))


class Heard:
    """An `Emit` that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Noted)]


async def do(
    engagement: AcpEngagement, *steps: list[Any], emit: Callable[[Event], None] = ignore
) -> AgentReply:
    """One turn, in which the fake agent takes these steps."""
    return await engagement.ask(json.dumps(steps), emit)


def answers(reply: AgentReply) -> list[Any]:
    """What the client answered to the requests of a turn."""
    decoder, text, found = json.JSONDecoder(), reply.text, list[Any]()
    while text.strip():
        value, end = decoder.raw_decode(text.lstrip())
        found.append(value)
        text = text.lstrip()[end:]
    return found


def gone(pid: int) -> bool:
    """Whether nothing runs under `pid` any more; who is dead and not yet buried does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
