"""Variables resolve at load, and no secret is ever shown."""

import json

import msgspec
import pytest

from electrictown.cli.app import app
from electrictown.config import Config, parse_config
from electrictown.errors import ConfigError
from electrictown.redact import Secret, mask

KEY = "sk-very-secret-0123456789"


def provider(fields: str, **environ: str) -> Config:
    return parse_config(f"providers:\n  a: {{type: ollama, {fields}}}\n", "town.yaml", environ)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$KEY", KEY),
        ("'${KEY}'", KEY),
        ("'user:${KEY}'", f"user:{KEY}"),
        ("'user:$KEY'", f"user:{KEY}"),
        ("'${KEY}${KEY}'", KEY + KEY),
        ("$lower", "little-word"),
        ("'u:pa$lower'", "u:pa$lower"),
        ("'u:${lower}'", "u:little-word"),
        ("'u:pa$$word'", "u:pa$$word"),
        ("'u:$$KEY'", "u:$KEY"),
        ("'u:$${KEY}'", "u:${KEY}"),
        ("'u:$KEYWORDs'", "u:$KEYWORDs"),
        ("plain", "plain"),
        ("'100$'", "100$"),
    ],
)
def test_variables_resolve_where_they_are_meant(value: str, expected: str) -> None:
    config = provider(f"api_key: {value}", KEY=KEY, lower="little-word")
    assert config.providers["a"].api_key.reveal() == expected


def test_variables_resolve_in_every_field_of_a_provider() -> None:
    config = provider(
        "base_url: 'http://${HOST}:1', org: $ORG, headers: {X-Team: $TEAM, Authorization: Token $TOKEN}",
        HOST="box", ORG="o-1", TEAM="red-team", TOKEN="wort-0987654321",
    )  # fmt: skip
    entry = config.providers["a"]
    assert (entry.base_url, entry.org) == ("http://box:1", "o-1")
    assert entry.headers == {"X-Team": "red-team", "Authorization": "Token wort-0987654321"}
    assert mask("it was wort-0987654321") == "it was ***"
    assert "${HOST}" in config.text


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}])
def test_an_unset_variable_names_the_provider_that_wanted_it(environ: dict[str, str]) -> None:
    text = "providers:\n  a:\n    type: ollama\n    api_key: $KEY\nmodels:\n  m: {provider: a, model: x}\n"
    unused = parse_config(text, "town.yaml", environ)
    assert unused.missing == {"a": ("$KEY",)}
    assert unused.notes == ("provider 'a' wants $KEY, which is not set or empty; no role uses it",)
    assert not unused.providers["a"].api_key
    for use in (
        "roles: {mayor: {model: m}}",
        "roles: {mayor: {model: a/other}}",
        "specialists: {s: {model: m}}",
        "defaults: {model: m}",
    ):
        with pytest.raises(ConfigError) as caught:
            parse_config(text + use, "town.yaml", environ)
        assert caught.value.problems == (
            "town.yaml:4: provider 'a' wants $KEY, which is not set or empty; "
            "export KEY=..., or put it in a file for --env-file",
        )
        assert (caught.value.file, caught.value.line) == ("town.yaml", 4)
        looked_at = parse_config(text + use, "town.yaml", environ, require_keys=False)
        assert looked_at.missing == {"a": ("$KEY",)}


def test_the_source_of_a_key_is_kept_and_its_value_is_not_shown() -> None:
    config = provider("api_key: $KEY", KEY=KEY)
    assert config.key_source("a") == "$KEY"
    origin = config.origins["providers.a.api_key"]
    assert (origin.value, origin.kind, origin.where) == ("***", "environment", "$KEY (town.yaml:2)")
    assert provider(f"api_key: {KEY}").key_source("a") == ""


SECRETIVE = [
    f"api_key: {KEY}",
    f"api_key: 'user:{KEY}', auth_type: basic",
    f"headers: {{X-Api-Key: {KEY}}}",
    f"headers: {{Authorization: Bearer {KEY}}}",
    "headers: {X-Team: $KEY}",
    f"base_url: 'http://user:{KEY}@box'",
    "base_url: 'http://user:${KEY}@box'",
]


@pytest.mark.parametrize("fields", SECRETIVE)
def test_secrets_are_never_in_repr_or_origins(fields: str) -> None:
    config = provider(fields, KEY=KEY)
    shown = mask(repr(config)) + repr(config.origins) + "".join(config.notes)
    assert KEY not in shown
    assert KEY not in mask(f"the server said {KEY}")


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("http://user:paßwort-1@box", "paßwort-1"),
        ("http://user:pass%2Fword-2@box", "pass/word-2"),
        ("http://user:pass%2Fword-3@box", "pass%2Fword-3"),
        ("http://a-token-for-user-4@box", "a-token-for-user-4"),
        ("https://box/v1?api-version=7&key=in-the-query-5", "in-the-query-5"),
        ("https://box/v1?access_token=in-the-query%206", "in-the-query 6"),
        ("https://box/v1?sig=7&X-Auth=in-the-${WHERE}-7", "in-the-variable-7"),
    ],
)
def test_what_opens_a_door_in_an_address_is_masked_wherever_it_is_repeated(address: str, secret: str) -> None:
    config = provider(f"base_url: '{address}'", WHERE="variable")
    assert mask(f"the server said {secret}") == "the server said ***"
    shown = str(config.origins["providers.a.base_url"].value)
    assert secret not in shown
    assert "//box" in shown or "@box" in shown


@pytest.mark.parametrize("fields", SECRETIVE)
def test_secrets_are_never_in_errors(fields: str) -> None:
    with pytest.raises(ConfigError) as caught:
        provider(f"{fields}, timeouts: 3, wrong: {KEY}, org: [{KEY}]", KEY=KEY)
    assert KEY not in str(caught.value) + "".join(caught.value.problems)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("fields", SECRETIVE)
@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_secrets_are_never_in_the_output_of_et_config(
    fields: str,
    arguments: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path_factory.mktemp("town") / "electrictown.yaml"
    path.write_text(f"providers:\n  a: {{type: ollama, {fields}}}\n")
    monkeypatch.setenv("KEY", KEY)
    code = app(["config", "-c", str(path), *arguments])
    told = "".join(capsys.readouterr())
    assert code == 0, told
    assert "providers.a.type" in told
    assert KEY not in told


def test_et_config_shows_where_each_value_came_from(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path_factory.mktemp("town")
    (folder / "t.yaml").write_text(
        "providers:\n  a:\n    type: openai\n    api_key: $ET_TEST_KEY\n"
        "models:\n  m: {provider: a, model: x}\nroles:\n  mayor: {model: m}\n"
    )
    (folder / "keys").write_text(f"ET_TEST_KEY={KEY}\n")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ET_TEST_KEY", raising=False)
    assert app(["config", "-c", "t.yaml"]) == 0
    assert "$ET_TEST_KEY, which is not set" in capsys.readouterr().err
    assert app(["config", "-c", "t.yaml", "--env-file", "keys", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)["values"]
    assert values["providers.a.type"] == {"value": "openai", "kind": "file", "where": "t.yaml:3"}
    assert values["providers.a.api_key"]["where"] == "$ET_TEST_KEY (t.yaml:4)"
    assert values["providers.a.timeouts.idle"] == {"value": 60.0, "kind": "default", "where": "default"}
    assert values["roles.mayor.model"]["where"] == "t.yaml:8"


def test_a_config_cannot_be_serialised_with_its_keys() -> None:
    config = provider(f"api_key: {KEY}")
    assert isinstance(config.providers["a"].api_key, Secret)
    assert KEY not in str(config.entries())
    with pytest.raises(TypeError):
        msgspec.json.encode(config)
