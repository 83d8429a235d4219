"""Reading what a model wrote: its thinking, its fenced blocks, the JSON in it; and quoting it safely.

Pure text, used by whoever reads a reply (plans, reviews, files) or shows one model's words to another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

__all__ = ["Block", "blocks", "fenced", "json_values", "plain", "without_fences", "without_thinking"]

_THOUGHT = re.compile(r"<(think|thinking)>.*?(?:</\1>|\Z)\s*", re.DOTALL | re.IGNORECASE)
_ORPHAN = re.compile(r"^[ \t]*</think(?:ing)?>[ \t]*$", re.MULTILINE | re.IGNORECASE)
_FENCE = re.compile(r"^([ \t]*)(`{3,}(?=[^`]*$)|~{3,})[ \t]*(.*?)[ \t]*$")
_LANGUAGE = re.compile(r"[\w+#.:/-]+$")
_TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_TRIES = 64


class Block(Struct, frozen=True):
    """A fenced block: the info string behind its fence, its text, and its lines' numbers in the reply.

    `start` is the line of the opening fence, `end` that of the closing one. `closed` is False when
    the reply ended before the block did. `fence` is the opening fence itself.
    """

    info: str
    text: str
    start: int
    end: int
    closed: bool
    fence: str


def plain(text: str) -> str:
    """`text` with line ends of one kind, no byte order mark, and nothing that UTF-8 cannot hold."""
    return _SURROGATE.sub("\ufffd", text).removeprefix("\ufeff").replace("\r\n", "\n")


def without_thinking(text: str) -> str:
    """`text` without the thoughts that a local model wrote before its answer.

    Only thoughts at the beginning count, so that code which speaks of such tags stays whole. Some chat
    templates put the opening tag into the prompt: then a line with the closing tag alone ends the thought.
    """
    text = plain(text)
    while (thought := _THOUGHT.match(text.lstrip())) is not None:
        text = text.lstrip()[thought.end() :]
    orphan = _ORPHAN.search(text)
    if orphan is not None and "<think" not in text[: orphan.start()].lower():
        text = text[orphan.end() :].lstrip("\n")
    return text


def blocks(text: str) -> list[Block]:
    """The fenced blocks of `text`, outermost only, in order.

    As in CommonMark a fence ends at one of the same kind that is at least as long and says nothing
    more. Beyond it, a fence inside that does say more opens a block within the block, since that is
    how models write a README with code in it.
    """
    lines = plain(text).split("\n")
    found: list[Block] = []
    at = 0
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        if opening is None:
            at += 1
            continue
        end = _closing(lines, at, opening)
        indent = len(opening[1])
        body = [line[min(indent, len(line) - len(line.lstrip(" \t"))) :] for line in lines[at + 1 : end]]
        inside = "".join(f"{line}\n" for line in body)
        found.append(Block(opening[3], inside, at, end, end < len(lines), opening[2]))
        at = end + 1
    return found


def _closing(lines: list[str], start: int, opening: re.Match[str]) -> int:
    """The line of the fence that closes the one at `start`; len(lines) when there is none."""
    open_fences = [opening[2]]
    for number in range(start + 1, len(lines)):
        fence = _FENCE.match(lines[number])
        if fence is None or len(fence[1]) > len(opening[1]) + 3:
            continue
        innermost = open_fences[-1]
        if fence[2][0] != innermost[0] or len(fence[2]) < len(innermost):
            continue
        if not fence[3]:
            open_fences.pop()
            if not open_fences:
                return number
        elif _LANGUAGE.match(fence[3].split()[0]):
            open_fences.append(fence[2])
    return len(lines)


def without_fences(text: str) -> str:
    """`text` without its fenced blocks."""
    lines = plain(text).split("\n")
    for block in reversed(blocks(text)):
        del lines[block.start : block.end + 1]
    return "\n".join(lines)


def fenced(text: str, info: str = "text") -> str:
    """`text` in a fence that is longer than any inside it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{info}\n{text.rstrip(chr(10))}\n{fence}"


def json_values(text: str) -> Iterator[Any]:
    """Every JSON object or array in a reply: the whole of it, else fenced, else from a line's start on.

    A trailing comma is forgiven. What is no JSON is passed over.
    """
    text = text.strip()
    whole = _decoded(text)
    if whole is not None:
        yield whole[0]
        return
    for block in blocks(text):
        value = _decoded(block.text.strip())
        if value is not None:
            yield value[0]
    past = 0
    for tries, start in enumerate(re.finditer(r"^[ \t]*(?=[{\[])", without_fences(text), re.MULTILINE)):
        if tries >= _MOST_TRIES:
            return
        if start.end() < past:
            continue
        value = _decoded(start.string[start.end() :], partly=True)
        if value is not None:
            past = start.end() + value[1]
            yield value[0]


def _decoded(text: str, *, partly: bool = False) -> tuple[Any, int] | None:
    """The object or array at the beginning of `text` and where it ends; None where there is none."""
    if not text.startswith(("{", "[")):
        return None
    for attempt in (text, _TRAILING_COMMA.sub("", text)):
        try:
            value, end = json.JSONDecoder().raw_decode(attempt)
        except (ValueError, RecursionError):
            continue
        if partly or end == len(attempt):
            return value, end
    return None
