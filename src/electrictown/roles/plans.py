"""From a mayor's words to a `Plan`, and back: pure text, no model.

A plan may come as JSON, as a numbered list, as bullets, or under `## Summary` and `## Subtasks`. Whatever
the form, the result is a directed acyclic graph or a `PlanError` whose message a model can act upon.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import cast

import msgspec

from electrictown.errors import PlanError, UsageError
from electrictown.llm.messages import Json
from electrictown.replies import plain, without_thinking
from electrictown.roles.drafts import Draft, draft_of
from electrictown.work import Plan, Subtask

__all__ = ["matched", "parse", "plan_of", "plan_schema", "render", "render_json", "single", "validate_plan"]

_NOBODY = {"", "none", "null", "n/a", "default", "general", "general-default", "worker", "polecat"}
_POSITION = re.compile(r"(?:(?:(?:sub)?tasks?|steps?|items?|t)[\s_#-]*|#\s*)?([0-9]{1,6})$", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]{1,6})\s*(?:-|\N{EN DASH}|to)\s*([0-9]{1,6})$", re.IGNORECASE)
_NOTHING = {"", "none", "no", "nothing", "null", "n/a", "na", "-", "\N{EM DASH}", "\N{EN DASH}"}


def parse(
    text: str,
    *,
    task: str = "",
    max_subtasks: int | None = None,
    specialists: Collection[str] | None = None,
) -> Plan:
    """The plan in a model's reply.

    Subtasks are named t01, t02, ... in the order of the reply; a number in a dependency is a position
    in that order. A specialist's name is matched against `specialists` (None: any name stands), and a
    name that is nobody's leaves the subtask to the default worker, with a note.

    Raises:
        PlanError: no subtask, more than `max_subtasks`, an unknown, ambiguous or own number, or a
            cycle; the message says it in the reply's own numbers, `reply` is `text`.
    """
    try:
        draft = _counted(draft_of(plain(without_thinking(text))), max_subtasks)
        depends = _edges(draft)
    except PlanError as error:
        error.reply = text
        raise
    notes: list[str] = []
    subtasks = tuple(
        Subtask(
            id=_name(position),
            text=item.text,
            depends=tuple(_name(other) for other in depends[position]),
            specialist=_specialist(item.specialist, specialists, _name(position), notes),
            paths=item.paths,
        )
        for position, item in enumerate(draft.items)
    )
    return Plan(task=task, subtasks=subtasks, summary=draft.summary, notes=tuple(notes))


def single(task: str, note: str = "") -> Plan:
    """The plan of one subtask: the task itself, for one worker or for a model that cannot plan."""
    return Plan(task=task, subtasks=(Subtask(_name(0), task),), notes=(note,) if note else ())


def validate_plan(plan: Plan) -> Plan:
    """`plan` itself, when it can be run.

    Raises:
        PlanError: naming the field: no subtasks, an id missing or used twice, an empty text, an
            unknown or own dependency, a cycle.
    """
    if not plan.subtasks:
        raise PlanError("subtasks: the plan has none")
    if plan.version != 1:
        raise PlanError(f"version: {plan.version} is not known, 1 is")
    known: set[str] = set()
    for number, subtask in enumerate(plan.subtasks):
        where = f"subtasks[{number}]"
        if not subtask.id.strip():
            raise PlanError(f"{where}.id: it is empty")
        if subtask.id in known:
            raise PlanError(f"{where}.id: {subtask.id!r} is used twice")
        if not subtask.text.strip():
            raise PlanError(f"{where}.text: it is empty")
        known.add(subtask.id)
    for number, subtask in enumerate(plan.subtasks):
        for other in subtask.depends:
            if other == subtask.id:
                raise PlanError(f"subtasks[{number}].depends: {other!r} depends on itself")
            if other not in known:
                raise PlanError(f"subtasks[{number}].depends: there is no subtask {other!r}")
    _no_cycle({s.id: s.depends for s in plan.subtasks})
    return plan


def plan_of(text: str | bytes, *, source: str = "the plan") -> Plan:
    """The plan in a file's text: one by itself, or the report of `et run --json` that holds it.

    Raises:
        UsageError: naming `source` and the field that is wrong.
    """
    hint = "give it the output of `et run --dry-run --json`"
    try:
        written = msgspec.json.decode(text)
        if isinstance(written, dict) and "subtasks" not in written:
            written = cast("dict[str, Json]", written).get("plan", written)
        return validate_plan(msgspec.convert(written, Plan))
    except msgspec.ValidationError as error:
        raise UsageError(f"{source} is not a plan: {error}", hint=hint) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{source} is not JSON: {error}", hint=hint) from None
    except RecursionError:
        raise UsageError(f"{source} is not a plan: it is nested too deeply", hint=hint) from None
    except PlanError as error:
        raise UsageError(f"{source} cannot be run: {error.message}", hint=hint) from None


def render(plan: Plan) -> str:
    """`plan` as the list that a mayor writes; `parse` reads it back."""
    numbers = {subtask.id: position for position, subtask in enumerate(plan.subtasks, 1)}
    lines = ["## Summary", "", plan.summary, "", "## Subtasks", ""] if plan.summary else []
    for position, subtask in enumerate(plan.subtasks, 1):
        marker = f"{position}. "
        first, *more = subtask.text.split("\n")
        if subtask.depends:
            first += f" [depends: {', '.join(str(numbers[d]) for d in subtask.depends)}]"
        if subtask.specialist:
            first += f" [specialist: {subtask.specialist}]"
        if subtask.paths:
            first += f" [files: {', '.join(subtask.paths)}]"
        lines.append(marker + first)
        lines += [" " * len(marker) + line if line else "" for line in more]
    return "\n".join(lines)


def render_json(plan: Plan) -> str:
    """`plan` as JSON, for `--plan FILE`."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2).decode()


def plan_schema(specialists: Collection[str] = ()) -> dict[str, Json]:
    """The JSON schema a mayor's reply is asked to match; strict enough for every vendor's strict mode."""
    text = {"type": "string"}
    fields: dict[str, Json] = {
        "text": text,
        "depends": {"type": "array", "items": {"type": "integer"}},
        "paths": {"type": "array", "items": text},
    }
    if specialists:
        fields["specialist"] = {"type": "string", "enum": [*specialists, "default"]}
    item = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {
        "type": "object",
        "properties": {"summary": text, "subtasks": {"type": "array", "items": item}},
        "required": ["summary", "subtasks"],
        "additionalProperties": False,
    }


def matched(name: str, names: Collection[str]) -> str | None:
    """The one of `names` that `name` means: case, separators and up to two wrong letters are forgiven.

    None when nobody is meant, or more than one is as near.
    """
    wanted = _letters(name)
    by_letters = {_letters(known): known for known in names}
    if wanted in by_letters:
        return by_letters[wanted]
    near = sorted((_distance(wanted, letters), letters) for letters in by_letters)
    if not near or near[0][0] > min(2, len(wanted) // 3) or (len(near) > 1 and near[1][0] == near[0][0]):
        return None
    return by_letters[near[0][1]]


def _name(position: int) -> str:
    return f"t{position + 1:02}"


def _counted(draft: Draft, limit: int | None) -> Draft:
    """`draft` itself, when it has items, none of them empty, and not too many."""
    count = len(draft.items)
    if not count:
        raise PlanError("the plan has no subtasks", hint="a numbered list or JSON is expected")
    for position, item in enumerate(draft.items, 1):
        if not item.text:
            raise PlanError(f"subtask {position} is empty")
    if limit is not None and count > limit:
        raise PlanError(
            f"the plan has {count} subtasks, and at most {limit} are allowed: "
            "merge those that belong together, so that all of the work is still done",
            hint=f"raise --max-subtasks above {limit}",
        )
    return draft


def _edges(draft: Draft) -> list[tuple[int, ...]]:
    """For each item the positions it depends on."""
    ids: dict[str, list[int]] = {}
    for position, item in enumerate(draft.items):
        if item.id:
            ids.setdefault(item.id.casefold(), []).append(position)
    edges: list[tuple[int, ...]] = []
    for position, item in enumerate(draft.items):
        found: dict[int, None] = {}
        for reference in item.depends:
            for other in _positions(reference, ids, len(draft.items), position):
                if other == position:
                    raise PlanError(f"subtask {position + 1} depends on itself")
                found[other] = None
        edges.append(tuple(found))
    _no_cycle({str(at + 1): [str(other + 1) for other in others] for at, others in enumerate(edges)})
    return edges


def _positions(reference: str, ids: dict[str, list[int]], count: int, position: int) -> Sequence[int]:
    """The positions that one reference means: an id of the reply's own, a number, or a range of them."""
    reference = reference.strip().strip("\"'`*.")
    if reference.casefold() in _NOTHING:
        return ()
    named = ids.get(reference.casefold())
    if named is not None and len(named) == 1:
        return named
    if named is not None:
        raise PlanError(f"subtask {position + 1} depends on {reference!r}, an id that is used twice")
    wide = _RANGE.match(reference)
    number = _POSITION.match(reference)
    first, last = (int(wide[1]), int(wide[2])) if wide else (int(number[1]),) * 2 if number else (0, 0)
    if not 1 <= first <= last <= count:
        raise PlanError(
            f"subtask {position + 1} depends on {reference!r}, and there is no such subtask: "
            f"the numbers go from 1 to {count}"
        )
    return range(first - 1, last)


def _no_cycle(depends: dict[str, Sequence[str]] | dict[str, tuple[str, ...]] | dict[str, list[str]]) -> None:
    try:
        TopologicalSorter(depends).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        way = " -> ".join(reversed(cycle))
        raise PlanError(f"the subtasks wait for each other in a circle: {way}") from None


def _specialist(name: str, known: Collection[str] | None, subtask: str, notes: list[str]) -> str:
    name = name.strip().strip("\"'`*")
    if known is None or name in known:
        return name
    if name.casefold() in _NOBODY:
        return ""
    found = matched(name, known)
    if found is None:
        notes.append(f"{subtask}: there is no specialist {name!r}; the default worker takes it")
        return ""
    notes.append(f"{subtask}: the specialist {name!r} was read as {found!r}")
    return found


def _letters(name: str) -> str:
    letters = re.sub(r"[\W_]+", "", name.casefold())
    return letters.removeprefix("the").removesuffix("specialist") or letters


def _distance(one: str, other: str) -> int:
    """How many letters must be added, dropped or changed to make `other` of `one`."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row, before = [i], row
        for j, b in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
    return row[-1]
