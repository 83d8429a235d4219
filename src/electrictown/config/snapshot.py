"""A configuration as a run's journal keeps it: variables unresolved, and no secret in it.

A credential that stands in the file itself is replaced by a variable of a name of its own. Whoever
takes the run up again reads the value from the file, where it is still there, or from that variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from electrictown.config.load import load_config, parse_config
from electrictown.config.variables import literal, sensitive
from electrictown.config.yaml_tree import Data, Key, Problem, is_table, read_yaml
from electrictown.redact import mask

if TYPE_CHECKING:
    from electrictown.config.schema import Config

__all__ = ["restore", "snapshot"]


def snapshot(text: str) -> str:
    """The YAML `text` without its secrets."""
    found = {span: _variable(path) for path, _, span in _credentials(text)}
    for (start, end), name in sorted(found.items(), reverse=True):
        # Without braces, which would end it in a table on one line; what follows keeps its line.
        text = f"{text[:start]}${name}{chr(10) * text.count(chr(10), start, end)}{text[end:]}"
    return mask(text)


def restore(text: str, file: str, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration that `snapshot` made `text` of; `file` is where it was read from.

    Raises:
        ConfigError: when a variable is not set, or this version no longer takes the text.
    """
    try:
        now = Path(file).read_text("utf-8-sig") if file else ""
    except (OSError, UnicodeDecodeError):
        now = ""
    if now and snapshot(now) == text:
        return load_config(file, environ)
    hidden = {_variable(path): value for path, value, _ in _credentials(now)}
    return parse_config(text, file or "the configuration of the run", {**hidden, **environ})


def _credentials(text: str) -> Iterator[tuple[Key, str, tuple[int, int]]]:
    """The credentials that stand in `text` itself: under which key, what, and where in the text."""
    problems: list[Problem] = []
    tree = read_yaml(text, problems)
    for section in ("providers", "cluster", "agents"):
        part = tree.data.get(section) if is_table(tree.data) else None
        for path, value in _values(part, (section,)):
            credential = literal(value)
            if credential and _opens_a_door(path, credential):
                yield path, credential, tree.spans[path]


def _values(data: Data, path: Key) -> Iterator[tuple[Key, str]]:
    if is_table(data):
        for name, value in data.items():
            yield from _values(value, (*path, name))
    elif isinstance(data, str) and data:
        yield path, str(data)


def _opens_a_door(path: Key, value: str) -> bool:
    if path[0] == "agents" and path[2:3] == ("env",):  # whatever its name: most are there to log in with
        return True
    if any(sensitive(str(step)) for step in path[2:]):
        return True
    _, scheme, rest = value.partition("://")
    authority, _, query = rest.partition("?")
    named = any(sensitive(pair.partition("=")[0]) for pair in query.split("&"))
    return bool(scheme) and ("@" in authority.partition("/")[0] or named)


def _variable(path: Key) -> str:
    """The name of the variable that stands for the credential at `path`."""
    return "ELECTRICTOWN_" + "_".join(re.sub(r"\W", "_", str(step)).upper() for step in path[1:])
