"""The command table, and what becomes of an error: a message on stderr and the right exit code.

Every command is a module of this package that holds a click command named `command`. Help lists
them from the table below without importing any of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, TextIO

import click

from electrictown.cli.lazy import LazyGroup
from electrictown.cli.version import version, version_line
from electrictown.errors import ConfigError, ElectrictownError, UsageError

__all__ = ["app"]

_INTERRUPTED = 130
_GONE = ("loop", "rag")
"""Commands of the Go original that are not here: nothing that is here was meant."""


class _Commands(LazyGroup):
    """All of `et`."""

    prefix = "electrictown.cli."
    table: ClassVar[Mapping[str, str]] = {
        "run": "Turn a task into finished work.",
        "resume": "Go on with a run that did not end, or did not end well.",
        "runs": "List the runs: how they ended, what they cost.",
        "show": "Show all that is known of one run.",
        "log": "Print what happened in a run, line by line.",
        "cost": "Sum up what runs cost, by role, provider, model or run.",
        "cancel": "End a run that somebody drives, for good.",
        "replay": "Say what a run would have cost under another configuration.",
        "session": "Keep agents at work in terminals of their own, and talk to them.",
        "worker": "Work the subtasks of runs that others drive.",
        "init": "Write an electrictown.yaml for what is found on this machine.",
        "models": "List the models of all providers.",
        "nodes": "Show which hosts answer, what they hold, how fast they are.",
        "doctor": "Check python, tools, configuration, keys and every model of a role.",
        "config": "Show the configuration and where each value came from.",
        "schema": "Print the JSON schema of electrictown.yaml, for editors.",
        "debug": "Look into what a provider sent.",
        "version": "Print the version.",
    }

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _version if cmd_name == "version" else super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in _GONE:
            raise UsageError(
                f"the Go original's 'et {args[0]}' is not in this version",
                hint="see docs/migrating-from-go.md",
            )
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(version(), prog_name="et", message="%(prog)s %(version)s")
def _et() -> None:
    """A town of language-model agents: any model, any provider, any role.

    \b
    Start here:
      et run "implement binary search in Python"
      et init          write down what was found, to edit it
      et doctor        when something does not work
      et COMMAND -h    what a command can do
    """


@click.command("version", short_help="Print the version.")
def _version() -> None:
    """Print the version. It was written from git's tags when et was built."""
    click.echo(version_line())


def app(arguments: Sequence[str]) -> int:
    """Run the command line; the return value is the process's exit code."""
    try:
        code: Any = _et.main(list(arguments), prog_name="et", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as help_page:
        help_page.show(sys.stderr)
        code = help_page.exit_code
    except click.ClickException as problem:
        show_error(_mistyped(problem))
        code = problem.exit_code
    except ElectrictownError as error:
        show_error(error)
        code = error.exit_code
    except (BrokenPipeError, SystemExit):  # click makes the one into the other
        code = 0  # the reader went away: what it wanted is done
    except OSError as error:  # a full disk below stdout; every other one has become a typed error
        show_error(ElectrictownError(f"the output cannot be written: {error.strerror or error}"))
        code = 1
    _let_go(sys.stdout)
    _let_go(sys.stderr)
    return code if isinstance(code, int) else 0


def _mistyped(problem: click.ClickException) -> UsageError:
    """What click found wrong with the command line, said as everything else is."""
    context = problem.ctx if isinstance(problem, click.UsageError) else None
    message = problem.format_message()
    return UsageError(
        message[:1].lower() + message[1:], hint=f"see '{context.command_path if context else 'et'} --help'"
    )


def _let_go(stream: TextIO) -> None:
    """Write out what is left in `stream`; Python would complain at exit of a reader that went away."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def show_error(error: ElectrictownError) -> None:
    """Print `error` for a person, with every problem it carries and its hint, on stderr."""
    lines = [f"error: {error.message}"]
    if isinstance(error, ConfigError):
        lines += [f"  {problem}" for problem in error.problems]
    if error.hint:
        lines.append(f"  hint: {error.hint}")
    from electrictown.console.text import blocks

    with suppress(OSError):  # where stderr cannot be written the exit code has to do
        print(blocks("\n".join(lines)), file=sys.stderr)  # a host's or a model's words may be among them
