"""Agents from elsewhere: every one that a role names is there, has a program, and has its variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from electrictown.config.checking import Checking, dotted, export
from electrictown.config.reading import suggest
from electrictown.config.yaml_tree import Data, Key, is_list, is_table

__all__ = ["AgentChecks", "engages"]


def engages(data: dict[str, Any]) -> bool:
    """Whether any role or specialist of `data` names an agent."""
    return next(_engaged(data), None) is not None


class AgentChecks(Checking):
    """The checks of `agents` and of whoever names one."""

    def all(self, *, require: bool) -> None:
        """Make them. Without `require` a variable that is not set is a note."""
        if not (engages(self.data) or self.names("agents")):
            return
        from electrictown.acp.presets import PRESETS

        known = [*dict.fromkeys((*self.names("agents"), *PRESETS))]
        engaged: set[str] = set()
        for at, name in _engaged(self.data):
            if not isinstance(name, str):
                continue
            if name in known:
                engaged.add(name)
            else:
                what = f"the agent {name!r} of {dotted(at[:-1])} is none under agents, and no preset"
                self.add(at, what, suggest(name, known))
        for name, entry in self.tables("agents"):
            self._program(name, entry, [*PRESETS])
            self._environment(name, entry)
            self._variables(name, engaged=name in engaged, require=require)

    def _program(self, name: str, entry: dict[str, Any], presets: list[str]) -> None:
        at: Key = ("agents", name)
        kind, command = entry.get("type"), entry.get("command")
        if not name.strip() or "/" in name:
            self.add(at, f"the agent name {name!r} cannot be used", "use letters, digits and dashes")
        if isinstance(kind, str) and kind not in presets:
            self.add((*at, "type"), f"agent {name!r} has the unknown type {kind!r}", suggest(kind, presets))
        elif not command and kind is None and name not in presets:
            remedy = f"add command: [PROGRAM, ARGUMENT], or type: one of {', '.join(presets)}"
            self.add(at, f"agent {name!r} has no command", remedy)
        if is_list(command) and command and not str(command[0]).strip():
            self.add((*at, "command"), f"the command of agent {name!r} names no program", "name one")

    def _environment(self, name: str, entry: dict[str, Any]) -> None:
        variables = entry.get("env")
        for variable in variables if is_table(variables) else ():
            if not variable or "=" in variable or "\0" in variable:
                what = f"{variable!r} cannot be a variable of agent {name!r}"
                self.add(("agents", name, "env", variable), what, "write NAME: value")

    def _variables(self, name: str, *, engaged: bool, require: bool) -> None:
        unset = {path: var for path, var in self.found.unset.items() if path[:2] == ("agents", name)}
        if unset:
            self.source.lacking[name] = tuple(f"${variable}" for variable in unset.values())
        for path, variable in unset.items():
            what = f"agent {name!r} wants ${variable}, which is not set or empty"
            if require and engaged:
                self.add(path, what, export(variable))
            else:
                self.source.notes.append(what if engaged else f"{what}; no role uses it")


def _engaged(data: dict[str, Any]) -> Iterator[tuple[Key, Data]]:
    """Where an agent is named, and what is said there."""
    for section in ("roles", "specialists"):
        entries = data.get(section)
        for name, entry in entries.items() if is_table(entries) else ():
            if is_table(entry) and entry.get("agent"):
                yield (section, name, "agent"), entry["agent"]
