"""A program that runs `et` and kills it: `python kill_points.py` reads one JSON line a run from stdin.

Each line is an `Order`. The run is a process of its own that SIGKILL ends at its Nth journal write (0:
never): before it is committed, or after, when nobody has been told yet. The answer is a line with its
exit status (-9: killed). Everything is imported once and each run is forked from that, so that hundreds
of them take no time.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

import electrictown.town
from electrictown.cli import drive, resume, run
from electrictown.cli.main import main
from electrictown.config import load
from electrictown.engine import run as pipeline
from electrictown.journal import sqlite, writer
from electrictown.llm import http_provider, transport

_LOADED = (electrictown.town, drive, resume, run, load, pipeline, sqlite, http_provider, transport)


class Order(msgspec.Struct):
    """One run: its command line, where it goes, and when it dies."""

    arguments: list[str]
    environ: dict[str, str]
    out: str
    kill: int = 0
    when: Literal["before", "after"] = "before"


def _armed(kill: int, when: str) -> None:
    """Have the writer's `kill`th commit be its last."""
    commit = cast(Any, writer.Writer)._commit
    count = 0

    def dying(self: object, jobs: object) -> None:
        nonlocal count
        count += 1
        if count == kill and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, jobs)
        if count == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    cast(Any, writer.Writer)._commit = dying


def _child(order: Order) -> int:
    with Path(order.out).open("wb") as out, Path(f"{order.out}.err").open("ab") as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(order.environ)
    if order.kill:
        _armed(order.kill, order.when)
    sys.argv = ["et", *order.arguments]
    main()
    return 0


def _serve() -> None:
    read = msgspec.json.Decoder(Order).decode
    for line in sys.stdin:
        order = read(line)
        child = os.fork()
        if child == 0:
            status = 70
            try:
                status = _child(order)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 0
            finally:
                sys.stdout.flush()
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(ended), flush=True)


if __name__ == "__main__":
    _serve()
