"""Agents on several machines: each worker starts those of its own machine, and the driver needs none."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from cluster.cluster_kit import Builders, Site
from electrictown.work import Done, Failed
from fakes.postgres import PostgresCluster
from fakes.town_kit import serving

EXAMPLES = Path(__file__).parents[2] / "examples" / "agent"
TOWN = "\nagents:\n  builder: {command: [town-builder], slots: 2}\n"
BUILDER = f"""#!/usr/bin/env python3
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
import scribe

def work(folder, prompt):
    found = sorted(path.stem for path in folder.iterdir())
    name = prompt.split("## Your subtask")[1].split()[2]
    (folder / f"{{name}}.md").write_text(name)
    scribe.say(f"{{name}} upon {{found}}")

scribe.work = work
scribe.main()
"""


@pytest.fixture
def site(cluster: PostgresCluster, url: str, tmp_path: Path) -> Generator[Site]:
    town = Builders()
    with serving(town) as server:
        site = Site(tmp_path, cluster, url, town, server)
        yield site
        site.close()


def configure(site: Site) -> str:
    """Have an agent work all subtasks; the PATH of a machine that has its program."""
    site.configure(limit=2)
    file = site.folder / "electrictown.yaml"
    lines = [
        "  polecat: {agent: builder}" if line.startswith("  polecat:") else line
        for line in file.read_text().splitlines()
    ]
    file.write_text("\n".join(lines) + TOWN)
    programs = site.folder / "bin"
    programs.mkdir()
    (programs / "town-builder").write_text(BUILDER)
    (programs / "town-builder").chmod(0o755)
    return os.pathsep.join([str(programs), os.environ["PATH"]])


def test_a_worker_starts_the_agents_of_its_own_machine_and_they_are_on_the_bill(site: Site) -> None:
    path = configure(site)
    site.worker("north", PATH=path)
    site.here("north")
    report = site.run("--no-witness").report()
    assert {a.provider for r in report.results for a in r.attempts} == {"builder"}
    assert len(report.results) == 9
    assert (len(report.files), report.refused) == (8, ())  # two are about the garden
    said = {r.subtask: r.text.partition("\n")[0] for r in report.results if isinstance(r, Done)}
    assert said["t03"] == "roof upon ['foundation', 'walls']"
    assert said["t08"] == "garden upon ['garden', 'well']"
    (line,) = [line for line in report.costs["provider"] if line.name == "builder"]
    assert (line.requests, line.usd) == (9, None)
    assert site.query("SELECT 1 FROM electrictown.reserved") == []


def test_a_worker_without_the_program_says_which_it_is(site: Site) -> None:
    configure(site)
    site.worker("bare")
    site.here("bare")
    report = site.run("--no-witness").report(code=2)
    failed = report.results[0]
    assert isinstance(failed, Failed)
    assert failed.error.message.startswith("on worker bare")
    assert "there is no program 'town-builder' in PATH" in failed.error.message
