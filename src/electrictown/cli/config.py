"""`et config`: every value of the configuration and where it came from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from electrictown.cli.setup import config_option, environment, settle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from electrictown.config import Config, Origin

__all__ = ["command"]


@click.command("config")
@config_option
@click.option("--env-file", metavar="FILE", help="KEY=VALUE lines to add to the environment.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def command(config: str | None, env_file: str | None, *, as_json: bool) -> None:
    """Show the configuration and where each value came from.

    A value comes from a line of the file, from a variable of the environment,
    or is the default. Keys and other secrets are shown as ***. A key that is
    missing is a note here, not an error.
    """
    from electrictown.redact import mask

    environ = environment(env_file)
    settled = asyncio.run(settle(config, environ, quiet=as_json, require_keys=False))
    show = _json if as_json else _lines
    click.echo(mask(show(settled, settled.origins)))


def _lines(_: Config, origins: Mapping[str, Origin]) -> str:
    shown = [(_plain(name), _plain(origin.value), origin.where) for name, origin in origins.items()]
    name_width = max(len(name) for name, _, _ in shown)
    value_width = min(40, max(len(value) for _, value, _ in shown))
    rows = [f"{name:{name_width}}  {value:{value_width}}  {where}" for name, value, where in shown]
    return "\n".join(rows)


def _plain(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)
    import msgspec

    return msgspec.json.encode(value).decode()


def _json(config: Config, origins: Mapping[str, Origin]) -> str:
    import msgspec

    whole = {"path": config.path, "notes": config.notes, "values": origins}
    return msgspec.json.format(msgspec.json.encode(whole)).decode()
