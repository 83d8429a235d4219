"""The line below a session's input: who it is, how it does, what it has cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, TypeAlias

from electrictown.console.text import bill, duration, line, width
from electrictown.sessions.records import State, Status

__all__ = ["bar"]

_STATES: Final[Mapping[State, str]] = {
    "ready": "class:good",
    "working": "class:busy",
    "waiting for input": "class:ask",
    "rate-limited": "class:ask",
    "stuck": "class:trouble",
    "failed": "class:trouble",
}
_Part: TypeAlias = tuple[int, str, str]
"""How soon it is left out, its style, its text."""

_GAP: Final = "  "
_LONGEST_WHY: Final = 60


def bar(
    name: str, who: str, status: Status, columns: int, working: float | None = None
) -> list[tuple[str, str]]:
    """The line in styled pieces, no wider than `columns`. `working` is for how many seconds it has been.

    Where there is no room for all, what matters least is left out first.
    """
    cost = status.cost
    queued = status.queued - (working is not None)  # but for the one that is answered
    parts: list[_Part] = [
        (0, "class:name", line(name)),
        (6, "", line(who)),
        (4, "", line(status.model)),
        (1, _STATES.get(status.state, ""), _state(status, working)),
        (7, "class:trouble" if status.state == "stuck" else "", line(_why(status), _LONGEST_WHY)),
        (5, "", f"{cost.tokens:,} tokens" if cost.tokens else ""),
        (3, "", _cost(bill(cost))),
        (2, "", f"{queued} queued" if queued > 0 else ""),
    ]
    shown = _fitting([part for part in parts if part[2]], columns)
    pieces: list[tuple[str, str]] = []
    for _, style, text in shown:
        pieces += [("", _GAP), (style, text)] if pieces else [(style, text)]
    return pieces


def _fitting(parts: list[_Part], columns: int) -> list[_Part]:
    while len(parts) > 1 and len(_GAP) * (len(parts) - 1) + sum(width(part[2]) for part in parts) > columns:
        parts.remove(max(parts))
    return parts


def _state(status: Status, working: float | None) -> str:
    if status.state == "rate-limited" and status.until is not None:
        return f"rate-limited until {time.strftime('%H:%M:%S', time.localtime(status.until))}"
    if status.state == "working" and working is not None:
        return f"working {int(working)}s" if working < 60 else f"working {duration(working)}"
    return status.state


def _why(status: Status) -> str:
    return status.why if status.state != "waiting for input" else ""  # that is asked above


def _cost(money: str) -> str:
    return "cost unknown" if money == "unknown" else money
