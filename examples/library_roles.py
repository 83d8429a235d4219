"""The four roles from Python: plan, work, review, polish, and what it cost.

python examples/library_roles.py [electrictown.yaml]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from electrictown import CostTracker, Done, Mayor, Polecat, Refinery, TextDelta, Town, Witness, load_config

REHEARSAL = Path(__file__).parent / "rehearsal" / "electrictown.yaml"


async def main(path: str | Path = REHEARSAL) -> None:
    """Ask each role for what it does."""
    async with Town.open(load_config(path)) as town:
        router = town.router()
        bill = CostTracker()
        mayor = Mayor(router, cost_tracker=bill, max_subtasks=5)
        polecat = Polecat(router, cost_tracker=bill, system_prompt="You are a Python expert.")
        witness = Witness(router, cost_tracker=bill)
        refinery = Refinery(router, cost_tracker=bill)

        plan = await mayor.decompose("write a word counter")
        for subtask in plan.subtasks:
            print(f"{subtask.id} {subtask.text}  (after {', '.join(subtask.depends) or 'nothing'})")

        first = plan.subtasks[0]
        reply = await polecat.execute(f"## Your subtask\n\n{first.text}")
        review = await witness.review_with_context(first.text, reply.text)
        print(f"the witness gives {review.score:g} of 10: {review.critique}")

        text = await mayor.synthesize(plan.task, [Done(first.id, reply.text)], plan=plan)
        async with polecat.execute_stream("Say hello.") as chunks:
            async for chunk in chunks:
                if isinstance(chunk, TextDelta):
                    print(chunk.text, end="", flush=True)
        print()
        print(await refinery.refine_with_feedback(text, "compile the pattern once"))

        for line in bill.summary().by_role:
            usd = "unknown" if line.usd is None else f"${line.usd:.4f}"
            print(f"{line.name}: {line.requests} requests, {line.tokens} tokens, {usd}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
