"""The commands that look: models, nodes, doctor, config, schema, init, version, debug, help."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from cli_kit import Shell

from fakes.fake_server import FakeModel, Reply
from fakes.town_kit import serving
from scripts.cli_pages import COMMANDS

MODELS = (FakeModel(id="fake-0", context_window=4096, loaded=True), FakeModel(id="fake-chief"))


def two_providers(url: str, other: str) -> str:
    return (
        f"providers:\n  up: {{type: ollama, base_url: {url}}}\n  gone: {{type: openai, base_url: {other}}}\n"
        "models:\n  m: {provider: up, model: fake-0}\n"
        "roles:\n  polecat: {model: m}\n  mayor: {model: m}\n"
    )


NOBODY = "http://127.0.0.1:1"


def test_models_lists_a_provider_that_is_down_as_down(shell: Shell) -> None:
    with serving("x", models=MODELS) as server:
        shell.configure(two_providers(server.url, NOBODY))
        said = shell.et("models")
    rows = said.out.splitlines()
    assert rows[0].split() == ["provider", "model", "context", "alias", "or", "state"]
    assert rows[1].split()[:2] == ["up", "fake-0"]
    assert rows[2].split()[:2] == ["up", "fake-chief"]
    assert rows[3].startswith("gone")
    assert "down: " in rows[3]
    assert said.code == 0


def test_models_as_json_and_an_exit_code_when_nobody_answers(shell: Shell) -> None:
    with serving("x", models=MODELS) as server:
        shell.configure(two_providers(server.url, NOBODY))
        up, gone = shell.et("models", "--json").json
    assert (up["provider"], up["up"], [m["id"] for m in up["models"]]) == (
        "up",
        True,
        ["fake-0", "fake-chief"],
    )
    assert (gone["provider"], gone["up"], gone["models"]) == ("gone", False, [])
    assert gone["error"]["type"] == "ConnectError"
    shell.configure(two_providers(NOBODY, NOBODY))
    assert shell.et("models").code == 1


def test_models_asks_all_providers_at_once(shell: Shell) -> None:
    """Each answers only when all have been asked."""
    everybody = threading.Barrier(3, timeout=10)
    with serving("x") as one, serving("x") as two, serving("x") as three:
        for server in (one, two, three):
            server.on_request = lambda _: everybody.wait()  # type: ignore[assignment,return-value]
        urls = [one.url, two.url, three.url]
        entries = "".join(f"  p{i}: {{type: openai, base_url: {url}}}\n" for i, url in enumerate(urls))
        shell.configure(f"providers:\n{entries}defaults: {{model: p0/fake-model}}\n")
        said = shell.et("models", "--json")
    assert [entry["up"] for entry in said.json] == [True, True, True]


def test_a_wrong_key_is_shown_as_down_and_exits_with_4_when_nobody_else_answers(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_KEY", "the-wrong-key-2")
    with serving("x", auth="bearer right") as server:
        shell.configure(
            f"providers:\n  box: {{type: openai, base_url: {server.url}, api_key: $FLEET_KEY}}\n"
            "defaults: {model: box/m}\n"
        )
        said = shell.et("models")
    assert said.code == 4
    assert "down: " in said.out
    assert "the-wrong-key-2" not in said.all


def test_nodes_shows_version_loaded_models_latency_and_speed(shell: Shell) -> None:
    words = Reply(text=" ".join(map(str, range(20))), pause=0.004, output_tokens=20)
    with serving(words, models=MODELS, version="0.15.2") as server:
        shell.configure(two_providers(server.url, NOBODY))
        said = shell.et("nodes")
        up, gone = shell.et("nodes", "-json").json
        assert len(server.chats) == 2, "one short reply each time"
        free = shell.et("nodes", "--no-speed", "--json").json[0]
        assert len(server.chats) == 2
    assert said.code == 1, "one host is down"
    head, first, second = said.out.splitlines()
    assert head.split() == [
        "host",
        "state",
        "version",
        "latency",
        "models",
        "loaded",
        "tok/s",
        "measured",
        "on",
    ]
    assert first.split()[:3] == ["up", "up", "0.15.2"]
    assert "fake-0" in first
    assert second.split()[:2] == ["gone", "down:"]
    assert head.index("version") == first.index("0.15.2") < len(second) // 2, "a long reason moves no column"
    assert (up["host"], up["version"], up["models"], up["loaded"]) == ("up", "0.15.2", 2, ["fake-0"])
    assert up["measured_on"] == "fake-0"
    assert up["tokens_per_second"] > 0
    assert up["latency"] > 0
    assert (gone["up"], bool(gone["error"])) == (False, True)
    assert free["tokens_per_second"] is None


def test_doctor_probes_each_model_of_a_role_once_a_week(shell: Shell) -> None:
    calls = Reply(text="1 2 3", tool_calls=(("add", '{"a": 17, "b": 25}'),), pause=0.002)
    with serving(calls, models=MODELS) as server:
        shell.configure(two_providers(server.url, server.url))
        first = shell.et("doctor")
        asked = len(server.chats)
        second = shell.et("doctor")
        assert len(server.chats) == asked, "the second visit asks no model"
        third = shell.et("doctor", "--fresh")
        assert len(server.chats) == 2 * asked
        shell.et("doctor", "--fresh", "--no-probe")
        assert len(server.chats) == 2 * asked
    assert first.code == second.code == third.code == 0
    lines = first.out.splitlines()
    assert lines[0].startswith("ok    python: 3.")
    assert any(line.startswith("ok    config: ") for line in lines)
    assert "ok    provider up: answers, 2 models" in lines
    judged = next(line for line in lines if line.startswith("ok    model m: "))
    assert "streams, calls tools, window 4,096" in judged
    assert judged in second.out
    assert asked == 2, "one model of the two roles: a stream and a tool"


def test_doctor_names_what_is_wrong_and_what_to_do(shell: Shell) -> None:
    with serving("x", models=MODELS) as server:
        text = two_providers(server.url, NOBODY).replace(
            "model: fake-0}", "model: fake-0, context_window: 99999}"
        )
        shell.configure(text.replace("type: openai", "type: openai, api_key: $NO_SUCH_KEY"))
        said = shell.et("doctor")
        found = {f["what"]: f for f in shell.et("doctor", "--json").json}
    assert said.code == 4
    assert "fail  key of gone: $NO_SUCH_KEY is not set" in said.out.splitlines()
    assert "      -> export NO_SUCH_KEY=..." in said.out.splitlines()
    assert found["provider gone"]["state"] == "fail"
    assert found["model m"]["state"] == "warn"
    assert "lower context_window" in found["model m"]["remedy"]
    shell.configure("roles: {mayor: {modle: x}}\n")
    said = shell.et("doctor")
    assert said.code == 2
    assert "did you mean 'model'" in said.out


def test_doctor_tells_where_sessions_work_and_which_agents_are_there(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tmux", "goose"):
        program = shell.folder / name
        program.write_text("#!/bin/sh\necho tmux 3.5\n")
        program.chmod(0o755)
    shell.configure(
        "agents: {own: {command: [./goose]}, lost: {command: [nowhere]}}\n"
        "roles: {polecat: {agent: own}}\nspecialists: {ui: {description: pages, agent: opencode}}\n"
    )
    monkeypatch.setenv("PATH", str(shell.folder))
    said = shell.et("doctor")
    lines = said.out.splitlines()
    assert said.code == 2
    assert "ok    tmux: tmux 3.5" in lines
    assert "ok    sessions: --backend tmux, none; left out: tmux" in lines
    assert "ok    agents: goose" in lines
    assert "ok    agent own: its program is there" in lines
    assert "warn  agent lost: lost: there is no program 'nowhere' in PATH" in lines
    assert "fail  agent opencode: opencode: there is no program 'opencode' in PATH" in lines
    assert "      -> npm install -g opencode-ai" in lines
    monkeypatch.setenv("PATH", str(shell.home))
    told = shell.et("doctor").out
    assert "ok    sessions: --backend none; left out: none\n" in told
    assert "ok    agents: none is installed of gemini, opencode, " in told


def test_config_shows_every_value_and_where_it_came_from(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_KEY", "sk-config-shows-stars")
    shell.configure(
        "providers:\n  cloud:\n    type: openai\n    api_key: $FLEET_KEY\n"
        "defaults:\n  model: cloud/gpt\n  temperature: 0.5\n"
    )
    said = shell.et("config")
    rows = {line.split()[0]: line.split()[1:] for line in said.out.splitlines()}
    assert rows["providers.cloud.type"] == ["openai", "electrictown.yaml:3"]
    assert rows["providers.cloud.api_key"] == ["***", "$FLEET_KEY", "(electrictown.yaml:4)"]
    assert rows["providers.cloud.timeouts.idle"] == ["60.0", "default"]
    assert rows["defaults.temperature"][-1] == "electrictown.yaml:7"
    told = shell.et("config", "--json")
    assert told.json["values"]["defaults.model"]["value"] == "cloud/gpt"
    assert "sk-config-shows-stars" not in said.all + told.all


def test_schema_is_the_one_in_the_docs_and_takes_the_sample(shell: Shell) -> None:
    said = shell.et("schema")
    docs = Path(__file__).parents[2] / "docs" / "electrictown.schema.json"
    assert said.code == 0
    assert said.out == docs.read_text()
    assert json.loads(said.out)["properties"]["roles"]


def test_init_writes_what_run_would_choose_and_never_overwrites(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-never-written")
    said = shell.et("init")
    assert said.code == 0
    assert said.out.startswith("wrote electrictown.yaml: $ANTHROPIC_API_KEY is set")
    text = (shell.folder / "electrictown.yaml").read_text()
    assert "sk-ant-never-written" not in text + said.all
    assert yaml.safe_load(text)["providers"]["anthropic"]["api_key"] == "$ANTHROPIC_API_KEY"
    assert shell.et("config").code == 0
    again = shell.et("init")
    assert again.code == 2
    assert "--force" in again.err
    assert (shell.folder / "electrictown.yaml").read_text() == text
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-written-either")
    assert shell.et("init", "--force").code == 0
    assert "openai" in (shell.folder / "electrictown.yaml").read_text()
    assert shell.et("init", "--path", "no/such/folder/x.yaml").code == 2
    assert shell.files() == ["electrictown.yaml"]


def test_init_writes_the_ollama_that_run_takes(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(
        "Done.", models=[FakeModel(id="qwen3-coder:7b"), FakeModel(id="nomic-embed-text")]
    ) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert shell.et("init").code == 0
        said = shell.et("run", "--json", "--no-witness", "build it")
        assert {seen.model for seen in server.chats} == {"qwen3-coder:7b"}
    assert said.code == 1 or said.report.text
    assert said.err.startswith("config: electrictown.yaml\n")


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version_is_one_line(shell: Shell, arguments: list[str]) -> None:
    said = shell.process(*arguments)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("et ")
    assert said.out.count("\n") == 1
    assert shell.et(*arguments).out == said.out


def test_the_script_et_is_the_program(shell: Shell) -> None:
    script = Path(sys.executable).with_name("et")
    if not script.exists():
        pytest.skip("the package is not installed with its script")
    said = subprocess.run([script, "version"], capture_output=True, text=True, check=True)
    assert said.stdout == shell.et("version").out


def test_decode_prints_what_our_wire_makes_of_an_exchange(shell: Shell) -> None:
    exchange = {
        "provider": "openai",
        "path": "/v1/chat/completions",
        "stream": False,
        "status": 200,
        "response_headers": {},
        "response_body": {
            "model": "m",
            "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        },
    }
    shell.write("one.json", json.dumps(exchange))
    said = shell.et("debug", "decode", "one.json", "-", stdin=json.dumps(exchange))
    first, second = (json.loads(line) for line in said.out.splitlines())
    assert first == second
    assert (first["text"], first["finish_reason"], first["usage"]["input"]) == ("hi", "stop", 3)
    shell.write("bad.json", "{")
    said = shell.et("debug", "decode", "one.json", "bad.json")
    assert (said.code, said.out) == (2, "")
    assert "bad.json is not JSON" in said.err


def test_every_command_has_a_help_page(shell: Shell) -> None:
    whole = shell.et("--help").out
    for name in {command.split()[0] for command in COMMANDS if command}:
        assert f"\n  {name} " in whole
        said = shell.et(name, "--help")
        assert said.code == 0
        assert said.out.startswith(f"Usage: et {name}")
        assert shell.et(name, "-h").out == said.out
