"""One turn of an agent as it is told: its words, what it does, what it costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from electrictown.acp.protocol import Chunk, Kind, Plan, PromptEnd, ToolCall, UsageUpdate
from electrictown.events import Emit, Noted, TextStreamed
from electrictown.llm.messages import Usage

__all__ = ["Ledger", "Turn", "one_line", "usage_of"]

_WIDTH: Final = 160
_PHASE: Final = "reply"
_OVER: Final = ("completed", "failed")


class Ledger:
    """What a session costs, as the agent tells: always the sum since it was begun.

    Of a session that was taken up again nobody knows what it had cost before.
    """

    def __init__(self, *, fresh: bool) -> None:
        self._before: float | None = 0.0 if fresh else None
        self._now: float | None = None

    def told(self, amount: float) -> None:
        """The sum is so much, in US dollars."""
        self._now = amount

    def turn(self) -> float | None:
        """What was added since the last time this was asked; None where that is unknown."""
        before, now = self._before, self._now
        self._before = now if now is not None else before
        if now is None or before is None:
            return None
        return max(now - before, 0.0)


class Turn:
    """What is told between a prompt and its end. `emit` gets the words and, in a line each, the deeds."""

    def __init__(self, emit: Emit, folder: Path, ledger: Ledger) -> None:
        self._emit = emit
        self._folder = folder
        self._ledger = ledger
        self._texts: list[str] = []
        self._message: str | None = None
        self._apart = False
        self._calls: dict[str, ToolCall] = {}
        self._noted: dict[str, str] = {}
        self._plan = ""
        self._readers: dict[str, Callable[[bytes], None]] = {
            "agent_message_chunk": self._chunk,
            "tool_call": self._begun,
            "tool_call_update": self._changed,
            "plan": self._planned,
            "usage_update": self._usage,
        }

    @property
    def text(self) -> str:
        """All that it said."""
        return "".join(self._texts)

    def hear(self, update: bytes) -> None:
        """Take an update. Kinds that we do not know are for others.

        Raises:
            DecodeError: for one that is not as it should be.
        """
        kind = msgspec.json.decode(update, type=Kind).session_update
        reader = self._readers.get(kind)
        if reader is not None:
            reader(update)

    def known(self, news: ToolCall) -> ToolCall:
        """The whole of a call of which `news` is told. There is none of one that is over: it is another."""
        old = self._calls.get(news.tool_call_id)
        return self._keep(news if old is None or old.status in _OVER else old.updated(news))

    def _keep(self, call: ToolCall) -> ToolCall:
        old = self._calls.get(call.tool_call_id)
        if old is not None and old.status in _OVER and call.status not in _OVER:
            self._noted.pop(call.tool_call_id, None)
        self._calls[call.tool_call_id] = call
        self._apart = True
        return call

    def _chunk(self, update: bytes) -> None:
        chunk = msgspec.json.decode(update, type=Chunk)
        text = chunk.content.text
        if chunk.content.type != "text" or not text:
            return
        # Another message, or the same after a deed: to be read apart from what came before.
        if chunk.message_id != self._message:
            self._message, self._apart = chunk.message_id, True
        if self._apart and self._texts and not self._texts[-1].endswith("\n"):
            text = f"\n\n{text}"
        self._apart = False
        self._texts.append(text)
        self._emit(TextStreamed(text=text, phase=_PHASE))

    def _begun(self, update: bytes) -> None:
        self._tell(self._keep(msgspec.json.decode(update, type=ToolCall)))  # whole, if told twice

    def _changed(self, update: bytes) -> None:
        news = msgspec.json.decode(update, type=ToolCall)
        old = self._calls.get(news.tool_call_id)
        self._tell(self._keep(news if old is None else old.updated(news)))

    def _tell(self, call: ToolCall) -> None:
        if call.status not in (None, "pending"):
            self.note(call)

    def note(self, call: ToolCall) -> None:
        """Say what it does, once, and once more when that has failed."""
        said = "failed" if call.status == "failed" else "begun"
        if self._noted.get(call.tool_call_id) in (said, "failed"):
            return
        self._noted[call.tool_call_id] = said
        deed = self._deed(call)
        if said == "failed":
            deed = f"failed: {deed}" + (f": {call.told}" if call.told else "")
        self._emit(Noted(text=one_line(deed, _WIDTH)))

    def refused(self, call: ToolCall) -> None:
        """Say that it may not do this."""
        self._noted[call.tool_call_id] = "failed"
        self._emit(Noted(text=one_line(f"not allowed: {self._deed(call)}", _WIDTH), level="warning"))

    def _deed(self, call: ToolCall) -> str:
        title = call.title or "a tool"
        told = " ".join(
            self._inside(path)
            for path in call.paths
            if Path(path) != self._folder and Path(path).name not in title
        )
        return f"{call.kind or 'other'}: {title} {told}".rstrip()

    def _inside(self, path: str) -> str:
        try:
            return str(Path(path).relative_to(self._folder))
        except ValueError:
            return path

    def _planned(self, update: bytes) -> None:
        entries = msgspec.json.decode(update, type=Plan).entries
        done = sum(entry.status == "completed" for entry in entries)
        current = next((entry.content for entry in entries if entry.status == "in_progress"), "")
        plan = f"plan: {done} of {len(entries)} done" + (f", now {current}" if current else "")
        if entries and plan != self._plan:
            self._plan = plan
            self._emit(Noted(text=one_line(plan, _WIDTH)))

    def _usage(self, update: bytes) -> None:
        cost = msgspec.json.decode(update, type=UsageUpdate).cost
        if cost is not None and cost.currency == "USD":
            self._ledger.told(cost.amount)


def usage_of(end: PromptEnd) -> tuple[Usage | None, str]:
    """A turn's tokens in our buckets, and its model ("" where it is not told)."""
    told, model = end.told
    if told is None:
        return None, model
    read, write = told.cached_read_tokens or 0, told.cached_write_tokens or 0
    # Some count what came from the cache as input, too; their sum tells.
    apart = told.total_tokens is None or told.total_tokens >= told.input_tokens + told.output_tokens + read
    fresh = told.input_tokens if apart or not read + write else max(told.input_tokens - read - write, 0)
    return Usage(
        input=fresh,
        cache_read=read,
        cache_write=write,
        output=told.output_tokens,
        reasoning=min(told.thought_tokens or 0, told.output_tokens),
    ), model


def one_line(text: str, limit: int) -> str:
    """`text` in one line of at most `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
