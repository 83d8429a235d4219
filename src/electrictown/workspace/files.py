"""The files in a worker's reply: pure text in, paths and contents out.

A file is a fenced block with a name. The form we ask for is a line `### FILE: path` above the fence;
the other ways in which models name files are understood as well.
"""

from __future__ import annotations

import re

from msgspec import Struct

from electrictown.replies import Block, blocks, plain, without_thinking
from electrictown.work import File

__all__ = ["FilesFound", "Refused", "files_of"]


class Refused(Struct, frozen=True):
    """A file that was not written, and why, in words that a model can act upon."""

    path: str
    reason: str
    subtask: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class FilesFound(Struct, frozen=True):
    """What a reply holds: whole files, files that cannot be used, and what was noticed on the way."""

    files: tuple[File, ...] = ()
    refused: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()


def files_of(reply: str) -> FilesFound:
    """The named files of `reply`, each once, in the order of their first appearance.

    A file given twice counts as it was given last, with a note. A file whose block never ends was cut
    off, and one of which it is not clear where it ends (a README whose inner fences are as long as its
    own) might be: both are refused. A block without a name is no file.
    """
    text = plain(without_thinking(reply))
    lines = text.split("\n")
    named: list[_Named] = []
    past = 0
    for block in blocks(text):
        named.append(_named(block, lines[past : block.start]))
        past = block.end + 1
    found: dict[str, File | Refused] = {}
    notes: list[str] = []
    for number, one in enumerate(named):
        if not one.path:
            continue
        before = found.get(one.path)
        wrong = _wrong(one, named[number + 1 :])
        file = Refused(one.path, wrong) if wrong else File(one.path, one.text)
        if isinstance(before, File) and before != file:
            notes.append(f"{one.path} was given twice in one reply; the last one counts")
        found[one.path] = file
    return FilesFound(
        tuple(file for file in found.values() if isinstance(file, File)),
        tuple(file for file in found.values() if isinstance(file, Refused)),
        tuple(notes),
    )


class _Named(Struct, frozen=True):
    """A fenced block, the path it was given ("" for none) and the contents of that file."""

    path: str
    text: str
    block: Block


def _wrong(one: _Named, after: list[_Named]) -> str:
    """Why a named block cannot be used; "" when it can."""
    if not one.block.closed:
        return "the reply ended before the file did; give it again, complete"
    # A Markdown file may go on beyond its block, when a bare fence follows that nothing explains.
    if one.path.lower().endswith((".md", ".markdown", ".mdx")):
        for other in after:
            if other.path:
                break
            if other.block.fence == one.block.fence and not other.block.info:
                return (
                    "it is not clear where the file ends, since a fence in it is as long as the one around "
                    "it; put it in a fence of four backticks or more"
                )
    return ""


# names

_ATTRIBUTE = re.compile(
    r"(?<![\w-])(file_?path|file_?name|file|path|title|name)\s*[=:]\s*(?:\"([^\"]+)\"|'([^']+)'|([^\s\"',}]+))",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?:file[ _]?path|file[ _]?name|new file|file|path)\s*:\s*(?=\S)", re.IGNORECASE)
_COMMENT = re.compile(
    r"\s*(?:#(?![!#])|//|--|;+|%|/\*|<!--|\"|REM\b)\s*(.*?)\s*(?:\*/|-->)?\s*$", re.IGNORECASE
)
_LIST_MARKER = re.compile(r"(?:#{1,6}\s+|[-*+]\s+|\(?[0-9]{1,3}[.)]\s+)+")
_EXTENSION = re.compile(r"\.[A-Za-z][\w+-]{0,14}$")
_FORBIDDEN = re.compile(r"[<>|*?\"`\x00-\x1f]|://|\s")
_BARE_NAME = re.compile(
    r"(?:makefile|dockerfile|containerfile|license|readme|changelog|procfile|gemfile|rakefile|justfile"
    r"|jenkinsfile|vagrantfile|caddyfile|notice|authors)$",
    re.IGNORECASE,
)
_NOT_FILE = re.compile(r"(?:(?:node|vue|next|react|d3|three|express)\.js|asp\.net)$", re.IGNORECASE)
_DOMAINS = (".com", ".org", ".net", ".io", ".dev", ".ai")
_SHELLS = {"bash", "sh", "shell", "zsh", "console", "shell-session", "powershell", "cmd", "terminal"}
_SOURCE = re.compile(
    r".*\.(?:py|[jt]sx?|go|rs|java|[ch](?:pp)?|rb|php|kt|swift|cs|html|css|json|toml|ya?ml)$", re.IGNORECASE
)


def _named(block: Block, before: list[str]) -> _Named:
    """The path that a block's info string, the line above it or its first line gives it, and its text."""
    path = _from_info(block.info) or _from_above(before, block.info)
    if path:
        return _Named(path, block.text, block)
    first, _, rest = block.text.partition("\n")
    comment = _COMMENT.match(first)
    path = _only_path(_LABEL.sub("", comment[1], count=1)) if comment else ""
    # The line said where the file goes; it is no part of it (JSON could not even hold it).
    return _Named(path, rest if path else block.text, block)


def _from_info(info: str) -> str:
    attribute = _ATTRIBUTE.search(info)
    if attribute is not None:
        path = clean(attribute[2] or attribute[3] or attribute[4])
        sure = attribute[1].lower() not in {"title", "name"}
        return path if (sure and not re.search(r"\s", path)) or _is_path(path.replace(" ", "_")) else ""
    for word in info.strip("{}").split():
        language, colon, rest = word.partition(":")
        if colon and len(language) != 1 and _is_path(clean(rest)):
            return clean(rest)
        if _is_path(clean(word)) and not word.startswith("."):
            return clean(word)
    return ""


def _from_above(before: list[str], info: str) -> str:
    """The path on the line above a fence, or above the one blank line that stands between."""
    above = before[-2:] if before and not before[-1].strip() else before[-1:]
    line = above[0].strip() if above else ""
    line = line[marker.end() :] if (marker := _LIST_MARKER.match(line)) else line
    bare = line.lstrip("*_` ")
    label = _LABEL.match(bare)
    if label is not None:
        # Said to be a file: only a sentence is none. A path that cannot be written is refused later, aloud.
        path = clean(bare[label.end() :])
        return path if not re.search(r"\s", path) or _is_path(path.replace(" ", "_")) else ""
    path = _titled(line)
    if _SOURCE.match(path) and info.partition(" ")[0].lower() in _SHELLS:
        return ""  # a command that has to do with the file, not the file
    return path


def _titled(line: str) -> str:
    """The path that a title consists of: alone, quoted or bold, perhaps with a remark behind it."""
    found = re.match(r"[*_]{0,3}`([^`]+)`[*_]{0,3}\s*(?:[:(\N{EM DASH}\N{EN DASH}-].*)?$", line)
    found = found or re.match(r"\*\*([^*`]+?):?\*\*\s*(?:[:(\N{EM DASH}\N{EN DASH}-].*)?$", line)
    found = found or re.match(r"(\S+?):?(?:\s+[(\N{EM DASH}\N{EN DASH}-].*)?$", line)
    return _only_path(found[1]) if found else ""


def _only_path(text: str) -> str:
    path = clean(text)
    return path if _is_path(path) else ""


def _is_path(path: str) -> bool:
    """Whether something unlabelled is a path rather than a word."""
    if not path or _FORBIDDEN.search(path) or _NOT_FILE.match(path):
        return False
    name = path.rpartition("/")[2]
    if not name:
        return False
    known = _BARE_NAME.match(name) is not None or (
        name.startswith(".") and len(name) > 2 and name.strip(".") != ""
    )
    if "/" in path:
        return known or _EXTENSION.search(name) is not None
    return known or (_EXTENSION.search(name) is not None and not name.lower().endswith(_DOMAINS))


def clean(path: str) -> str:
    """A path as written by a model, without quotes, emphasis and a leading `./`, with forward slashes."""
    path = path.strip().strip("*").rstrip(":").strip().strip("\"'`").strip().rstrip(":")
    path = re.sub(r"/+", "/", path.replace("\\", "/"))
    while path.startswith("./"):
        path = path[2:]
    return path.strip()
