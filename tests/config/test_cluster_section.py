"""`cluster:` names the database that several machines share."""

import pytest

from electrictown.config import parse_config
from electrictown.errors import ConfigError

BASE = """\
providers: {box: {type: ollama}}
models: {small: {provider: box, model: qwen3}}
roles: {mayor: {model: small}, polecat: {model: small}}
"""


def test_it_is_read_and_its_variable_resolved() -> None:
    config = parse_config(BASE + "cluster: {db: $DATABASE}\n", environ={"DATABASE": "postgresql://db/town"})
    assert config.cluster.db == "postgresql://db/town"
    assert not parse_config(BASE, environ={}).cluster.db


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cluster: {db: $DATABASE}", "$DATABASE, which is not set"),
        ("cluster: {db: mysql://db/town}", "no address of a PostgreSQL"),
        ("cluster: {url: postgresql://db/town}", "unknown key 'url'"),
        ("cluster: postgresql://db/town", "a mapping of `name: value` lines"),
    ],
)
def test_what_is_wrong_with_it_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"{BASE}{text}\n", environ={})
    assert said in str(caught.value)
    assert "electrictown.yaml:4:" in str(caught.value)


def test_a_look_at_the_configuration_only_notes_the_missing_variable() -> None:
    config = parse_config(BASE + "cluster: {db: $DATABASE}\n", environ={}, require_keys=False)
    assert any("$DATABASE" in note for note in config.notes)
