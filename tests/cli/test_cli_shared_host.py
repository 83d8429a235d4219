"""Two runs at once on one machine: together they ask a host no more than it takes."""

from __future__ import annotations

from cli_kit import Shell, finished

from fakes.fake_server import Reply
from fakes.town_kit import FakeTown, serving, yaml_of


def test_two_runs_share_a_hosts_limit_however_each_names_it(shell: Shell) -> None:
    plan = "\n".join(f"{n}. write part {n}" for n in range(1, 7))
    town = FakeTown(plan=plan, work=Reply(text="def part(): ...", latency=0.1))
    with serving(town) as server:
        shell.write("one.yaml", yaml_of(server.url, pool=1))
        shell.write("other.yaml", yaml_of(server.url.replace("127.0.0.1", "localhost"), pool=1))
        runs = [shell.start("run", "--config", f"{name}.yaml", "build it") for name in ("one", "other")]
        said = [finished(run) for run in runs]
        assert [one.code for one in said] == [0, 0], [one.err for one in said]
        assert town.asked["work"] == 12
        assert server.max_in_flight["/h0"] == 1
