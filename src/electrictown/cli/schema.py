"""`et schema`: what electrictown.yaml may say, for editors."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("schema")
def command() -> None:
    """Print the JSON schema of electrictown.yaml.

    \b
    Editors complete and check with it:
      et schema > electrictown.schema.json
      # yaml-language-server: $schema=electrictown.schema.json
    """
    from electrictown.config.reference import json_schema

    click.echo(json_schema(), nl=False)
