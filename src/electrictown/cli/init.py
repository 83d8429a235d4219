"""`et init`: write down what was found, to edit it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import click

__all__ = ["command"]


@click.command("init", short_help="Write an electrictown.yaml for what is found on this machine.")
@click.option(
    "--path",
    "-c",
    "--config",
    default="electrictown.yaml",
    show_default=True,
    metavar="FILE",
    help="Where to write.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def command(path: str, *, force: bool) -> None:
    """Write an electrictown.yaml for what is found on this machine.

    It holds the choice that `et run` makes without a file, with comments. Keys
    stay in the environment: the file names their variables.

    \b
      et init
      et doctor        does it work?
    """
    from electrictown.discovery import discover

    target = Path(path).expanduser()
    _refuse(target, force=force)
    found = asyncio.run(discover())
    _write(target, found.text, force=force)
    click.echo(f"wrote {target}: {found.why}")


def _refuse(target: Path, *, force: bool) -> None:
    from electrictown.errors import UsageError

    if target.is_dir():
        raise UsageError(
            f"{target} is a folder", hint=f"name the file: --path {target / 'electrictown.yaml'}"
        )
    if os.path.lexists(target) and not force:
        raise UsageError(
            f"{target} exists and stays as it is", hint="--force overwrites it, --path names another"
        )


def _write(target: Path, text: str, *, force: bool) -> None:
    """Write a new file, or with `force` replace one whole or not at all."""
    from electrictown.errors import UsageError

    try:
        if not force:
            with target.open("x", encoding="utf-8") as stream:
                stream.write(text)
            return
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".et-init-") as folder:
            draft = Path(folder, target.name)
            draft.write_text(text, encoding="utf-8")
            draft.replace(target)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror}", hint="--path names another place"
        ) from None
