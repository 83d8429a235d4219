"""`python -m bench`: measure everything and print a table. It exits with 0 whatever it finds.

--quick        a smoke test: the figures mean nothing
--only a,b     some of: requests, events, busy, many, version, start, pool, onefile, steps, resume,
               remembered, cluster, sessions
--rounds N     how often each comparison is repeated (5)
--json         one JSON object on stdout instead of the table
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import platform
import sys
import time

import msgspec
from msgspec.structs import replace

from bench.measures import MEASURES, QUICK, Effort, Figure


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(MEASURES))
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    unknown = set(told.only.split(",")) - MEASURES.keys()
    if unknown:
        parser.error(f"there is no measure {', '.join(sorted(unknown))}; choose from {', '.join(MEASURES)}")
    return told


async def _measure(names: list[str], effort: Effort) -> list[Figure]:
    figures: list[Figure] = []
    for name in names:
        began = time.perf_counter()
        figures += await MEASURES[name](effort)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return figures


def _table(figures: list[Figure]) -> str:
    rows = [("measure", "figure", "goal", "", "")]
    for figure in figures:
        verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
        goal = "" if figure.goal is None else f"<= {figure.goal:g}"
        value = "-" if math.isnan(figure.value) else f"{figure.value:.3g} {figure.unit}"
        rows.append((figure.name, value, goal, verdict, figure.note))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _closing(figures: list[Figure]) -> str:
    missed = [figure.name for figure in figures if figure.met is False]
    return f"missed: {'; '.join(missed)}" if missed else "every goal is met"


def main() -> None:
    """Measure, and print what came of it."""
    told = _arguments()
    effort = QUICK if told.quick else Effort()
    if told.rounds:
        effort = replace(effort, rounds=told.rounds)
    figures = asyncio.run(_measure(told.only.split(","), effort))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    load = os.getloadavg()[0]
    if told.json:
        rows = [{**msgspec.to_builtins(figure), "met": figure.met} for figure in figures]
        print(msgspec.json.encode({"machine": machine, "load": load, "figures": rows}).decode())
        return
    print(_table(figures))
    print(f"\n{machine}; load at the end {load:.1f}\n{_closing(figures)}")


if __name__ == "__main__":
    main()
