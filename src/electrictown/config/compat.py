"""What files of the Go original say in other words, put into ours; each change leaves a note."""

from __future__ import annotations

from typing import Any

from electrictown.config.yaml_tree import Key, Problem, is_table

__all__ = ["COMPATIBLE", "RENAMED", "translate"]

_ASKED = ("mayor", "witness", "refinery")
"""Roles that only ask a model: an agent has nothing to do in them."""

_UNHEEDED = {
    "permission_mode": "`permissions` says what an agent may do",
    "allowed_tools": "`permissions` says what an agent may do",
}
"""Keys of the Go original's agents."""

COMPATIBLE = {
    "groq": "https://api.groq.com/openai/v1",
    "mistral": "https://api.mistral.ai/v1",
    "cerebras": "https://api.cerebras.ai/v1",
}
"""Types of the Go original that are OpenAI's protocol at another address."""

RENAMED = {"reviewer": "witness", "tester": "refinery"}
"""Roles of the Go original under our names."""


def translate(data: dict[str, Any], lines: dict[Key, int], notes: list[str], problems: list[Problem]) -> None:
    """Change `data` in place: role names, compatible types, zeroes that mean "not set", idle agents."""
    _rename_roles(data, lines, notes, problems)
    for name, entry in _tables(data, "providers"):
        kind = entry.get("type")
        if isinstance(kind, str) and kind in COMPATIBLE:
            entry["type"] = "openai"
            if not entry.get("base_url"):
                entry["base_url"] = COMPATIBLE[kind]
            notes.append(f"providers.{name}: type {kind} is read as openai at {COMPATIBLE[kind]}")
    for table in (data.get("defaults"), *(e for s in ("models", "roles") for _, e in _tables(data, s))):
        if is_table(table) and table.get("max_tokens") == "0":
            del table["max_tokens"]
    _settle_agents(data, notes)
    defaults = data.get("defaults")
    if is_table(defaults) and defaults.get("log_dir"):
        notes.append("defaults.log_dir has no effect: the result is on stdout, --jsonl records the run")


def _settle_agents(data: dict[str, Any], notes: list[str]) -> None:
    for name, entry in _tables(data, "agents"):
        for key, why in _UNHEEDED.items():
            if entry.pop(key, None) is not None:
                notes.append(f"agents.{name}.{key} has no effect: {why}")
    defaults = data.get("defaults")
    spare = defaults.get("model") if is_table(defaults) else None
    for name, entry in _tables(data, "roles"):
        if name not in _ASKED or not entry.pop("agent", None):
            continue
        if not entry.get("model"):
            entry.pop("model", None)
        filled = entry.get("model") or spare
        notes.append(f"roles.{name}.agent has no effect: {filled or 'nobody'} fills the role")
        if not filled:
            del data["roles"][name]


def _rename_roles(
    data: dict[str, Any], lines: dict[Key, int], notes: list[str], problems: list[Problem]
) -> None:
    roles = data.get("roles")
    if not is_table(roles):
        return
    for old, new in RENAMED.items():
        if old not in roles:
            continue
        if new in roles:
            what = f"roles.{old} and roles.{new} are two names of one role"
            problems.append(Problem(lines.get(("roles", old), 0), what, f"keep roles.{new}"))
            del roles[old]
            continue
        roles[new] = roles.pop(old)
        for key in [k for k in lines if k[:2] == ("roles", old)]:
            lines[("roles", new, *key[2:])] = lines.pop(key)
        notes.append(f"roles.{old} is read as roles.{new}")


def _tables(data: dict[str, Any], section: str) -> list[tuple[str, dict[str, Any]]]:
    entries = data.get(section)
    if not is_table(entries):
        return []
    return [(name, entry) for name, entry in entries.items() if is_table(entry)]
