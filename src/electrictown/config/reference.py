"""The reference of electrictown.yaml, made from the schema: docs/configuration.md and the JSON schema.

`python -m electrictown.config.reference` writes both into docs/; a test fails while they differ.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from electrictown.config.parts import Part, Shape, is_part, keys_of, shape_of
from electrictown.config.schema import Config
from electrictown.config.yaml_tree import is_table
from electrictown.redact import Hidden, Secret

__all__ = ["json_schema", "main", "markdown"]

_INTRODUCTION = """\
# electrictown.yaml

<!-- Made from src/electrictown/config/schema.py by `python -m electrictown.config.reference`. -->

One file says which model of which provider fills which role. It is looked for as `./electrictown.yaml`,
`$HOME/electrictown.yaml`, then `$XDG_CONFIG_HOME/electrictown/electrictown.yaml`; `--config FILE` names
another. Without any, `et run` takes what it finds on the machine and says what that is; `--config auto`
does so even where there is a file, and `et init` writes the same choice down.

```yaml
{sample}```

* `et config` shows every value and where it came from; `et doctor` tries it.
* `et schema` prints the JSON schema for editors:
  `# yaml-language-server: $schema=electrictown.schema.json`.
* Everything wrong with a file is said at once, with line and remedy, and exit code 2.

## Where a model is named

`model`, `pool` and `fallbacks` take an alias from `models`, or `provider/model` directly. A fallback
that is the same provider and model as the primary, or as another fallback, is an error.

`agent` (of `polecat`, a specialist, a role of your own) names an entry under `agents`, or a preset. The
agent works then; `model`, `pool` and `fallbacks` of the same entry take over where it fails:
[agents.md](agents.md).

## Variables

In `providers` and `agents`, `$VARIABLE` and `${{VARIABLE}}` stand for a variable of the environment, also
inside a longer value (`Bearer ${{TOKEN}}`). There a name without braces counts in capitals only, since
passwords hold dollars too; `$$NAME` is a dollar and a name. Lists are left as they are. Variables are read
when the file is loaded, from the environment and `--env-file`. One that is not set, or empty, is an error
where a role needs its provider or agent, and a note where none does. Keys never appear in output, logs,
events or errors.

## What is chosen without a file

The first of these leads, and nobody else is added:

1. a key in `$ANTHROPIC_API_KEY`, `$OPENAI_API_KEY` or `$GEMINI_API_KEY`: a strong model plans, a cheap one
   works and reviews; nobody polishes (`refinery`), since that costs one more long reply;
2. an Ollama at `$OLLAMA_HOST` or `localhost:11434`, with the best model it holds;
3. the embedded model.

A second key that happens to be set never becomes a fallback: nothing paid is used unasked. Looking around
sends no request to any vendor.

## Keys
"""

_ADDED = """
### Keys of one type of provider

| type | key | meaning |
|---|---|---|
| `local` | `slots` | Replies written at the same time. |
| `local` | `threads` | Processor threads; left out: llama.cpp's choice. |
| `scripted` | `script` | The script: a file beside the configuration, or the steps themselves. |
| `scripted` | `models` | The model ids it claims to have. |

A provider type that an installed package adds may have keys of its own; they are passed to it as they are.
Where a built-in type does not know a key, that is an error.
"""


def json_schema() -> str:
    """The JSON schema of electrictown.yaml as text."""
    return json.dumps(_document(), indent=2) + "\n"


def markdown(sample: str) -> str:
    """docs/configuration.md; `sample` is the commented file at the project's root."""
    schema = _document()
    parts = [_INTRODUCTION.format(sample=sample)]
    for section, about in schema["properties"].items():
        parts.append("\n".join(_section(section, about, schema["$defs"])))
    return "\n".join(parts) + _ADDED


def _document() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    whole = _part(Config, parts) | {"title": "electrictown.yaml"}
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "$defs": dict(sorted(parts.items())), **whole}


def _part(part: type[Part], parts: dict[str, Any]) -> dict[str, Any]:
    """The schema of a mapping; those of the mappings in it are put into `parts`."""
    keys = keys_of(part)
    required = [name for name, shape in keys.items() if shape.required]
    return {
        "additionalProperties": "_extra" in part.__struct_fields__,
        "description": inspect.getdoc(part),
        "properties": {name: _property(name, shape, parts) for name, shape in keys.items()},
        **({"required": required} if required else {}),
        "title": part.__name__,
        "type": "object",
    }


def _property(name: str, shape: Shape, parts: dict[str, Any]) -> dict[str, Any]:
    about = _value(shape, parts) | {"description": shape.description}
    if shape.default is not ...:
        about["default"] = shape.default
    if not is_part(shape.kind):
        about["title"] = name.replace("_", " ").title()
    return dict(sorted(about.items()))


def _value(shape: Shape, parts: dict[str, Any]) -> dict[str, Any]:
    """The schema of what may stand in one place."""
    kind = shape.kind
    choices = [_one(shape, parts)]
    if is_part(kind) and kind.bare:
        choices.insert(0, _one(keys_of(kind)[kind.bare], parts))
    if shape.optional:
        choices.append({"type": "null"})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _one(shape: Shape, parts: dict[str, Any]) -> dict[str, Any]:
    kind = shape.kind
    if is_part(kind):
        if kind.__name__ not in parts:
            parts[kind.__name__] = _part(kind, parts)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, inner = get_origin(kind), get_args(kind)
    if origin is dict:
        entry = True if inner[1] is Any else _value(shape_of(inner[1]), parts)
        return {"additionalProperties": entry, "type": "object"}
    if origin is tuple:
        return {"items": _value(shape_of(inner[0]), parts), "type": "array"}
    if origin is Literal:
        return {"enum": [*inner], "type": "string"}
    bounds = {word: getattr(shape, name) for name, word in _BOUNDS.items()}
    return {word: limit for word, limit in bounds.items() if limit is not None} | {"type": _TYPES[kind]}


_BOUNDS = {"gt": "exclusiveMinimum", "le": "maximum", "ge": "minimum"}
_TYPES = {
    str: "string",
    Secret: "string",
    Hidden: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
}


def _section(name: str, about: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    entry = about.get("additionalProperties")
    part = _inner(entry if is_table(entry) else about, parts)
    yield f"### `{name}{'.NAME' if entry else ''}`\n\n{about.get('description', '')}\n"
    if part is not None:
        yield "| key | type | default | meaning |\n|---|---|---|---|"
        yield from _rows(part, parts, "")
        yield ""


def _rows(part: Mapping[str, Any], parts: Mapping[str, Any], prefix: str) -> Iterator[str]:
    required = part.get("required", ())
    for key, about in part["properties"].items():
        inner = _inner(about, parts)
        kind = "mapping" if inner else _kind(about)
        default = "required" if key in required else _default(about)
        yield f"| `{prefix}{key}` | {kind} | {default} | {about.get('description', '')} |"
        if inner:
            yield from _rows(inner, parts, f"{prefix}{key}.")


def _inner(about: Mapping[str, Any], parts: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for choice in (about, *about.get("anyOf", ())):
        if "$ref" in choice:
            return parts[choice["$ref"].rpartition("/")[2]]
    return None


def _kind(about: Mapping[str, Any]) -> str:
    choices = [choice for choice in about.get("anyOf", (about,)) if choice.get("type") != "null"]
    only = choices[0]
    if "enum" in only:
        return ", ".join(f"`{value}`" for value in only["enum"])
    words = {"string": "text", "integer": "whole number", "object": "mapping", "array": "list"}
    kind = str(only.get("type"))
    return words.get(kind, kind)


def _default(about: Mapping[str, Any]) -> str:
    default = about.get("default")
    return "" if default in (None, "", ()) else f"`{json.dumps(default)}`"


def main(root: Path) -> None:
    """Write docs/configuration.md and docs/electrictown.schema.json of the project at `root`."""
    sample = (root / "electrictown.yaml").read_text(encoding="utf-8")
    (root / "docs").mkdir(exist_ok=True)
    (root / "docs" / "configuration.md").write_text(markdown(sample), encoding="utf-8")
    (root / "docs" / "electrictown.schema.json").write_text(json_schema(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
