"""`et init`: write down what was found, to edit it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import click

__all__ = ["command"]


@click.command("init")
@click.option("--path", "-c", "--config", default="electrictown.yaml", metavar="FILE", help="Where to write.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def command(path: str, *, force: bool) -> None:
    """Write an electrictown.yaml for what is found on this machine.

    The same choice that `et run` makes without a file, with comments. Keys stay in the environment: the
    file names their variables.
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
    """Write `text` whole or not at all; without `force` never over a file that appeared meanwhile."""
    from electrictown.errors import UsageError

    temporary = ""
    try:
        with tempfile.NamedTemporaryFile("w", dir=target.parent, encoding="utf-8", delete=False) as stream:
            temporary = stream.name
            stream.write(text)
        Path(temporary).chmod(0o644)
        if force:
            Path(temporary).replace(target)
        else:
            os.link(temporary, target)
    except FileExistsError:
        raise UsageError(f"{target} exists and stays as it is", hint="--force overwrites it") from None
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror}", hint="--path names another place"
        ) from None
    finally:
        Path(temporary or os.devnull).unlink(missing_ok=True) if temporary else None
