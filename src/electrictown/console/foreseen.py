"""What a dry run says: the plan, who would be asked, and the most it can cost."""

from __future__ import annotations

from electrictown.console.text import money
from electrictown.work import Report

__all__ = ["foreseen"]


def foreseen(report: Report) -> str:
    """The dry run of `report` for a person, as plain text."""
    lines: list[str] = []
    if report.plan is not None:
        lines.append("Plan")
        for s in report.plan.subtasks:
            marks = [f"after {', '.join(s.depends)}"] if s.depends else []
            marks += [f"for {s.specialist}"] if s.specialist else []
            text = s.text.strip().splitlines()[0]
            lines.append(f"  {s.id}  {text}" + (f"  ({'; '.join(marks)})" if marks else ""))
    if report.planned:
        lines += ["", "At the most"]
        width = max(len(p.phase) for p in report.planned)
        for p in report.planned:
            calls = "1 call " if p.calls == 1 else f"{p.calls} calls"
            lines.append(f"  {p.phase:{width}}  {calls:>9}  {money(p.usd):>10}  {', then '.join(p.models)}")
        unknown = any(p.usd is None for p in report.planned)
        total = money(None if unknown else sum(p.usd or 0.0 for p in report.planned))
        lines.append(f"  {'total':{width}}  {sum(p.calls for p in report.planned):>3} calls  {total:>10}")
        if unknown:
            lines.append(
                "  unknown: set max_tokens and a price for these models to know the most they can cost"
            )
    return "\n".join(lines)
