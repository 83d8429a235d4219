"""The script of a `scripted` provider: its steps, how they are read and checked.

A request plays the first step that matches and is not used up. The fields of a step (a bare string
is a step with that `text`):

    when           what the request must hold: a string is looked for in the last user message, the
                   system prompt and the model's id; `{user:, system:, model:}` looks in one of them
                   each, all must be found; `/.../` is a regular expression
    repeat         how often the step plays: a number (1), or true for ever
    text           the reply; `{prompt}` stands for the last user message
    reasoning      what comes before it
    tool_calls     [{name, arguments (mapping or JSON text), id}]
    finish_reason  stop | length | tool_calls | content_filter | error
    usage          {input, output, cache_read, cache_write, reasoning}; left out: estimated at 4
                   characters a token; null: the provider gives none
    model, stopped the model's id and the vendor's word in the reply
    latency, pace  seconds before the first token; tokens a second (all at once)
    error          a class of `electrictown.errors` under ProviderError, or {type, message, hint,
                   status, retry_after, code, param}
    stall          seconds of silence, or true for ever; longer than the provider's timeouts it ends
                   in FirstTokenTimeout or IdleTimeout
    after          error, stall or end strike after so many characters of the reply (0); more than
                   there are: behind the last one
    end            false: the stream stops without its `End`, as a proxy's clean close does
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from electrictown import errors
from electrictown.errors import ConfigError, ProviderError
from electrictown.llm.messages import FinishReason, Json, Usage

__all__ = ["ERRORS", "Call", "Fault", "Line", "Step", "When", "pattern", "read_script"]

ERRORS: dict[str, type[ProviderError]] = {
    name: kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and issubclass(kind, ProviderError)
}
"""The errors a step can raise, by name."""


class _Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class When(_Strict, frozen=True):
    """What a request must hold for a step to play; "" asks nothing, `/.../` is a regular expression."""

    user: str = ""
    system: str = ""
    model: str = ""


class Fault(_Strict, frozen=True):
    """The error a step raises: the name of a ProviderError and its facts."""

    type: str
    message: str = ""
    hint: str = ""
    status: int = 0
    retry_after: float | None = None
    code: str = ""
    param: str = ""


class Call(_Strict, frozen=True):
    """A tool call of a reply; `id` is made up where it is left out."""

    name: str
    arguments: str | dict[str, Json] = field(default_factory=dict[str, Json])
    id: str = ""


class Step(_Strict, frozen=True):
    """One answer of a script; the module's docstring explains the fields."""

    when: str | When = ""
    repeat: bool | int = 1
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[Call, ...] = ()
    finish_reason: FinishReason = ""
    usage: Usage | UnsetType | None = UNSET
    model: str = ""
    stopped: str = ""
    latency: float = 0.0
    pace: float | None = None
    error: str | Fault | None = None
    stall: bool | float = False
    after: int = 0
    end: bool = True


Line: TypeAlias = Step | Mapping[str, Json] | str
"""What a script may hold: a step, the mapping of one, or its bare text."""


def read_script(script: Json, folder: str, owner: str) -> list[Step]:
    """The steps of `script`: a list of them, or the name of a file that holds one, relative to `folder`.

    `owner` says whose script it is, for errors.

    Raises:
        ConfigError: for a script that cannot be read, naming the file, the step, the field and a remedy.
    """
    source = f"{owner}, script"
    if isinstance(script, str) and script:
        path = Path(folder, Path(script).expanduser())
        source, script = str(path), _read(path)
    if not (script and isinstance(script, list)):
        raise ConfigError(
            f"{source}: a script is a list of steps",
            hint="give `script:` a list such as [{text: hello, repeat: true}], or a file that holds one",
        )
    steps = [_step(line, source, number) for number, line in enumerate(cast("list[Json]", script), 1)]
    _check_reach(steps, source)
    return steps


def pattern(wanted: str) -> str | None:
    """The regular expression in `/.../`, None for a plain string."""
    return wanted[1:-1] if len(wanted) > 2 and wanted[0] == wanted[-1] == "/" else None


_LARGEST = 16 << 20


def _read(path: Path) -> Json:
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigError(
                f"{path}: the script is larger than {_LARGEST >> 20} MiB",
                hint="is it the right file?",
                file=str(path),
            )
        if path.suffix == ".json":
            return msgspec.json.decode(data)
        import yaml

        try:
            return yaml.safe_load(data)
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{path}: not YAML: {error}", file=str(path)) from error
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"{path}: the script cannot be read: {reason}",
            hint="`script:` is a .yaml or .json file, relative to the configuration's folder",
            file=str(path),
        ) from error


def _step(line: Json, source: str, number: int) -> Step:
    if isinstance(line, Step):
        step = line
    elif isinstance(line, str):
        step = Step(text=line)
    else:
        try:
            step = msgspec.convert(line, Step)
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at ")
            at = where.strip("`").removeprefix("$").lstrip(".")
            raise _wrong(source, number, at, what, _meant(what)) from None
    _check(step, source, number)
    return step


def _check(step: Step, source: str, number: int) -> None:
    fault = step.error.type if isinstance(step.error, Fault) else step.error
    if fault is not None and fault not in ERRORS:
        near = get_close_matches(fault, ERRORS, n=1)
        raise _wrong(
            source,
            number,
            "error",
            f"there is no provider error {fault!r}",
            f"did you mean {near[0]}?" if near else f"one of {', '.join(ERRORS)}",
        )
    when = (step.when,) if isinstance(step.when, str) else (step.when.user, step.when.system, step.when.model)
    for wanted in when:
        try:
            re.compile(pattern(wanted) or "")
        except re.error as error:
            raise _wrong(
                source,
                number,
                "when",
                f"{wanted} is no regular expression: {error}",
                "escape it, or drop the /",
            ) from None
    positive = {"repeat": step.repeat, "pace": 1 if step.pace is None else step.pace}
    for name, value in positive.items():
        if value is False or value <= 0:
            raise _wrong(
                source, number, name, f"must be more than 0, not {value}", "leave it out for the default"
            )
    for name, value in {"latency": step.latency, "stall": step.stall, "after": step.after}.items():
        if value < 0:
            raise _wrong(source, number, name, f"must not be negative, not {value}", "leave it out for 0")


def _check_reach(steps: Sequence[Step], source: str) -> None:
    for number, step in enumerate(steps[:-1], 1):
        if step.repeat is True and step.when in ("", When()):
            raise _wrong(
                source,
                number,
                "repeat",
                f"plays for ever and for everything, so step {number + 1} never comes",
                "move it to the end, or give it a `when:`",
            )


def _wrong(source: str, number: int, at: str, what: str, remedy: str) -> ConfigError:
    where = f"{source}: step {number}" + (f", field {at!r}" if at else "")
    return ConfigError(f"{where}: {what}", hint=remedy, file=source if source.endswith(_FILES) else "")


_FILES = (".yaml", ".yml", ".json")


def _meant(what: str) -> str:
    match = re.search(r"unknown field `(.+)`", what)
    near = get_close_matches(match[1], Step.__struct_fields__, n=1) if match else []
    return f"did you mean {near[0]!r}?" if near else f"fields: {', '.join(Step.__struct_fields__)}"
