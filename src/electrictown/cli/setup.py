"""What every command that needs a configuration does first: find it, or look around."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

import click

from electrictown.errors import UsageError

if TYPE_CHECKING:
    from electrictown.config import Config

__all__ = ["Folder", "GoFlags", "Headed", "config_option", "environment", "settle"]


_GONE = {
    "--iterate": "nothing is built or tested here",
    "--max-iterations": "nothing is built or tested here",
    "--rag-url": "there is no rag here",
    "--rag-collection": "there is no rag here",
    "--rag-embed-url": "there is no rag here",
    "--rag-auto-ingest": "there is no rag here",
    "--jina-key": "no URLs are fetched here",
}
"""Flags of the Go original that are not in this version, and why."""


class Folder(click.Path):
    """A folder; an empty name, as a shell's unset variable leaves it, is not the working folder."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        """Read one."""
        if not str(value).strip():
            self.fail("it names no folder; write . for this one", param, ctx)
        return super().convert(value, param, ctx)


class Headed(click.Option):
    """An option that help lists under a heading of its own; subclasses say which."""

    heading: ClassVar[str] = "Options"


config_option = click.option(
    "--config",
    "-c",
    metavar="FILE",
    help="The configuration, or `auto` for what is found on this machine.  "
    "[default: ./electrictown.yaml, then your home folder's]",
)


class GoFlags(click.Command):
    """A command that takes its long options with one dash too (`-role mayor`), as Go's flag package does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line, each `-name` of a known option as `--name`."""
        known = {name for parameter in self.params for name in parameter.opts}
        read: list[str] = []
        for number, word in enumerate(args):
            if word == "--":
                read += args[number:]
                break
            name = f"-{word.partition('=')[0]}"
            self._refuse_gone(name.replace("---", "--"))
            read.append(f"-{word}" if len(word) > 2 and word[1] != "-" and name in known else word)
        return super().parse_args(ctx, read)

    def _refuse_gone(self, name: str) -> None:
        if name in _GONE:
            raise UsageError(
                f"the Go original's {name} is not in this version: {_GONE[name]}",
                hint="see docs/migrating-from-go.md",
            )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, in the order in which the headings first appear."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None and isinstance(option, click.Option):
                heading = option.heading if isinstance(option, Headed) else Headed.heading
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def environment(env_file: str | None = None) -> dict[str, str]:
    """The process's environment, with the KEY=VALUE lines of `env_file` added to it.

    Raises:
        ConfigError: when the file cannot be read.
    """
    environ = dict(os.environ)
    if env_file:
        from electrictown.config import load_env_file

        environ.update(load_env_file(env_file))
    return environ


async def settle(
    path: str | None, environ: Mapping[str, str], *, quiet: bool = False, require_keys: bool = True
) -> Config:
    """The configuration at `path` or where one is found, else what this machine offers; says which on stderr.

    Raises:
        ConfigError: when the file is wrong, or nothing was found at all.
    """
    from electrictown.config import find_config, load_config

    found = find_config(path, environ)
    if found is not None:
        config = load_config(found, environ, require_keys=require_keys)
        notes = (f"config: {found}", *config.notes)
    else:
        from electrictown.discovery import discover

        discovery = await discover(environ)
        config = discovery.config
        notes = (f"no electrictown.yaml: {discovery.why}",)
    if not quiet:
        with suppress(OSError):  # a full disk below stderr is no reason to do no work
            for note in notes:
                print(note, file=sys.stderr)
    return config
