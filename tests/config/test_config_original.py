"""Files written for the Go original load unchanged, and its checks are kept."""

import re
from pathlib import Path

import pytest

from electrictown.config import Config, parse_config
from electrictown.errors import ConfigError

README = Path(__file__).parents[2] / ".." / "shared" / "spec" / "electrictown-go-readme.md"
KEYS = {
    "ANTHROPIC_API_KEY": "sk-ant-0123456789",
    "OPENAI_API_KEY": "sk-oai-0123456789",
    "OLLAMA_API_KEY": "oll-0123456789",
}

# The original's own sample, as its repository has it.
SAMPLE = """
providers:
  anthropic: {type: anthropic, base_url: "https://api.anthropic.com", api_key: $ANTHROPIC_API_KEY}
  openai: {type: openai, base_url: "https://api.openai.com/v1", api_key: $OPENAI_API_KEY}
  ollama-local: {type: ollama, base_url: "http://localhost:11434"}
  ollama-cloud: {type: ollama, base_url: "https://api.ollama.com", api_key: $OLLAMA_API_KEY}
models:
  claude-sonnet: {provider: anthropic, model: claude-sonnet-4-20250514}
  gpt4o: {provider: openai, model: gpt-4o}
  qwen-coder-local: {provider: ollama-local, model: "qwen3-coder:32b"}
  qwen-coder-cloud: {provider: ollama-cloud, model: "qwen3-coder:480b-cloud"}
  deepseek-local: {provider: ollama-local, model: "deepseek-coder-v2:16b"}
roles:
  mayor: {model: claude-sonnet, fallbacks: [gpt4o]}
  polecat: {model: qwen-coder-local, fallbacks: [qwen-coder-cloud, deepseek-local]}
  crew: {model: qwen-coder-local}
  witness: {model: deepseek-local}
  refinery: {model: claude-sonnet}
defaults: {model: qwen-coder-local, fallbacks: [qwen-coder-cloud], max_tokens: 4096, temperature: 0.0}
"""

OLLAMA = """
providers:
  box: {type: ollama}
models:
  m: {provider: box, model: llama3}
  n: {provider: box, model: qwen3}
"""


def load(text: str, **environ: str) -> Config:
    return parse_config(text, "town.yaml", environ)


def problems(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    assert caught.value.exit_code == 2
    for problem in caught.value.problems:
        assert re.match(r"town\.yaml(:\d+)?: .+; .+", problem), problem
    return "\n".join(caught.value.problems)


def test_the_originals_sample_loads() -> None:
    config = load(SAMPLE, **KEYS)
    assert config.roles["polecat"].fallbacks == ("qwen-coder-cloud", "deepseek-local")
    assert config.models["qwen-coder-cloud"].model == "qwen3-coder:480b-cloud"
    assert config.defaults.temperature == 0.0
    assert config.providers["anthropic"].api_key.reveal() == KEYS["ANTHROPIC_API_KEY"]
    assert config.key_source("anthropic") == "$ANTHROPIC_API_KEY"


@pytest.mark.skipif(not README.exists(), reason="the Go original's README is not beside the checkout")
def test_every_yaml_of_the_originals_readme_loads() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 6
    environ = {**KEYS, "OLLAMA_BEARER_TOKEN": "tok-0123456", "OLLAMA_BASIC_CREDS": "ann:open-sesame"}
    whole = next(block for block in blocks if "providers:" in block)
    assert load(whole, **environ).notes == ()
    for block in blocks:
        if block.startswith("ollama"):
            indented = "".join(f"  {line}\n" for line in block.splitlines())
            assert len(load(f"providers:\n{indented}", **environ).providers) == 1


def test_the_names_of_later_versions_are_understood() -> None:
    config = load(
        OLLAMA
        + """
roles:
  mayor: {agent: cc-mayor}
  polecat: {model: m, pool: [m, n, m]}
  reviewer: {model: m}
  tester: {model: n}
specialists:
  go: {model: n, description: Go code, pool: [m], fallbacks: [m]}
agents:
  cc-mayor: {type: claude-code, permission_mode: plan, env: {A: $UNSET_HERE}, allowed_tools: [Read]}
defaults: {model: m, log_dir: ~/logs, max_tokens: 0}
"""
    )
    assert set(config.roles) == {"mayor", "polecat", "witness", "refinery"}
    assert config.roles["mayor"].model == "m"
    assert config.roles["polecat"].pool == ("m", "n", "m")
    assert config.specialists["go"].description == "Go code"
    assert config.defaults.max_tokens is None
    said = "\n".join(config.notes)
    for word in ("agents", "roles.mayor.agent", "log_dir", "reviewer", "tester"):
        assert word in said
    assert config.origins["roles.witness.model"].where == "town.yaml:11"


def test_a_role_of_an_agent_alone_is_left_out_with_a_note() -> None:
    config = load(
        OLLAMA + "roles:\n  mayor: {agent: cc}\n  polecat: {model: m}\nagents: {cc: {type: codex}}\n"
    )
    assert set(config.roles) == {"polecat"}
    assert any("nobody fills the role" in note for note in config.notes)


@pytest.mark.parametrize("kind", ["groq", "mistral", "cerebras"])
def test_types_that_speak_openais_protocol_are_openai(kind: str) -> None:
    entry = f"providers:\n  x: {{type: {kind}, api_key: test-key, auth_type: bearer}}\n"
    config = load(entry + "models:\n  m: {provider: x, model: y}\nroles: {}\ndefaults: {model: m}\n")
    assert config.providers["x"].type == "openai"
    assert config.providers["x"].base_url.startswith(f"https://api.{kind}.")
    assert any(kind in note for note in config.notes)


def test_lmstudio_needs_no_key() -> None:
    config = load(
        "providers:\n  l: {type: lmstudio}\nmodels:\n  m: {provider: l, model: x}\ndefaults: {model: m}\n"
    )
    assert config.missing == {}


def test_unquoted_scalars_are_the_text_they_are() -> None:
    config = load(
        "providers:\n  on: {type: ollama, api_key: 190:20:30}\nmodels:\n  1: {provider: on, model: 4.10}\n"
    )
    assert config.models["1"].model == "4.10"
    assert config.models["1"].provider == "on"
    assert config.providers["on"].api_key.reveal() == "190:20:30"


def test_only_the_first_document_is_read() -> None:
    config = load("providers:\n  a: {type: ollama}\n---\nnonsense: true\n")
    assert any("first YAML document" in note for note in config.notes)


def test_anchors_and_merges_work() -> None:
    config = load("""
providers:
  a: &box {type: ollama, base_url: http://a:1, timeouts: {total: 9}}
  b: {<<: *box, base_url: http://b:1}
models:
  m: {provider: b, model: x}
""")
    assert config.providers["b"].base_url == "http://b:1"
    assert config.providers["b"].timeouts.total == 9


KEYLESS = "providers:\n  a: {type: ollama, %s}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("providers: {}\n", "no providers are defined"),
        ("models: {}\n", "no providers are defined"),
        ("providers:\n  a: {base_url: http://x}\n", "town.yaml:2: providers.a has no type"),
        ("providers:\n  a: {type: ''}\n", "'a' has an empty type"),
        ("providers:\n  a: {type: opnai}\n", "did you mean 'openai'?"),
        (OLLAMA.replace("provider: box, model: q", "provider: bx, model: q"), "did you mean 'box'?"),
        (OLLAMA.replace("model: qwen3", "model: ''"), "model 'n' has an empty model"),
        (OLLAMA + "roles:\n  mayor: {model: mm}\n", "town.yaml:8: the model 'mm' of roles.mayor"),
        (OLLAMA + "roles:\n  mayor: {model: ''}\n", "roles.mayor has an empty model"),
        (OLLAMA + "roles:\n  mayor: {}\n", "roles.mayor has no model"),
        (OLLAMA + "roles:\n  mayor:\n", "roles.mayor has no model"),
        (OLLAMA + "roles:\n  mayor: {model: m, fallbacks: [x]}\n", "the fallback 'x' of roles.mayor"),
        (OLLAMA + "roles:\n  mayor: {model: m, fallbacks: ['']}\n", "roles.mayor has an empty fallback"),
        (
            OLLAMA + "roles:\n  mayor: {model: m, fallbacks: [~]}\n",
            "roles.mayor.fallbacks.0 is of the wrong kind",
        ),
        (OLLAMA + "roles:\n  mayor: {model: m, fallbacks: [box/llama3]}\n", "same provider and model as 'm'"),
        (OLLAMA + "roles:\n  mayor: {model: m, fallbacks: [n, n]}\n", "same provider and model as 'n'"),
        (OLLAMA + "roles:\n  mayor: {model: m, pool: [m, k]}\n", "the pool member 'k' of roles.mayor"),
        (OLLAMA + "specialists:\n  go: {model: k}\n", "the model 'k' of specialists.go"),
        (OLLAMA + "specialists:\n  mayor: {model: m}\n", "specialist 'mayor' has the name of a role"),
        (OLLAMA + "defaults: {model: k}\n", "the model 'k' of defaults"),
        (OLLAMA + "defaults: {model: m, fallbacks: [k]}\n", "the fallback 'k' of defaults"),
        (OLLAMA + "roles: {witness: {model: m}, reviewer: {model: n}}\n", "two names of one role"),
        (KEYLESS % "auth_type: digest", "one of: 'bearer', 'basic' or 'none'"),
        (KEYLESS % "auth_type: basic, api_key: nocolonhere", "basic wants user:password"),
        (KEYLESS % "auth_type: basic", "auth_type basic but no api_key"),
        (KEYLESS % "auth_type: bearer, api_key: ''", "auth_type bearer but no api_key"),
    ],
)
def test_the_originals_checks_are_kept(text: str, says: str) -> None:
    assert says in problems(text)


def test_a_redundant_fallback_that_the_original_lets_pass_is_dropped_with_a_note() -> None:
    config = load(OLLAMA + "defaults: {model: m, fallbacks: [m, n, n]}\n")
    assert config.defaults.fallbacks == ("n",)
    assert sum("has no effect: it is the same as" in note for note in config.notes) == 2


def test_basic_credentials_are_checked_after_the_variable_is_resolved() -> None:
    entry = "providers:\n  a: {type: ollama, auth_type: basic, api_key: $CREDS}\n"
    assert "basic wants user:password" in problems(entry, CREDS="nocolonhere")
    assert load(entry, CREDS="ann:open-sesame").providers["a"].api_key.reveal() == "ann:open-sesame"


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_a_vendors_own_host_wants_a_key_where_a_role_uses_it(kind: str) -> None:
    text = f"providers:\n  v: {{type: {kind}}}\nmodels:\n  m: {{provider: v, model: x}}\n"
    assert f"{kind.upper()}_API_KEY" in problems(text + "roles: {mayor: {model: m}}\n")
    unused = load(text)
    assert unused.missing == {"v": ("",)}
    assert any("no role uses it" in note for note in unused.notes)
    elsewhere = text.replace(f"type: {kind}", f"type: {kind}, base_url: http://localhost:1")
    assert load(elsewhere + "roles: {mayor: {model: m}}\n").missing == {}
