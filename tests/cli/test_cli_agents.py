"""Agents as `et` runs them: the page's example, real processes, refusals, and what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from cli.cli_kit import Shell, alive, finished, until
from electrictown.acp.policy import Permissions
from electrictown.acp.presets import PRESETS
from electrictown.config import parse_config
from electrictown.wiring import agent_settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text()
SCRIBE = ROOT / "examples" / "agent" / "scribe.py"
FAKE = ROOT / "tests" / "acp" / "fake_agent.py"

ENDLESS = """
import os, sys
from pathlib import Path
sys.path.insert(0, {examples!r})
import scribe

def work(folder, prompt):
    if Path({go!r}).exists():
        (folder / "done.md").write_text("done")
        return scribe.say("done")
    (folder / "half.md").write_text("half")
    Path({told!r} + ".new").write_text(f"{{os.getpid()}} {{folder}}")
    Path({told!r} + ".new").rename({told!r})
    next(line for line in sys.stdin if "session/cancel" in line)

scribe.work = work
scribe.main()
"""


def town(*command: str, more: str = "") -> str:
    words = json.dumps([*command])
    return f"agents:\n  mine: {{command: {words}{more}}}\nroles:\n  polecat: {{agent: mine}}\n"


def yaml_blocks() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


# --- the page


def test_the_example_of_the_page_runs_and_does_what_the_page_says(shell: Shell) -> None:
    _, example, _ = yaml_blocks()
    assert example == (ROOT / "examples" / "agent" / "town.yaml").read_text()
    (command,) = re.findall(r"^\$ et (run .*)$", PAGE, re.MULTILINE)
    (said,) = re.findall(r"^\$ et run .*\n(.*)$", PAGE, re.MULTILINE)
    options = command.split(" --config ")[0].split()
    path = ROOT / "examples" / "agent" / "town.yaml"
    done = shell.et(*options, "--config", str(path), "--output-dir", "out", "plan a picnic")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(said)
    assert shell.files("out") == ["out/asked.md"]
    assert "plan a picnic" in (shell.folder / "out" / "asked.md").read_text()


def test_the_configurations_of_the_page_load() -> None:
    whole, _, entries = yaml_blocks()
    assert parse_config(whole, environ={}).notes == ()
    config = parse_config(entries + whole, environ={"TEAM_KEY": "k-0123456789"})
    assert agent_settings(config, "careful").command == PRESETS["opencode"].command
    assert agent_settings(config, "own").command == ("my-agent", "--acp")
    assert config.agents["busy"].slots == 3


def test_the_page_names_every_preset_and_every_permission() -> None:
    for name, preset in PRESETS.items():
        assert f"| `{name}` | {preset.label}: `{' '.join(preset.command)}` |" in PAGE
        assert preset.login in PAGE
        assert preset.install in PAGE
    table = PAGE.split("| kind | left out |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        kinds, default = line.strip("| ").split(" | ")
        for kind in set(re.findall(r"`(\w+)`", kinds)) - {"write"}:
            assert default.startswith(f"`{getattr(Permissions(), kind)}`"), kind
    assert {*re.findall(r"`(\w+)`", table)} - {"write", "allow", "ask"} == {*Permissions.__struct_fields__}


# --- what is told of it


def test_what_it_did_is_in_the_report_and_in_the_bills(shell: Shell) -> None:
    shell.configure(town(str(SCRIBE)))
    report = shell.et("run", "--json", "--output-dir", "out", "build it").report
    assert (report.outcome, report.files) == ("done", ("asked.md",))
    assert report.total is not None
    assert report.total.usd is None
    bill = shell.et("cost", "--json")
    assert '"mine"' in bill.out
    shown = shell.et("show", "last")
    assert "t01  done   mine" in shown.out
    assert "unknown" in shown.out


def test_its_environment_holds_no_key_but_its_own_and_nothing_shows_it(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = shell.write(
        "spy.py",
        f"import os, sys\nsys.path.insert(0, {str(SCRIBE.parent)!r})\nimport scribe\n"
        "def work(folder, prompt):\n"
        "    (folder / 'environ.txt').write_text(repr(sorted(os.environ)))\n"
        "    assert os.environ['OWN_TOKEN'] == 'own-0123456789'\n"
        "    scribe.say('my token is ' + os.environ['OWN_TOKEN'])\n"
        "scribe.work = work\nscribe.main()\n",
    )
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    monkeypatch.setenv("MINE", "own-0123456789")
    shell.configure(town(sys.executable, str(spy), more=", env: {OWN_TOKEN: $MINE}"))
    done = shell.et("run", "--output-dir", "out", "build it")
    assert done.code == 0, done.all
    assert "my token is ***" in done.out
    seen = (shell.folder / "out" / "environ.txt").read_text()
    assert "OWN_TOKEN" in seen
    assert "OPENAI_API_KEY" not in seen
    everything = done.all + shell.et("config").all + shell.et("show", "last").all
    state = b"".join(path.read_bytes() for path in shell.home.rglob("*") if path.is_file())
    assert b"own-0123456789" not in everything.encode() + state


# --- refusals


def test_a_program_that_is_not_there_ends_it_before_it_begins(shell: Shell) -> None:
    shell.configure(
        "roles: {polecat: {agent: gemini}}\n" + "agents: {gemini: {command: [no-such-program]}}\n"
    )
    done = shell.et("run", "build it")
    assert done.code == 2
    assert "there is no program 'no-such-program' in PATH" in done.err
    assert PRESETS["gemini"].install in done.err
    assert shell.et("runs", "--json").json == []


def test_a_budget_that_could_not_hold_it_ends_it_before_it_begins(shell: Shell) -> None:
    shell.configure(town(str(SCRIBE)))
    done = shell.et("run", "--budget", "2.50", "build it")
    assert done.code == 2
    assert "there is a budget for the run, and it cannot hold what agents spend" in done.err
    assert "mine" in done.err
    assert "--budget none" in done.err
    assert shell.et("runs", "--json").json == []
    assert shell.et("run", "-q", "--budget", "none", "build it").code == 0
    assert shell.et("run", "-q", "--budget", "mayor=1", "build it").code == 0


def test_one_that_nobody_is_logged_in_to_says_so_with_the_exit_code_of_a_login(shell: Shell) -> None:
    shell.configure(town(sys.executable, "-u", str(FAKE), '{"login": true}', more=", type: gemini"))
    done = shell.et("run", "build it")
    assert done.code == 4
    assert PRESETS["gemini"].login in done.err


# --- ends


def endless(shell: Shell) -> tuple[Path, Path]:
    """An agent that tells of itself at the first path and works until it is cancelled; once the second is
    there, it is quick.
    """
    told, go = shell.folder / "told", shell.folder / "go"
    text = ENDLESS.format(examples=str(SCRIBE.parent), told=str(told), go=str(go))
    shell.configure(town(sys.executable, str(shell.write("endless.py", text))))
    return told, go


def test_cut_off_it_is_gone_with_its_folder_and_the_run_can_be_taken_up_again(shell: Shell) -> None:
    told, go = endless(shell)
    process = shell.start("run", "--output-dir", "out", "build it")
    until(told.exists)
    pid, folder = told.read_text().split(" ", 1)
    os.kill(process.pid, signal.SIGTERM)
    done = finished(process)
    assert done.code == 130, done.all
    assert not alive(int(pid))
    assert not Path(folder).exists()
    assert shell.files("out") == []
    go.touch()
    again = shell.et("resume", "last", "--json")
    assert again.code == 0, again.all
    assert again.report.total is not None
    assert (again.report.total.requests, again.report.total.partial) == (2, 1)
    assert shell.files("out") == ["out/done.md"]
