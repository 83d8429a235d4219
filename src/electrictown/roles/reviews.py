"""From a reviewer's words to a `Review`: pure text, no model.

Where a reply can be read in two ways, the lower score counts; where it has none, it is no pass.
"""

from __future__ import annotations

import re
from typing import cast

from electrictown.llm.messages import Json
from electrictown.replies import json_values, plain, without_fences, without_thinking
from electrictown.work import Review

__all__ = ["REVIEW_SCHEMA", "review_of"]

REVIEW_SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {"critique": {"type": "string"}, "score": {"type": "integer"}},
    "required": ["critique", "score"],
    "additionalProperties": False,
}
"""What a reviewer's reply is asked to match. The critique comes first: it is thought before the score."""

_SCORES = ("score", "overall_score", "rating", "overall", "grade")
_CRITIQUES = ("critique", "feedback", "issues", "problems", "comments", "comment", "note", "review", "reason")

_NUMBER = r"(-?[0-9]{1,4}(?:\.[0-9]{1,3})?)(?:\s*(?:/|out of)\s*([0-9]{1,3}))?(?![0-9.]*[0-9%])"
_NO_RANGE = r"(?!\s*(?:-|\N{EN DASH}|to)\s*[0-9])"
_LABELLED = re.compile(
    r"\b(overall|final|total)?[ \t]*(?:quality )?(?:score|rating|grade)\b"
    r"[ \t*_`\"']*+(?::|=|\bis\b|\bof\b)?+[ \t*_`\"']*+" + _NUMBER + _NO_RANGE,
    re.IGNORECASE,
)
_BARE = re.compile(
    r"(?<![0-9./-])([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*(?:/|out of)\s*(10|100)(?![0-9./])"
    r"(?!\s+(?:\w+\s+)?(?:tests?|cases?|checks?|points?|requirements?|criteria|functions?|files?|lines?)\b)",
    re.IGNORECASE,
)
_NONE = re.compile(
    r"\b(?:score|rating|grade)\b[ \t*_`\"':=]*(?:none|n/?a|unknown|not given)\b", re.IGNORECASE
)
_QUOTED = re.compile(r"^[ \t]*+>.*+$", re.MULTILINE)  # the work's own words are no score of it
_ALONE = re.compile(r"\s*([0-9]{1,2}(?:\.[0-9]{1,3})?)\s*$")


def review_of(text: str, threshold: float = 6) -> Review:
    """The review in a reply; one without a readable score has `score` None and is no pass.

    JSON with a score counts before prose. `7/10`, `Score: 7`, `70/100` and `Rating: 3.5 out of 5` are
    read; of several the overall one counts, else the lowest.
    """
    said = plain(without_thinking(text)).strip()
    score, critique = _from_json(said)
    if score is None and not critique:
        score, critique = _from_prose(said)
    if score is None:
        critique = critique or "the review named no score that could be read"
    return Review(
        text=text,
        passed=score is not None and score >= threshold,
        score=score,
        critique=critique,
        threshold=threshold,
    )


def _from_json(text: str) -> tuple[float | None, str]:
    scores: list[tuple[float, str]] = []
    critique = ""
    for value in json_values(text):
        if not isinstance(value, dict):
            continue
        fields = {key.strip().lower(): inside for key, inside in cast("dict[str, object]", value).items()}
        told = next((line for key in _CRITIQUES if (line := _line(fields.get(key)))), "")
        score = next((s for key in _SCORES if (s := _score(fields.get(key))) is not None), None)
        critique = critique or told
        if score is not None:
            scores.append((score, told))
    return min(scores, default=(None, critique))


def _score(value: object) -> float | None:
    """A score given as a number, or as text such as "7/10"."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _scaled(float(value), 10)
    if isinstance(value, str):
        found = _BARE.search(value) or _ALONE.match(value)
        if found:
            return _scaled(float(found[1]), float(found[2]) if found.re is _BARE else 10)
    return None


def _scaled(value: float, best: float) -> float | None:
    """`value` of `best` on the scale of 1 to 10; None when it is not on the scale at all."""
    if not 0 <= value <= best or not best:
        return None
    return max(1.0, round(value * 10 / best, 2))


def _line(value: object) -> str:
    """What a critique says: text, or a list of texts and of objects that hold some."""
    if isinstance(value, str):
        return plain(value).strip()
    if isinstance(value, list):
        lines = (_line(inside) for inside in cast("list[object]", value))
        return "\n".join(f"- {line}" for line in lines if line)
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value).values()
        return ": ".join(inside.strip() for inside in inner if isinstance(inside, str) and inside.strip())
    return ""


def _from_prose(text: str) -> tuple[float | None, str]:
    prose = _QUOTED.sub("", without_fences(text))
    overall: list[float] = []
    labelled: list[float] = []
    for found in _LABELLED.finditer(prose):
        score = _scaled(float(found[2]), float(found[3]) if found[3] else 10)
        if score is not None:
            (overall if found[1] else labelled).append(score)
    bare = [
        score
        for found in _BARE.finditer(prose)
        if (score := _scaled(float(found[1]), float(found[2]))) is not None
    ]
    alone = _ALONE.match(prose)
    only = [score for found in [alone] if found and (score := _scaled(float(found[1]), 10)) is not None]
    scores = overall or labelled or ([] if _NONE.search(prose) else bare or only)
    critique = "\n".join(line for line in text.split("\n") if not _LABELLED.search(line) or len(line) > 60)
    critique = re.sub(r"^\W*critique\W*", "", critique.strip(), flags=re.IGNORECASE).strip()
    return min(scores, default=None), critique or (text if scores else "")
