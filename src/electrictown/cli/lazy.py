"""Groups of commands whose modules are imported when one of them is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import ClassVar

import click

from electrictown.errors import UsageError

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """A group that lists its commands without importing any of them.

    `table` has what help says of each command. The module of a command is `prefix` and its name; it holds
    a click command named `command`. `aliases` are other names, which help does not list.
    """

    prefix: ClassVar[str]
    table: ClassVar[Mapping[str, str]]
    aliases: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command `cmd_name`, imported now."""
        name = self.aliases.get(cmd_name, cmd_name)
        if name not in self.table:
            return None
        command: click.Command = import_module(f"{self.prefix}{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Which command is meant.

        Raises:
            UsageError: when there is none of that name; a near one is named.
        """
        name = args[0]
        if not name.startswith("-") and name not in self.table and name not in self.aliases:
            from difflib import get_close_matches

            near = get_close_matches(name, self.table, n=1)
            path = ctx.command_path
            meant = f"did you mean '{path} {near[0]}'?" if near else f"see '{path} --help'"
            where = "" if ctx.parent is None else f" of '{path}'"
            raise UsageError(f"there is no command {name!r}{where}", hint=meant)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))
