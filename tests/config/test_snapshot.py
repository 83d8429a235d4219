"""What the journal keeps of a configuration: enough to take a run up again, and no secret."""

from pathlib import Path

import pytest

from electrictown.config import load_config
from electrictown.config.snapshot import restore, snapshot
from electrictown.errors import ConfigError

TEXT = """\
# a comment that repeats sk-literal-key-123456
providers:
  cloud:
    type: openai
    api_key: sk-literal-key-123456
  gate:
    type: openai
    base_url: https://me:hunter2hunter2@gate.example/v1
    api_key: $GATE_KEY
    headers:
      X-Api-Token: "literal-token-654321"
  box:
    type: ollama
    base_url: http://localhost:11434
models:
  big: {provider: cloud, model: gpt-4.1}
roles:
  mayor: {model: big}
  polecat: {model: big}
"""
ENVIRON = {"GATE_KEY": "gate-key-from-environment"}
SECRETS = ("sk-literal-key-123456", "hunter2hunter2", "literal-token-654321", "gate-key-from-environment")


def _written(tmp_path: Path, text: str = TEXT) -> Path:
    file = tmp_path / "electrictown.yaml"
    file.write_text(text)
    return file


def test_holds_no_secret_and_keeps_variables_unresolved(tmp_path: Path) -> None:
    load_config(_written(tmp_path), ENVIRON)
    kept = snapshot(TEXT)
    for secret in SECRETS:
        assert secret not in kept
    assert "api_key: $GATE_KEY" in kept
    assert "api_key: $ELECTRICTOWN_CLOUD_API_KEY\n" in kept
    assert "base_url: http://localhost:11434" in kept
    assert kept.count("\n") == TEXT.count("\n")


def test_is_restored_from_the_file_while_it_is_the_same(tmp_path: Path) -> None:
    file = _written(tmp_path)
    config = restore(snapshot(TEXT), str(file), ENVIRON)
    assert config.providers["cloud"].api_key.reveal() == "sk-literal-key-123456"
    assert config.providers["gate"].headers["X-Api-Token"] == "literal-token-654321"
    assert config.folder == load_config(file, ENVIRON).folder


def test_is_restored_as_it_was_when_the_file_has_changed(tmp_path: Path) -> None:
    kept = snapshot(TEXT)
    file = _written(
        tmp_path, TEXT.replace("gpt-4.1", "gpt-5").replace("literal-key-123456", "new-key-777777")
    )
    config = restore(kept, str(file), ENVIRON)
    assert config.models["big"].model == "gpt-4.1"
    assert config.providers["cloud"].api_key.reveal() == "sk-new-key-777777"  # a key that was renewed


def test_wants_its_secrets_as_variables_when_the_file_is_gone() -> None:
    kept = snapshot(TEXT)
    with pytest.raises(ConfigError) as caught:
        restore(kept, "gone.yaml", ENVIRON)
    assert "ELECTRICTOWN_CLOUD_API_KEY" in str(caught.value)
    given = {
        **ENVIRON,
        "ELECTRICTOWN_CLOUD_API_KEY": "sk-given-888888",
        "ELECTRICTOWN_GATE_BASE_URL": "https://gate.example/v1",
        "ELECTRICTOWN_GATE_HEADERS_X_API_TOKEN": "token-given-1234",
    }
    config = restore(kept, "gone.yaml", given)
    assert config.providers["cloud"].api_key.reveal() == "sk-given-888888"


def test_a_text_that_is_no_yaml_is_kept_masked() -> None:
    assert snapshot("providers: [") == "providers: ["


def test_a_database_keeps_its_password() -> None:
    kept = snapshot(TEXT + "cluster: {db: 'postgresql://me:hunter3hunter3@db.example/town'}\n")
    assert "hunter3hunter3" not in kept
    assert "$ELECTRICTOWN_DB}" in kept


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("{type: openai, api_key: sk-literal-key}", "sk-literal-key"),
        ("{api_key: openai, type: openai}", "openai"),
        ("{api_key: sk-literal-key, type: openai}  # sk-literal-key", "sk-literal-key"),
        (r'{type: openai, api_key: "quo\"ted\\key"}', 'quo"ted\\key'),
        ("{type: openai, api_key: 'it''s-a-key'}", "it's-a-key"),
        ("\n    type: openai\n    api_key: >-\n      folded-\n      key\n    org: o", "folded- key"),
        ("\n    api_key: pa$$WORD-with-$dollars\n    type: openai", "pa$WORD-with-$dollars"),
        ("\n    <<: {api_key: sk-from-a-merge}\n    type: openai", "sk-from-a-merge"),
        ("{type: openai, org: é€😀, api_key: sk-after-wide-signs}", "sk-after-wide-signs"),
    ],
)
def test_a_key_is_taken_out_however_it_is_written(tmp_path: Path, entry: str, key: str) -> None:
    text = (
        f"providers:\n  cloud: {entry}\nroles:\n  mayor: {{model: cloud/m}}\n  polecat: {{model: cloud/m}}\n"
    )
    file = _written(tmp_path, text)
    assert load_config(file).providers["cloud"].api_key.reveal() == key
    kept = snapshot(text)
    assert kept.count("\n") == text.count("\n")
    assert key == "openai" or key not in kept
    for given in ({}, {"ELECTRICTOWN_CLOUD_API_KEY": key}):
        if given:
            file.unlink()
        else:
            file.write_text(text + "defaults: {max_tokens: 7}\n")
        config = restore(kept, str(file), given)
        assert config.providers["cloud"].api_key.reveal() == key
        assert config.providers["cloud"].type == "openai"
        assert config.defaults.max_tokens != 7
