"""The nine things the Go original did wrong when it was run: none of them here."""

from __future__ import annotations

import re

import pytest
from cli_kit import Shell

from fakes.fake_server import Reply, Seen
from fakes.town_kit import FakeTown, by_host, serving, yaml_of

CHIEF = "{model: chief}"
ONE_AFTER_ANOTHER = "{model: m0, fallbacks: [m1]}"
VENDORS = ["openai", "anthropic", "gemini"]


def test_1_workers_that_all_answer_401_end_with_4_and_no_synthesis(shell: Shell) -> None:
    town = FakeTown()
    wrong = Reply(status=401, error="unauthorized")
    with serving(by_host({"h0": wrong, "h1": wrong}, town)) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "build it")
    assert (said.code, said.out) == (4, "")
    assert "AuthError" in said.err
    assert town.asked["synthesize"] == 0


def test_1_a_worker_that_is_asked_too_often_is_asked_again_or_another_is(shell: Shell) -> None:
    slow_down = Reply(status=429, error="slow down", headers=(("Retry-After", "0"),))
    first = iter([slow_down, slow_down])
    town = FakeTown(work=lambda seen: next(first, f"done by {seen.host.strip('/')}"))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "--no-synthesize", "build it")
    assert said.code == 0
    assert said.out.count("done by h") == 3
    assert "RateLimitError" in said.err


def test_2_a_list_without_numbers_is_a_plan(shell: Shell) -> None:
    town = FakeTown(plan="Sure! Here is what to do:\n\n- write the parser\n- write the printer\n\nGood luck!")
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "build it")
    assert (said.code, said.out) == (0, "The merged result.\n")
    assert "plan: 2 subtasks" in said.err
    assert town.asked["work"] == 2


def test_2_a_reply_that_holds_no_list_is_an_error_and_not_an_empty_success(shell: Shell) -> None:
    circle = "1. a [depends: 2]\n2. b [depends: 1]"
    town = FakeTown(plan=circle, repair=circle)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "build it")
    assert (said.code, said.out) == (1, "")
    assert "PlanError" in said.err


def test_3_a_file_outside_the_output_folder_is_never_written(shell: Shell) -> None:
    stubborn = "### FILE: ../../x\n````\nowned\n````\n"
    town = FakeTown(plan="1. the only part", work=stubborn)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "--output-dir", "a/b/out", "build it")
    assert shell.files() == ["electrictown.yaml"]
    assert not (shell.folder.parent / "x").exists()
    assert town.asked["work"] == 2, "the model is told once"
    assert "warning: refused ../../x from t01" in said.err


def test_4_two_workers_that_write_one_file_are_reported_and_neither_is_lost(shell: Shell) -> None:
    def worker(seen: Seen) -> str:
        mine = "1" if "## Your subtask\n\nwrite the parser" in seen.prompt else "2"
        return f"### FILE: same.py\n````python\nvalue = {mine}\n````"

    with serving(FakeTown(plan="1. write the parser\n2. write the printer", work=worker)) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "--json", "--output-dir", "out", "build it")
    written = (shell.folder / "out" / "same.py").read_text()
    assert written in ("value = 1\n", "value = 2\n")
    assert "warning: refused same.py from t0" in said.err
    assert len(said.report.refused) == 1
    replies = [attempt.reply for result in said.report.results for attempt in result.attempts]
    assert any("value = 1" in reply for reply in replies)
    assert any("value = 2" in reply for reply in replies)


def test_5_a_review_that_cannot_be_read_is_no_pass(shell: Shell) -> None:
    with serving(FakeTown(plan="1. the only part", review="I rather like it.")) as server:
        shell.configure(yaml_of(server.url, witness=CHIEF))
        said = shell.et("run", "build it")
    assert said.code == 1
    assert said.out == "The merged result.\n", "the work is handed over all the same"
    assert "t01 review: not passed, no score named" in said.err


def test_6_progress_is_told_by_subtask_and_never_on_a_piped_stdout(shell: Shell) -> None:
    """Two waves of the original: t03 and t04 build on t01 and t02."""
    plan = "1. one\n2. two\n3. three [depends: 1]\n4. four [depends: 2]"
    with serving(FakeTown(plan=plan)) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "build it")
    for number in range(1, 5):
        told = [line for line in said.err.splitlines() if re.match(rf"t0{number} (started|done)", line)]
        assert len(told) == 2, said.err
    assert said.out == "The merged result.\n"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said.all)


@pytest.mark.parametrize("type_", VENDORS)
def test_7_a_stream_without_its_terminal_event_is_not_an_answer(shell: Shell, type_: str) -> None:
    cut = Reply(text="half of the", terminal=False)
    whole = Reply(text="all of the answer")
    with serving(by_host({"h0": cut}, whole)) as server:
        shell.configure(yaml_of(server.url, type_=type_, polecat=ONE_AFTER_ANOTHER))
        said = shell.et("run", "build it")
    assert (said.code, said.out) == (0, "all of the answer\n")
    assert "IncompleteReplyError" in said.err


OVERFLOWS = {
    "anthropic": "prompt is too long: 210000 tokens > 200000 maximum",
    "gemini": "The input token count (1050000) exceeds the maximum number of tokens allowed (1048576).",
    "openai": "This model's maximum context length is 8192 tokens; your messages resulted in 9001.",
}


@pytest.mark.parametrize("type_", VENDORS)
def test_8_a_prompt_that_does_not_fit_falls_back(shell: Shell, type_: str) -> None:
    code = "context_length_exceeded" if type_ == "openai" else ""
    too_long = Reply(status=400, error=OVERFLOWS[type_], code=code)
    with serving(by_host({"h0": too_long}, "it fits here")) as server:
        shell.configure(yaml_of(server.url, type_=type_, polecat=ONE_AFTER_ANOTHER))
        said = shell.et("run", "build it")
    assert (said.code, said.out) == (0, "it fits here\n")
    assert "ContextWindowError" in said.err


LLAMA_SERVER = (
    b'{"error":{"code":400,"message":"request (4031 tokens) exceeds the available context size '
    b'(2048 tokens), try increasing it","type":"exceed_context_size_error",'
    b'"n_prompt_tokens":4031,"n_ctx":2048}}'
)


@pytest.mark.parametrize(
    ("type_", "reply"),
    [
        ("openai", Reply(status=400, body=LLAMA_SERVER)),
        ("anthropic", Reply(status=400, body=LLAMA_SERVER)),
        ("openai", Reply(body=b"")),
    ],
    ids=["llama-server", "its Anthropic route", "llama-cpp-python's empty stream"],
)
def test_8_the_overflow_of_servers_at_home_falls_back_too(shell: Shell, type_: str, reply: Reply) -> None:
    with serving(by_host({"h0": reply}, "it fits here")) as server:
        shell.configure(yaml_of(server.url, type_=type_, polecat=ONE_AFTER_ANOTHER))
        said = shell.et("run", "build it")
    assert (said.code, said.out) == (0, "it fits here\n")
    assert "polecat: m0 -> m1 (" in said.err


@pytest.mark.parametrize("type_", [*VENDORS, "ollama"])
def test_8_a_host_that_refuses_the_connection_falls_back(shell: Shell, type_: str) -> None:
    with serving("somebody is at home") as server:
        text = yaml_of(server.url, type_=type_, polecat=ONE_AFTER_ANOTHER)
        shell.configure(text.replace(f"{server.url}/h0", "http://127.0.0.1:1"))
        said = shell.et("run", "build it")
    assert (said.code, said.out) == (0, "somebody is at home\n")
    assert "ConnectError" in said.err


def test_9_geminis_key_is_never_in_an_address(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_KEY", "AIza-not-in-any-address")
    with serving("fine", auth="x-goog-api-key AIza-not-in-any-address") as server:
        text = yaml_of(server.url, type_="gemini", polecat="{model: m0}")
        shell.configure(text.replace("{type:", "{api_key: $FLEET_KEY, type:"))
        assert shell.et("run", "build it").code == 0
        assert shell.et("models").code == 0
        assert len(server.journal) == 4
        assert not [s for s in server.journal if "AIza" in s.path + s.query]


def test_9_the_total_counts_the_workers_tokens(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        shell.configure(yaml_of(server.url))
        report = shell.et("run", "--json", "build it").report
    assert report.total is not None
    assert report.total.tokens == sum(cost.tokens for cost in report.costs["role"]) == 6 * 18
    assert next(cost for cost in report.costs["role"] if cost.name == "polecat").tokens == 3 * 18


def test_9_models_shows_a_provider_that_fails(shell: Shell) -> None:
    with serving("x") as server:
        shell.configure(yaml_of(server.url).replace(f"{server.url}/h1", "http://127.0.0.1:1"))
        said = shell.et("models")
    rows = {line.split()[0]: line for line in said.out.splitlines()}
    assert "fake-model" in rows["h0"]
    assert "down: " in rows["h1"]
