"""What all checks of plain data stand on: the data, what reading it found, and a place for problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from electrictown.config.origin import Source
from electrictown.config.variables import Resolved
from electrictown.config.yaml_tree import Key, Problem, is_table, line_of

__all__ = ["Checking", "dotted", "export"]


class Checking:
    """Checks `data`, and appends what is wrong with it to `problems`."""

    def __init__(
        self, data: dict[str, Any], found: Resolved, source: Source, problems: list[Problem]
    ) -> None:
        self.data = data
        self.found = found
        self.source = source
        self._problems = problems

    def tables(self, section: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The entries of a section that are mappings, by name."""
        entries = self.data.get(section)
        for name, entry in entries.items() if is_table(entries) else ():
            if is_table(entry):
                yield name, entry

    def names(self, section: str) -> list[str]:
        """The names of a section's entries."""
        entries = self.data.get(section)
        return [*entries] if is_table(entries) else []

    def add(self, at: Key, what: str, remedy: str) -> None:
        """Something is wrong at `at`."""
        self._problems.append(Problem(line_of(at, self.source.lines), what, remedy))


def export(variable: str) -> str:
    """The remedy for a variable that is not set."""
    return f"export {variable}=..., or put it in a file for --env-file"


def dotted(at: Key) -> str:
    """The name of a place in the file."""
    return ".".join(str(step) for step in at)
