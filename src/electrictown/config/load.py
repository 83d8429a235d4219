"""The way from a file to a `Config`, or to one `ConfigError` that lists everything wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from electrictown.config.checks import check
from electrictown.config.compat import translate
from electrictown.config.origin import Source
from electrictown.config.reading import read
from electrictown.config.schema import Config
from electrictown.config.variables import Resolved, resolve
from electrictown.config.yaml_tree import Data, Problem, is_table, read_yaml
from electrictown.errors import ConfigError
from electrictown.redact import mask

__all__ = ["find_config", "load_config", "load_env_file", "parse_config"]

_NAME = "electrictown.yaml"
_LARGEST = 1 << 20
_WITH_VARIABLES = ("providers", "cluster", "agents")
_NAMED = ("providers", "models", "roles", "specialists", "agents")


def find_config(explicit: str | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file to read: `explicit`, else the first electrictown.yaml there is, else None.

    Looked for in the current folder, in $HOME, and in $XDG_CONFIG_HOME/electrictown. The word "auto"
    passes over all of them: the machine is looked at instead.

    Raises:
        ConfigError: when `explicit` is empty.
    """
    if explicit == "auto":
        return None
    if explicit is not None:
        if not explicit.strip():  # a variable of a shell that is not set: no other file is taken for it
            raise ConfigError("no file is named", "--config wants a path, or auto")
        return Path(explicit).expanduser()
    home = Path(environ.get("HOME") or Path.home())
    settings = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    places = (Path(_NAME), home / _NAME, settings / "electrictown" / _NAME)
    return next((place for place in places if place.exists()), None)


def load_config(
    path: Path | str, environ: Mapping[str, str] = os.environ, *, require_keys: bool = True
) -> Config:
    """Read `path`, resolve its variables from `environ`, check everything.

    Without `require_keys` a provider that lacks its key is a note, for commands that only look.

    Raises:
        ConfigError: with every problem of the file, each with its line and remedy.
    """
    return parse_config(_read(Path(path)), str(path), environ, require_keys=require_keys)


def parse_config(
    text: str,
    file: str = _NAME,
    environ: Mapping[str, str] = os.environ,
    *,
    require_keys: bool = True,
) -> Config:
    """The configuration in `text`; `file` is the name it bears in messages.

    Raises:
        ConfigError: with every problem of the text, each with its line and remedy.
    """
    problems: list[Problem] = []
    tree = read_yaml(text, problems)
    source = Source(file=file, text=text, environ=environ, lines=tree.lines, notes=tree.notes)
    if not is_table(tree.data):
        if not problems:
            problems.append(_no_mapping(tree.data))
        raise _error(file, problems)
    data = _without_nulls(tree.data)
    translate(data, source.lines, source.notes, problems)
    found = Resolved()
    for section in _WITH_VARIABLES:
        if section in data:
            data[section] = resolve(data[section], environ, (section,), found)
    source.variables = found.variables
    check(data, found, source, problems, require_keys=require_keys)
    config = read(Config, data, source.lines, problems)
    if problems or config is None:
        raise _error(file, problems)
    return config.bind(source)


def load_env_file(path: Path | str) -> dict[str, str]:
    """The KEY=VALUE lines of a file, as `--env-file` takes it; blank lines, # lines and others are skipped.

    Quotes around a value are removed, `export ` before a key too.

    Raises:
        ConfigError: when the file cannot be read.
    """
    values: dict[str, str] = {}
    for line in _read(Path(path)).splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith("#"):
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[key.removeprefix("export ").strip()] = value
    return values


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        hint = "check the path, or let `et init` write a file for what is on this machine"
        raise ConfigError(f"there is no file {path}", hint, file=str(path)) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder", f"name the file: {path / _NAME}", file=str(path)) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a path"
        raise ConfigError(f"{path} cannot be read: {why}", "check the path", file=str(path)) from None
    if len(content) > _LARGEST:
        raise ConfigError(f"{path} is larger than a megabyte", "is it the right file?", file=str(path))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = Problem(line, "the file is not UTF-8 text", "save it as UTF-8")
        raise _error(str(path), [problem]) from None


def _no_mapping(data: Data) -> Problem:
    if data is None:
        return Problem(0, "the file is empty", "`et init` writes one for what is on this machine")
    return Problem(1, "the file is no mapping", "it begins with a section, such as `providers:`")


def _without_nulls(data: dict[str, Any]) -> dict[str, Any]:
    """A key without a value is a key left out; a named entry without a value is an empty entry."""
    kept: dict[str, Any] = {}
    for section, content in data.items():
        if is_table(content) and section in _NAMED:
            kept[section] = {name: {} if entry is None else _fields(entry) for name, entry in content.items()}
        elif content is not None:
            kept[section] = _fields(content)
    return kept


def _fields(entry: Data) -> Data:
    if not is_table(entry):
        return entry
    return {
        name: value if name == "options" else _fields(value)
        for name, value in entry.items()
        if value is not None
    }


def _error(file: str, problems: list[Problem]) -> ConfigError:
    # One message a finding, in the order of the file.
    found = sorted(dict.fromkeys(problems))
    texts = [
        mask(f"{file}:{p.line}: {p.what}; {p.remedy}" if p.line else f"{file}: {p.what}; {p.remedy}")
        for p in found
    ]
    count = "1 problem" if len(texts) == 1 else f"{len(texts)} problems"
    return ConfigError(
        f"the configuration {file} has {count}", file=file, line=found[0].line if found else 0, problems=texts
    )
