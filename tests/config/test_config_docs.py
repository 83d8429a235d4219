"""The sample, the reference and the schema belong together and to the code."""

import json
from pathlib import Path

import pytest

from electrictown.cli.app import app
from electrictown.config import load_config
from electrictown.config.reference import json_schema, main, markdown
from electrictown.errors import ConfigError

ROOT = Path(__file__).parents[2]
REMEDY = "run `python -m electrictown.config.reference`"
KEYS = {
    "ANTHROPIC_API_KEY": "sk-ant-0123456789",
    "OPENAI_API_KEY": "sk-oai-0123456789",
    "OLLAMA_API_KEY": "oll-0123456789",
}


def test_the_reference_is_up_to_date() -> None:
    sample = (ROOT / "electrictown.yaml").read_text()
    assert (ROOT / "docs" / "configuration.md").read_text() == markdown(sample), REMEDY


def test_the_schema_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert (ROOT / "docs" / "electrictown.schema.json").read_text() == json_schema(), REMEDY
    assert app(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json_schema())


def test_the_reference_writes_both_files(tmp_path: Path) -> None:
    (tmp_path / "electrictown.yaml").write_text("providers: {}\n")
    main(tmp_path)
    assert "providers: {}" in (tmp_path / "docs" / "configuration.md").read_text()
    assert (tmp_path / "docs" / "electrictown.schema.json").read_text() == json_schema()


def test_every_key_is_described_and_in_the_reference() -> None:
    reference = (ROOT / "docs" / "configuration.md").read_text()
    for name, part in json.loads(json_schema())["$defs"].items():
        for key, about in part["properties"].items():
            assert about.get("description"), f"{name}.{key}"
            assert f"{key}` |" in reference, f"{name}.{key}"


def test_the_sample_loads_when_its_variables_are_set() -> None:
    config = load_config(ROOT / "electrictown.yaml", KEYS)
    assert config.notes == ()
    assert set(config.roles) == {"mayor", "polecat", "witness", "refinery"}


def test_the_sample_says_what_is_missing() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(ROOT / "electrictown.yaml", {})
    assert [problem.split("wants ")[1].split(",")[0] for problem in caught.value.problems] == [
        "$ANTHROPIC_API_KEY",
        "$OPENAI_API_KEY",
        "$OLLAMA_API_KEY",
    ]


def test_the_migration_page_names_every_flag_of_the_original() -> None:
    page = (ROOT / "docs" / "migrating-from-go.md").read_text()
    flags = """config role no-synthesize no-reviewer no-tester iterate max-iterations max-subtasks timeout
    output-dir rag-url rag-collection rag-embed-url rag-auto-ingest jina-key no-coordinate guardrail-retries
    guardrail-threshold no-specialists env-file"""
    for flag in flags.split():
        assert f"--{flag}" in page
