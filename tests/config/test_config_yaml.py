"""Everything that can be wrong with a file is said at once, with its line, and nothing else is raised."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from electrictown.config import Config, find_config, load_config, load_env_file, parse_config
from electrictown.config.checks import BUILT_IN
from electrictown.config.yaml_tree import as_json, read_yaml
from electrictown.errors import ConfigError
from electrictown.llm.provider import provider_types

BASE = "providers:\n  box: {type: ollama}\nmodels:\n  m: {provider: box, model: x}\n"


def problems(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "town.yaml", {})
    assert caught.value.problems
    assert all(p.startswith("town.yaml") and "; " in p for p in caught.value.problems)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("providers:\n\tbox: 1\n", "town.yaml:2: not valid YAML at column 1"),
        ("providers:\n\tbox: 1\n", "YAML wants spaces"),
        ("a: b: c\n", "not valid YAML at column 5"),
        ("providers: [\n", "town.yaml:2: not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", "town.yaml:3: the key 'a' is given twice, first on line 1"),
        ("- providers\n", "town.yaml:1: the file is no mapping"),
        ("just words", "town.yaml:1: the file is no mapping"),
        ("a: \x07", "a character that YAML does not allow"),
        ("a: *b\n", "the alias *b has no anchor before it"),
        ("a: &a [*a]\n", "the alias *a has no anchor before it"),
        ("a: !!python/object/apply:os.system [id]\n", "the YAML tag"),
        ("[" * 100_000, "nested more than"),
        ("{a: " * 100_000, "nested more than"),
        ("- " * 100_000, "nested more than"),
        ("? [a]\n: b\n", "a key is not text"),
        ("a: &a 1\n<<: [*a]\n", "<< merges something that is not a mapping"),
        (BASE + "modles: {}\n", "town.yaml:5: unknown key 'modles' in the file; did you mean 'models'?"),
        (BASE.replace("type: ollama", "type: ollama, base_ulr: x"), "did you mean 'base_url'?"),
        (BASE.replace("type: ollama", "type: ollama, slots: 2"), "unknown key 'slots' in providers.box"),
        (BASE.replace("type: ollama", "type: ollama, timeouts: {idel: 2}"), "did you mean 'idle'?"),
        (BASE.replace("model: x", "model: x, price: {inptu: 2}"), "did you mean 'input'?"),
        (BASE.replace("model: x", "model: x, context: 2"), "did you mean 'context_window'?"),
        (BASE + "budget: {usd: 0}\n", "town.yaml:5: budget.usd is out of range; it should be more than 0"),
        (BASE + "budget: -1\n", "budget.usd is out of range; it should be more than 0"),
        (BASE + "budget: {usd: .inf}\n", "budget.usd is of the wrong kind; it should be a number"),
        (BASE + "budget: 10000000000\n", "budget.usd is out of range; it should be at most 1e+09"),
        (
            BASE + f"budget: {{tokens: {10**16}}}\n",
            "budget.tokens is out of range; it should be at most 1e+15",
        ),
        (BASE + "budget: {tokens: 0}\n", "budget.tokens is out of range; it should be at least 1"),
        (BASE + "budget: {tokens: 2.5}\n", "budget.tokens is of the wrong kind; it should be a whole"),
        (BASE + "budget: [3]\n", "budget is of the wrong kind; it should be a mapping"),
        (BASE + "budget: {per_subtask: none}\n", "budget.per_subtask.usd is of the wrong kind"),
        (BASE + "budget:\n  per_role:\n    mayr: 1\n", "town.yaml:7: budget.per_role has a cap for 'mayr'"),
        (BASE + "budget: {per_role: {mayr: 1}}\n", "which is no role; did you mean 'mayor'?"),
        (BASE + "budget: {per_role: {reviewer: 1}}\n", "which is no role; it is called 'witness'"),
        (
            BASE + "specialists: {sql: {model: m}}\nbudget: {per_role: {sql: 1}}\n",
            "which is no role; specialists spend as 'polecat'",
        ),
        (BASE + "budget: {per_role: {mayor: {usdd: 1}}}\n", "did you mean 'usd'?"),
        (BASE + "roles: {mayor: {model: m, fallback: [m]}}\n", "did you mean 'fallbacks'?"),
        (BASE + "roles: {mayor: {model: m, max_tokens: many}}\n", "it should be a whole number"),
        (BASE + "roles: {mayor: {model: m, max_tokens: -1}}\n", "it should be at least 1"),
        (BASE + "roles: {mayor: {model: m, temperature: 3}}\n", "it should be at most 2"),
        (BASE + "roles: {mayor: {model: m, temperature: .nan}}\n", "roles.mayor.temperature"),
        (BASE + "roles: {mayor: {model: m, fallbacks: m}}\n", "it should be a list"),
        (BASE + "roles: {mayor: m}\n", "it should be a mapping"),
        (BASE + "roles: [mayor]\n", "it should be a mapping"),
        (BASE.replace("model: x", "model: [x]"), "models.m.model is of the wrong kind; it should be text"),
        (BASE.replace("provider: box", "provider: [box]"), "models.m.provider is of the wrong kind"),
        (BASE.replace("type: ollama", "type: [ollama]"), "providers.box.type is of the wrong kind"),
        (BASE.replace("type: ollama", "type: ollama, api_key: [x]"), "providers.box.api_key is of the wrong"),
        (BASE.replace("type: ollama", "type: ollama, base_url: box:11434"), "write it as http://host:port"),
        (
            BASE.replace("type: ollama", "type: ollama, base_url: 'http://[::1'"),
            "write it as http://host:port",
        ),
        (BASE.replace("type: ollama", "type: ollama, base_url: 'http://h:99999'"), "write it as http://host"),
        (BASE.replace("box", "a/b"), "the provider name 'a/b' cannot be used"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_remedy(text: str, says: str) -> None:
    assert says in problems(text)


def test_a_budget_is_read_and_a_bare_number_is_dollars() -> None:
    text = """
budget:
  usd: 2.5
  tokens: 500000
  per_role: {mayor: 1.0, polecat: {usd: 2, tokens: 100000}, scribe: 0.5}
  per_subtask: 0.2
roles: {scribe: {model: m}}
"""
    budget = parse_config(BASE + text, "town.yaml", {}).budget
    assert (budget.usd, budget.tokens, budget.per_subtask.usd) == (2.5, 500_000, 0.2)
    assert {role: (cap.usd, cap.tokens) for role, cap in budget.per_role.items()} == {
        "mayor": (1.0, None),
        "polecat": (2.0, 100_000),
        "scribe": (0.5, None),
    }
    assert parse_config(BASE + "budget: 3\n", "town.yaml", {}).budget.usd == 3.0
    assert parse_config(BASE, "town.yaml", {}).budget.usd is None


def test_every_problem_comes_at_once_in_the_order_of_the_file() -> None:
    said = problems("""
providers:
  a: {type: opnai}
  b: {type: ollama, auth_type: basic}
models:
  m: {provider: c, model: ''}
roles:
  mayor: {model: n, temprature: 1}
extra: 1
""").splitlines()
    assert len(said) == 7
    lines = [int(problem.split(":")[1]) for problem in said]
    assert lines == sorted(lines)
    assert set(lines) == {3, 4, 6, 8, 9}


def test_a_bomb_of_aliases_is_refused() -> None:
    rows = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "write out to more than" in problems("\n".join(rows))


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**22),
    st.floats(),
    st.sampled_from(
        ["box", "m", "ollama", "openai", "anthropic", "basic", "bearer", "$KEY", "${KEY}", "", "groq"]
    ),
    st.text(max_size=8),
)
KEYS = """
    providers models roles specialists defaults agents box m type base_url api_key auth_type org headers api
    timeouts idle provider model pool fallbacks max_tokens temperature price input output options script
    description reviewer tester witness mayor log_dir agent num_ctx
    budget usd tokens per_role per_subtask
"""
NAMES = st.sampled_from(KEYS.split()) | st.text(max_size=4)
TREES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4)
)
SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        name: st.dictionaries(NAMES, st.dictionaries(NAMES, TREES, max_size=5) | TREES, max_size=3)
        for name in ("providers", "models", "roles", "specialists", "defaults", "agents")
    },
)


def accepts_or_explains(text: str) -> Config | None:
    try:
        return parse_config(text, "town.yaml", {"KEY": "a-key-of-some-length"})
    except ConfigError as error:
        said = [str(error), *error.problems]
        code = error.exit_code
    assert (code, len(said) > 1) == (2, True)
    assert "a-key-of-some-length" not in "".join(said)
    return None


@given(st.text())
@example("\ud800")
@example("%YAML 9.9\n---\na: 1")
@example("\ufeffproviders: {}")
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    accepts_or_explains(text)


@settings(max_examples=100)
@given(SECTIONS)
def test_any_tree_is_a_configuration_or_a_config_error(tree: dict[str, Any]) -> None:
    config = accepts_or_explains(yaml.safe_dump(tree, allow_unicode=True))
    if config is not None:
        assert config.origins


@given(st.text(alphabet="providers:modelsrole {}[]&*!|>-#'\"\n\t ,?%@`~<$", max_size=60))
def test_text_full_of_yamls_own_signs_is_read_or_explained(text: str) -> None:
    accepts_or_explains(text)


FIELD = st.text("abcdefgh-", min_size=1, max_size=8).filter(lambda s: s.strip("-"))


@st.composite
def valid(draw: st.DrawFn) -> dict[str, Any]:
    providers = draw(st.lists(FIELD, min_size=1, max_size=3, unique=True))
    aliases = draw(st.lists(FIELD, min_size=1, max_size=5, unique=True))
    models = {
        alias: {
            "provider": draw(st.sampled_from(providers)),
            "model": f"model-{i}",
            "max_in_flight": draw(st.integers(1, 9)),
            "temperature": draw(st.floats(0, 2)),
        }
        for i, alias in enumerate(aliases)
    }
    chain = draw(st.permutations(aliases))
    return {
        "providers": {
            name: {"type": "ollama", "timeouts": {"idle": draw(st.floats(0, 1e6))}} for name in providers
        },
        "models": models,
        "roles": {
            draw(FIELD): {
                "model": chain[0],
                "fallbacks": chain[1:],
                "pool": draw(st.lists(st.sampled_from(aliases), max_size=4)),
                "system_prompt": draw(st.text()),
            }
        },
        "defaults": {"model": chain[0], "max_tokens": draw(st.integers(1, 10**6))},
    }


@given(valid())
def test_a_written_configuration_reads_back_as_it_was(tree: dict[str, Any]) -> None:
    config = parse_config(yaml.safe_dump(tree), "town.yaml", {})
    for section in ("models", "roles"):
        for name, entry in tree[section].items():
            read = getattr(config, section)[name].entries()
            assert {key: list(v) if isinstance(v := read[key], tuple) else v for key in entry} == entry
    for name, entry in tree["providers"].items():
        assert config.providers[name].timeouts.idle == entry["timeouts"]["idle"]
    assert config.defaults.max_tokens == tree["defaults"]["max_tokens"]


def test_free_values_are_what_json_makes_of_them() -> None:
    tree = read_yaml("a: {b: 1, c: 1.5, d: true, e: ~, f: '1', g: [no, 1e3], h: 0x10}", [])
    assert as_json(tree.data)["a"] == {
        "b": 1, "c": 1.5, "d": True, "e": None, "f": "1", "g": ["no", 1000.0], "h": "0x10",
    }  # fmt: skip


def test_options_are_passed_as_they_are() -> None:
    config = parse_config(
        BASE.replace("model: x", "model: x, options: {top_k: 40, stop: [a], seed: ~}"), "f", {}
    )
    assert config.models["m"].options == {"top_k": 40, "stop": ["a"], "seed": None}


def test_a_built_in_type_keeps_its_own_keys() -> None:
    config = parse_config(
        "providers:\n  l: {type: local, slots: 2}\n  s:\n    type: scripted\n    script:\n"
        "      - reply: it costs $PRICE\n        latency: 0.5\n",
        "f",
        {},
    )
    assert config.providers["l"].extra == {"slots": 2}
    assert config.providers["s"].extra == {"script": [{"reply": "it costs $PRICE", "latency": 0.5}]}


def test_the_built_in_types_are_those_of_the_provider_room() -> None:
    ours = {name for name, target in provider_types().items() if target.startswith("electrictown.")}
    assert set(BUILT_IN) == ours


def test_a_third_partys_type_may_have_keys_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "providers:\n  x: {type: acme, region: eu, depth: 3, secret_word: $WORD}\n"
    assert "unknown type 'acme'" in problems(text)
    monkeypatch.setattr("electrictown.llm.provider.provider_types", lambda: {"acme": "acme:Acme"})
    config = parse_config(text, "f", {"WORD": "swordfish-1"})
    assert config.providers["x"].extra == {"region": "eu", "depth": 3, "secret_word": "swordfish-1"}


def test_a_role_without_a_model_takes_its_pools_first_or_that_of_the_defaults() -> None:
    text = BASE + "  n: {provider: box, model: y}\n"
    config = parse_config(
        text + "roles: {mayor: {}, polecat: {pool: [n]}}\ndefaults: {model: m, fallbacks: [n]}\n", "f", {}
    )
    assert (config.roles["mayor"].model, config.roles["mayor"].fallbacks) == ("m", ("n",))
    assert (config.roles["polecat"].model, config.roles["polecat"].fallbacks) == ("n", ())
    assert config.origins["roles.mayor.model"].where == "defaults.model"


def test_keys_without_effect_are_noted() -> None:
    config = parse_config(
        "providers:\n  a: {type: anthropic, base_url: http://x, auth_type: none, org: o, num_ctx: 3}\n",
        "f",
        {},
    )
    assert [note.split(" ")[0] for note in config.notes] == [
        "providers.a.auth_type",
        "providers.a.org",
        "providers.a.num_ctx",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfea\x00", "the file is not UTF-8 text"),
        (b"a: 1\nb: \xe9\n", ":2: the file is not UTF-8 text"),
        (b" " * (1 << 20) + b"a", "larger than a megabyte"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "electrictown.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert says in "\n".join([str(caught.value), *caught.value.problems])


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "electrictown.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    config = load_config(path, {})
    assert config.path == str(path)
    assert config.folder == str(tmp_path)
    assert config.text == BASE


@pytest.mark.parametrize("name", ["missing.yaml", ".", "missing/electrictown.yaml", "nul\0"])
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / name, {})
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_the_places_are_looked_at_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home, settings_folder = tmp_path / "here", tmp_path / "home", tmp_path / "xdg"
    environ = {"HOME": str(home), "XDG_CONFIG_HOME": str(settings_folder)}
    for folder in (here, home, settings_folder / "electrictown"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert find_config(None, environ) is None
    for folder, expected in (
        (settings_folder / "electrictown", settings_folder / "electrictown" / "electrictown.yaml"),
        (home, home / "electrictown.yaml"),
        (here, Path("electrictown.yaml")),
    ):
        (folder / "electrictown.yaml").write_text(BASE)
        assert find_config(None, environ) == expected
    assert find_config("other.yaml", environ) == Path("other.yaml")
    assert find_config("auto", environ) is None
    del environ["XDG_CONFIG_HOME"]
    (home / "electrictown.yaml").unlink()
    monkeypatch.chdir(home)
    assert find_config(None, environ) is None


def test_an_env_file_is_read_as_the_original_does(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(
        '# a comment\n\nA=1\n B = two words \nC=\'quoted\'\nD="x=y"\nnonsense\nexport E=5\nF="half\nG=\n'
    )
    expected = {"A": "1", "B": "two words", "C": "quoted", "D": "x=y", "E": "5", "F": '"half', "G": ""}
    assert load_env_file(path) == expected
    with pytest.raises(ConfigError):
        load_env_file(tmp_path / "none")
