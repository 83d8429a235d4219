"""When nothing more may be begun, what was paid for is handed over, and the rest comes another time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from electrictown.config import parse_config
from electrictown.engine.run import Run
from electrictown.engine.team import RunOptions
from electrictown.errors import StoppedError
from electrictown.journal.memory import MemoryJournal
from electrictown.town import Town
from electrictown.work import Done, Task
from fakes.fake_server import FakeServer, Seen
from fakes.town_kit import FakeTown, yaml_of

FILE = "### FILE: parse.py\n```python\ndef parse(): ...\n```\n"


def _stopping(run: list[Run], said: str) -> Callable[[Seen], str]:
    """Says `said`, after somebody wanted the run to stop."""

    def answer(_: Seen) -> str:
        run[-1].stop(StoppedError("interrupted"))
        return said

    return answer


@pytest.mark.parametrize("phase", ["work", "review"])
async def test_a_subtask_that_was_worked_is_handed_over_and_finished_later(
    phase: str, tmp_path: Path
) -> None:
    runs: list[Run] = []
    said = {"work": FILE, "review": '{"critique": "name it better", "score": 3}'}
    town = FakeTown(plan="1. write the parser", **said)
    town.answers[phase] = _stopping(runs, said[phase])
    journal = MemoryJournal("r1")
    options = RunOptions(output_dir=tmp_path, synthesize=False)
    async with FakeServer(reply=town) as server:
        config = parse_config(yaml_of(server.url, witness="{model: chief}"), environ={})
        async with Town.open(config) as here:
            runs.append(here.prepare(Task("build it"), options, journal=journal))
            report = await runs[-1].execute()
            assert (report.outcome, report.exit_code) == ("interrupted", 130)
            assert FILE.strip() in report.text
            assert isinstance(report.results[0], Done)
            assert not report.results[0].accepted
            assert (tmp_path / "parse.py").read_text() == "def parse(): ...\n"
            assert journal.recorded("t01.result", Done) is None, "it is not final"
            asked = town.asked["work"]

            town.answers["review"] = '{"critique": "fine", "score": 9}'
            town.answers["work"] = FILE.replace("parse()", "parse_text()")
            runs.append(here.prepare(Task("build it"), options, journal=journal))
            report = await runs[-1].execute()
    assert (report.outcome, report.exit_code) == ("done", 0)
    assert town.asked["work"] - asked == (phase == "review"), "the attempt is paid for once"
    assert town.asked["plan"] == 1
    ended = journal.recorded("t01.result", Done)
    assert ended is not None
    assert ended.accepted
