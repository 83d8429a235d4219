"""Agents in the file: entries and presets, who names them, what is wrong with them, and their secrets."""

import json
from pathlib import Path

import pytest

from electrictown.acp.policy import Permissions
from electrictown.acp.presets import PRESETS
from electrictown.config import Config, parse_config
from electrictown.config.snapshot import restore, snapshot
from electrictown.errors import ConfigError
from electrictown.redact import Secret, mask
from electrictown.wiring import agent_settings

BOX = """
providers:
  box: {type: ollama}
models:
  m: {provider: box, model: llama3}
  n: {provider: box, model: qwen3}
"""


def load(text: str, **environ: str) -> Config:
    return parse_config(text, "town.yaml", environ)


def problem(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    (only,) = caught.value.problems
    return only


def test_a_preset_needs_no_entry_and_no_provider() -> None:
    config = load("roles: {polecat: {agent: gemini}}\n", PATH="/bin", HOME="/home/ann")
    assert config.roles["polecat"].agent == "gemini"
    assert config.notes == ()
    settings = agent_settings(config, "gemini")
    assert settings.command == PRESETS["gemini"].command
    assert dict(settings.environ) == {"PATH": "/bin", "HOME": "/home/ann"}
    assert settings.install == PRESETS["gemini"].install
    assert settings.login == PRESETS["gemini"].login


def test_without_an_agent_a_file_still_needs_a_provider() -> None:
    assert "no providers are defined" in problem("agents: {mine: {command: [prog]}}\n")


def test_a_type_takes_a_presets_program_under_another_name() -> None:
    text = "agents: {careful: {type: opencode, env: {A: b}}}\nroles: {polecat: {agent: careful}}\n"
    settings = agent_settings(load(text), "careful")
    assert settings.name == "careful"
    assert settings.command == PRESETS["opencode"].command
    assert settings.mode == PRESETS["opencode"].mode
    environ = {k: v.reveal() if isinstance(v, Secret) else v for k, v in settings.environ.items()}
    assert environ == {**PRESETS["opencode"].environ, "A": "b"}


def test_a_presets_own_variables_reach_it_and_no_others_do() -> None:
    config = load("roles: {polecat: {agent: gemini}}\n", GEMINI_API_KEY="g-0123456789", OPENAI_API_KEY="o-0")
    environ = agent_settings(config, "gemini").environ
    assert environ["GEMINI_API_KEY"] == Secret("g-0123456789")
    assert "OPENAI_API_KEY" not in environ


def test_a_command_is_taken_as_it_stands_and_a_path_is_the_files_own() -> None:
    text = "agents: {mine: {command: %s, model: big, slots: 3}}\nroles: {polecat: {agent: mine}}\n"
    config = parse_config(text % '[./bin/agent, --say, "$HOME; rm -rf *"]', "/srv/town.yaml", {})
    settings = agent_settings(config, "mine")
    assert settings.command == ("/srv/bin/agent", "--say", "$HOME; rm -rf *")
    assert settings.model == "big"
    assert config.agents["mine"].slots == 3
    named = parse_config(text % "[agent]", "/srv/town.yaml", {})
    assert agent_settings(named, "mine").command == ("agent",)


def test_permissions_are_by_kind_and_write_is_three_of_them() -> None:
    text = (
        "agents: {gemini: {permissions: {write: deny, move: ask, execute: allow}}}\n"
        "roles: {polecat: {agent: gemini}}\n"
    )
    config = load(text)
    assert agent_settings(config, "gemini").permissions == Permissions(
        edit="deny", delete="deny", move="ask", execute="allow"
    )
    untouched = load("roles: {polecat: {agent: gemini}}\n")
    assert agent_settings(untouched, "gemini").permissions == Permissions()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("roles: {polecat: {agent: gemni}}", "town.yaml:7: the agent 'gemni' of roles.polecat is none under"),
        ("roles: {polecat: {agent: gemni}}", "did you mean 'gemini'?"),
        ("specialists: {go: {agent: mien}}\nagents: {mine: {command: [a]}}", "did you mean 'mine'?"),
        ("roles: {polecat: {agent: ''}}", "roles.polecat has no model"),
        ("agents: {mine: {}}", "town.yaml:7: agent 'mine' has no command; add command: [PROGRAM, ARGUMENT]"),
        ("agents: {mine: }", "agent 'mine' has no command"),
        ("agents: {mine: {command: []}}", "agent 'mine' has no command"),
        ("agents: {mine: {command: ['']}}", "the command of agent 'mine' names no program; name one"),
        ("agents: {mine: {command: prog --acp}}", "it should be a list, such as [one, two]"),
        ("agents: {mine: {type: claud-code}}", "unknown type 'claud-code'; did you mean 'claude-code'?"),
        ("agents: {'a/b': {command: [x]}}", "the agent name 'a/b' cannot be used"),
        ("agents: {gemini: {env: {A=B: c}}}", "'A=B' cannot be a variable of agent 'gemini'"),
        ("agents: {gemini: {permissions: {execute: maybe}}}", "one of: 'allow', 'deny' or 'ask'"),
        ("agents: {gemini: {permissions: {exec: allow}}}", "did you mean 'execute'?"),
        ("agents: {gemini: {slots: 0}}", "agents.gemini.slots is out of range"),
        ("agents: {gemini: {comand: [a]}}", "did you mean 'command'?"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, says: str) -> None:
    assert says in problem(BOX + text + "\n")


def test_models_of_the_same_entry_take_over_from_an_agent_and_those_of_the_defaults_do_not() -> None:
    config = load(BOX + "roles:\n  polecat: {agent: gemini, fallbacks: [m, n]}\ndefaults: {model: n}\n")
    polecat = config.roles["polecat"]
    assert (polecat.model, polecat.fallbacks) == ("m", ("n",))
    assert config.origins["roles.polecat.model"].where == "roles.polecat.fallbacks"
    alone = load(BOX + "roles:\n  polecat: {agent: gemini}\ndefaults: {model: n, fallbacks: [m]}\n")
    assert (alone.roles["polecat"].model, alone.roles["polecat"].fallbacks) == ("", ())


def test_an_agent_in_a_role_that_only_asks_is_noted_and_a_role_of_ones_own_keeps_it() -> None:
    config = load(
        BOX + "roles: {witness: {agent: gemini}, crew: {agent: gemini}}\ndefaults: {model: m}\n",
    )
    assert config.roles["witness"].model == "m"
    assert config.roles["crew"].agent == "gemini"
    assert config.notes == ("roles.witness.agent has no effect: m fills the role",)


def test_a_variable_that_is_not_set_is_an_error_for_an_agent_that_works_and_else_a_note() -> None:
    entry = "agents: {gemini: {env: {GEMINI_API_KEY: $MY_KEY}}}\n"
    used = BOX + entry + "roles: {polecat: {agent: gemini}}\n"
    assert "town.yaml:7: agent 'gemini' wants $MY_KEY, which is not set or empty; export" in problem(used)
    looked_at = parse_config(used, "town.yaml", {}, require_keys=False)
    assert looked_at.notes == ("agent 'gemini' wants $MY_KEY, which is not set or empty",)
    with pytest.raises(ConfigError, match=r"wants \$MY_KEY"):
        agent_settings(looked_at, "gemini")
    assert load(BOX + entry).notes == (
        "agent 'gemini' wants $MY_KEY, which is not set or empty; no role uses it",
    )
    environ = agent_settings(load(used, MY_KEY="k-0123456789"), "gemini").environ
    assert environ["GEMINI_API_KEY"] == Secret("k-0123456789")


def test_an_agent_that_nobody_knows_is_an_error_where_it_is_made() -> None:
    with pytest.raises(ConfigError) as caught:
        agent_settings(load(BOX), "opencod")
    assert "did you mean 'opencode'?" in str(caught.value)


ENVIRONED = (
    "agents: {gemini: {env: {GEMINI_API_KEY: lit-0123456789, STAGE: production, SEEN: $SEEN_TOKEN}}}\n"
    "roles: {polecat: {agent: gemini}}\n"
)


def test_values_of_its_environment_are_never_shown() -> None:
    config = load(ENVIRONED, SEEN_TOKEN="tok-0123456789")
    shown = json.dumps({name: [o.value, o.where] for name, o in config.origins.items()}) + repr(config)
    for value in ("lit-0123456789", "production", "tok-0123456789"):
        assert value not in shown
    assert config.origins["agents.gemini.env.SEEN"].where == "$SEEN_TOKEN (town.yaml:1)"
    # What is named like a secret is masked wherever it turns up; an ordinary word stays one.
    assert mask("lit-0123456789 tok-0123456789 in production") == "*** *** in production"


def test_what_the_journal_keeps_has_none_of_those_values_and_comes_back_with_them(tmp_path: Path) -> None:
    kept = snapshot(ENVIRONED)
    assert "lit-0123456789" not in kept
    assert "production" not in kept
    assert "$SEEN_TOKEN" in kept
    file = tmp_path / "town.yaml"
    file.write_text(ENVIRONED + "# changed since\n")
    environ = restore(kept, str(file), {"SEEN_TOKEN": "tok-0123456789"}).agents["gemini"].env
    assert {name: value.reveal() for name, value in environ.items()} == {
        "GEMINI_API_KEY": "lit-0123456789",
        "STAGE": "production",
        "SEEN": "tok-0123456789",
    }
