"""What the steps of a run hold, by their kind. Plain data: anybody may read it without the engine.

    kind      key                      value
    run       run                      Header       the task and all that is needed to take it up again
    driver    driver.E                 Driver       who drives the run, once an epoch E
    budget    budget.eE                budget.caps.Caps, the most that the run may spend
    plan      plan                     work.Plan
    call      plan.call1, brief, ...   Answer       one logical model call
              synthesize, refine                    made of final results; of others NAME.HASH
    halt      halt.eE                  Failure      a bill above its bound: nothing more is asked
    refusal   plan.refused             Failure      replies that were no plan; the next try is plan2
    attempt   t07.attempt1             work.Attempt a worker's answer
    review    t07.review1              work.Review
    receipt   t07.files1, ...          Receipt      files that lie in the output folder
    result    t07.result               work.Result  (only Done)
    reserve   CALL.eE.rN               Reserved     one request, before its bytes go out
    settle    CALL.eE.rN.settled       Settled      the same request, after
    hop       hop.eE.N                 events.HopTaken
    note      note.eE.N                events.Noted
    intent    t07.files1.begun         Receipt      the files that are about to be written
    failure   CALL.eE.rN.failed        Exchange     what was asked and answered when a request failed
    end       end.eE                   work.Report
    cancel    cancel.eE                Cancelled

CALL is the key of the logical call a request belongs to; E the epoch; N counts.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct, field

from electrictown.work import Failure, Task

__all__ = [
    "Answer",
    "Cancelled",
    "Driver",
    "Exchange",
    "Header",
    "Json",
    "Receipt",
    "Reserved",
    "Settled",
    "WrittenFile",
]

Json: TypeAlias = Any


class Header(Struct, frozen=True, omit_defaults=True):
    """How a run was begun.

    `config` is the configuration's YAML with its variables unresolved and without any secret, `file`
    where it was read ("" when it was made from what the machine offers), `folder` the working folder.
    `settings` is what the command line said, by option.
    """

    task: Task
    config: str = ""
    file: str = ""
    folder: str = ""
    settings: dict[str, Json] = field(default_factory=dict[str, Json])
    program: str = ""


class Driver(Struct, frozen=True, omit_defaults=True):
    """A process that drives, or drove, the run."""

    pid: int
    host: str
    program: str = ""


class Answer(Struct, frozen=True, omit_defaults=True):
    """How one logical call ended: `response` (an `llm.messages.ChatResponse`), or a failure that would
    come again however often one asked.
    """

    response: Json = None
    failure: Failure | None = None


class Reserved(Struct, frozen=True, omit_defaults=True):
    """One request that may go out: at the most it costs `usd` (None: no price is known) and `tokens`."""

    call: str
    role: str
    provider: str
    model: str
    alias: str = ""
    subtask: str = ""
    usd: float | None = None
    tokens: int = 0


class Settled(Struct, frozen=True, omit_defaults=True):
    """What that request came to: usage in disjoint buckets, `usd` None where the price is unknown.

    `outcome` is "done", "failed" or "abandoned". `charged_usd` and `charged_tokens` are what the budget
    counts for it: the real figures, or the reservation's where nothing is known. `partial` marks a reply
    that was cut.
    """

    call: str
    role: str
    provider: str
    model: str
    outcome: str
    alias: str = ""
    subtask: str = ""
    seconds: float = 0.0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    usd: float | None = None
    charged_usd: float = 0.0
    charged_tokens: int = 0
    billed: bool = True
    partial: bool = False
    error: Failure | None = None


class Exchange(Struct, frozen=True, omit_defaults=True):
    """A request that failed: what was asked and what came, both without secrets."""

    role: str
    provider: str
    model: str
    error: Failure
    request: Json = None
    reply: str = ""
    subtask: str = ""


class WrittenFile(Struct, frozen=True, omit_defaults=True):
    """A file in the output folder: its relative path, its digest (SHA-256, hex) and who wrote it.

    `kept` names the copy of another file that was in its place before the run.
    """

    path: str
    digest: str
    bytes: int = 0
    kept: str = ""


class Receipt(Struct, frozen=True, omit_defaults=True):
    """What became of the files of one reply; `refused` holds path and reason of those not written."""

    written: tuple[WrittenFile, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


class Cancelled(Struct, frozen=True, omit_defaults=True):
    """Somebody wanted the run to end."""

    at: float = 0.0
