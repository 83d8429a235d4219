"""Leave to do things, and files through us: what the policy lets an agent do, and what nobody does."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from acp_kit import Heard, agent, answers, do, until

from electrictown.acp.policy import KINDS, Permissions, decide
from electrictown.engine.agents import Consent

ALLOWED = {"outcome": {"outcome": "selected", "optionId": "o-allow_once"}}
REJECTED = {"outcome": {"outcome": "selected", "optionId": "o-reject_once"}}
CANCELLED = {"outcome": {"outcome": "cancelled"}}


def call(kind: str | None = "edit", *paths: str, **more: object) -> dict[str, object]:
    return {
        "toolCallId": "1",
        "title": "it",
        "kind": kind,
        "locations": [{"path": path} for path in paths],
        **more,
    }


class Person:
    """A `Consent` that remembers what it was asked."""

    def __init__(self, *, allows: bool) -> None:
        self.allows = allows
        self.asked: list[str] = []

    async def __call__(self, words: str) -> bool:
        self.asked.append(words)
        await asyncio.sleep(0)
        return self.allows


async def asked(
    folder: Path,
    request: dict[str, object],
    consent: Consent | None = None,
    *kinds: str,
    **more: Any,  # noqa: ANN401  (any JSON)
) -> Any:  # noqa: ANN401
    """The answer to one permission request."""
    async with agent({"permissions": Permissions(**more)}).engage(folder, consent=consent) as fake:
        return answers(await do(fake, ["permission", request, *kinds]))[0]


# --- the policy by itself


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    work = tmp_path / "own"
    (work / "src").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (work / "way out").symlink_to(tmp_path / "elsewhere")
    (work / "way in").symlink_to(work / "src")
    (work / "file out").symlink_to(tmp_path / "elsewhere" / "new.txt")
    (work / "deep" / "er").mkdir(parents=True)
    (work / "far in").symlink_to(work / "deep" / "er")
    (work / "loop").symlink_to(work / "loop")
    (tmp_path / "alias").symlink_to(work)
    return work


INSIDE = [
    "{work}/a.txt",
    "{work}/src/../b",
    "a.txt",
    "{work}/way in/a",
    "{alias}/a.txt",
    "{work}/new/deep/a.txt",
    "{work}/..a",
    "{work}/way out/../own/a",
]
OUTSIDE = [
    "/etc/passwd",
    "{work}/../x",
    "{work}-2/x",
    "../x",
    "{work}/way out/x",
    "{work}/file out",
    "~/x",
    "~nobody-at-all/x",
    "{work}/loop/x",
    "{work}/far in/../../x",
    "{work}/\0",
]
GUARDED = [
    "{work}/.git/hooks/pre-commit",
    "{work}/src/.GIT/config",
    "{work}/electrictown.yaml",
    "{work}",
    ".",
]


def places(paths: list[str], folder: Path) -> list[str]:
    return [path.format(work=folder, alias=folder.parent / "alias") for path in paths]


def test_writing_inside_the_folder_is_allowed_and_outside_never(folder: Path) -> None:
    for kind in ("edit", "delete", "move"):
        for path in places(INSIDE, folder):
            assert decide(Permissions(), kind, [path], folder) == "allow", path
            assert decide(Permissions(), kind, [path], folder.parent / "alias") == "allow", path
        for path in places(OUTSIDE, folder):
            for permissions in (Permissions(), Permissions(edit="ask", delete="ask", move="ask")):
                assert decide(permissions, kind, [path], folder) == "deny", path
                assert decide(permissions, kind, [str(folder / "a"), path], folder) == "deny", path
        for path in places(GUARDED, folder):
            assert decide(Permissions(), kind, [path], folder) == "ask", path
        assert decide(Permissions(), kind, [], folder) == "ask"


def test_other_kinds_are_decided_wherever_they_are(folder: Path) -> None:
    allowed = {kind for kind in KINDS if decide(Permissions(), kind, ["/etc/passwd"], folder) == "allow"}
    assert allowed == {"read", "search", "think"}
    assert {
        decide(Permissions(), kind, [], folder)
        for kind in ("execute", "fetch", "other", "switch_mode", "", "read_")
    } == {"ask"}
    assert decide(Permissions(other="deny"), "of tomorrow", [], folder) == "deny"
    assert decide(Permissions(execute="allow"), "execute", [], folder) == "allow"


# --- requests


async def test_a_write_inside_is_allowed_once_and_one_outside_rejected(folder: Path) -> None:
    nobody = Person(allows=True)
    assert await asked(folder, call("edit", f"{folder}/a.txt"), nobody) == ALLOWED
    assert await asked(folder, call("edit", "/etc/passwd"), nobody) == REJECTED
    diff = [{"type": "diff", "path": "/etc/passwd", "oldText": "", "newText": ""}]
    assert await asked(folder, call("edit", f"{folder}/a.txt", content=diff), nobody) == REJECTED
    assert nobody.asked == []


async def test_commands_are_asked_about_and_denied_where_nobody_can_be(folder: Path) -> None:
    yes, no = Person(allows=True), Person(allows=False)
    assert await asked(folder, call("execute"), yes) == ALLOWED
    assert await asked(folder, call("execute"), no) == REJECTED
    assert await asked(folder, call("execute")) == REJECTED
    assert await asked(folder, call(None)) == REJECTED
    assert await asked(folder, call("execute"), None, execute="allow") == ALLOWED
    assert await asked(folder, call("read"), yes, read="deny") == REJECTED
    assert yes.asked == ["fake asks leave to run a command: it"]


async def test_a_question_shows_the_whole_command(folder: Path) -> None:
    person = Person(allows=False)
    command = "echo " + "x" * 300 + "; rm -rf /"
    await asked(folder, call("execute", title="Terminal", rawInput={"command": command}), person)
    await asked(folder, call("execute", title="Run", rawInput={"command": ["rm", "a b"]}), person)
    await asked(folder, call("other", title=None), person)
    assert person.asked[0].splitlines() == ["fake asks leave to run a command: Terminal", command]
    assert person.asked[1].splitlines()[1] == "rm 'a b'"
    assert person.asked[2] == "fake asks leave to use a tool: it does not say what"


async def test_for_good_is_chosen_only_where_there_is_no_once(folder: Path) -> None:
    inside = call("edit", f"{folder}/a.txt")
    assert await asked(folder, inside, None, "reject_once", "allow_always") == {
        "outcome": {"outcome": "selected", "optionId": "o-allow_always"}
    }
    assert await asked(folder, inside, None, "reject_once") == CANCELLED
    assert await asked(folder, call("execute"), None, "allow_once", "reject_always") == {
        "outcome": {"outcome": "selected", "optionId": "o-reject_always"}
    }
    assert await asked(folder, call("execute"), None, "allow_once", "allow_always") == CANCELLED


async def test_what_was_told_of_a_call_before_counts(folder: Path) -> None:
    """As agents do it: claude-code-acp and vibe ask with little more than the id."""
    told = {"sessionUpdate": "tool_call", **call("edit", "/etc/passwd")}
    empty = {
        "sessionUpdate": "tool_call",
        "toolCallId": "2",
        "title": "Write",
        "kind": "edit",
        "rawInput": {},
        "locations": [],
    }
    full = {
        **empty,
        "title": "Write a.txt",
        "rawInput": {"file_path": "a"},
        "locations": [{"path": f"{folder}/a.txt"}],
    }
    async with agent().engage(folder) as fake:
        reply = await do(
            fake,
            ["update", told],
            ["permission", {"toolCallId": "1"}],
            ["update", empty],
            ["update", full],
            ["permission", {"toolCallId": "2", "title": None, "kind": None}],
            ["permission", {"toolCallId": "3"}],
        )
        later = await do(fake, ["permission", {"toolCallId": "2"}])
    assert answers(reply) == [REJECTED, ALLOWED, REJECTED]
    assert answers(later) == [REJECTED]  # of an earlier turn nothing is known


async def test_an_id_that_is_used_again_is_another_call(folder: Path) -> None:
    """As agents do it whose models count their calls anew in each reply."""
    done = {"sessionUpdate": "tool_call_update", "toolCallId": "1", "status": "completed"}
    first = {"sessionUpdate": "tool_call", **call("edit", f"{folder}/a.txt")}
    bare = {"toolCallId": "1", "title": "Write", "kind": "edit"}
    heard = Heard()
    async with agent().engage(folder) as fake:
        again = await do(
            fake, ["update", first], ["update", done], ["permission", bare], ["update", first], emit=heard
        )
        other = await do(
            fake,
            ["update", first],
            ["update", {"sessionUpdate": "tool_call", **bare}],
            ["permission", {"toolCallId": "1"}],
        )
    assert answers(again) == answers(other) == [REJECTED]  # nothing says where it would write
    assert heard.notes == ["edit: it a.txt", "not allowed: edit: Write"]


async def test_what_is_not_allowed_is_told(folder: Path) -> None:
    heard = Heard()
    async with agent().engage(folder) as fake:
        await do(
            fake,
            ["permission", call("execute", title="rm -rf /")],
            ["permission", call("edit", f"{folder}/a", toolCallId="2")],
            emit=heard,
        )
    assert heard.notes == ["not allowed: execute: rm -rf /", "edit: it a"]


async def test_requests_that_make_no_sense_are_refused(folder: Path) -> None:
    async with agent().engage(folder) as fake:
        reply = await do(
            fake,
            ["request", "session/request_permission", {"options": []}],
            ["request", "terminal/create", {"command": "rm"}],
            ["request", "fs/write_text_file", {"path": 7, "content": ""}],
            [
                "request",
                "session/request_permission",
                {"toolCall": {"toolCallId": "1", "locations": "here"}, "options": []},
            ],
        )
    assert [answer["code"] for answer in answers(reply)] == [-32602, -32601, -32602, -32602]


async def test_a_cancelled_turn_answers_what_is_still_asked(folder: Path) -> None:
    asking = asyncio.Event()

    async def never(words: str) -> bool:
        asking.set()
        await asyncio.Event().wait()
        return True

    async with agent().engage(folder, consent=never) as fake:
        turn = asyncio.create_task(
            do(fake, ["permission", call("execute")], ["write", f"{folder}/answered", ""])
        )
        await asking.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert (folder / "answered").exists()
        assert (await do(fake, ["say", "and on"])).text == "and on"


async def test_outside_a_turn_nothing_is_allowed(folder: Path) -> None:
    (folder / "there.txt").write_text("x")
    requests = [
        {"method": "session/request_permission", "params": {"toolCall": call("read"), "options": []}},
        {"method": "fs/write_text_file", "params": {"path": f"{folder}/late.txt", "content": "x"}},
        {"method": "fs/read_text_file", "params": {"path": f"{folder}/there.txt"}},
    ]
    told = folder.parent / "told"
    async with agent().engage(folder) as fake:
        await do(fake, ["later", ["replay", requests, str(told)]])
        await asyncio.to_thread(until, lambda: told.exists() and told.read_text())
    permission, *files = json.loads(told.read_text())
    assert permission == CANCELLED
    assert [answer["code"] for answer in files] == [-32602, -32602]
    assert not (folder / "late.txt").exists()


async def test_a_question_that_nobody_can_read_is_cut(folder: Path) -> None:
    person = Person(allows=False)
    await asked(folder, call("execute", title="echo " + "x" * 5000), person)
    assert person.asked[0].endswith("\n... and 1039 characters more")


async def test_waiting_for_a_person_is_no_silence(folder: Path) -> None:
    async def slowly(words: str) -> bool:
        await asyncio.sleep(0.7)
        return True

    async with agent({"silence": 0.5}).engage(folder, consent=slowly) as fake:
        assert answers(await do(fake, ["permission", call("execute")])) == [ALLOWED]


async def test_a_person_who_cannot_be_asked_ends_the_turn(folder: Path) -> None:
    async def broken(words: str) -> bool:
        raise ZeroDivisionError

    async with agent().engage(folder, consent=broken) as fake:
        with pytest.raises(ZeroDivisionError):
            await do(fake, ["permission", call("execute")], ["hang"])


# --- files


def write(path: object, content: str = "new\n") -> list[object]:
    return ["request", "fs/write_text_file", {"path": str(path), "content": content}]


def read(path: object, **more: object) -> list[object]:
    return ["request", "fs/read_text_file", {"path": str(path), **more}]


async def test_files_are_written_whole_inside(folder: Path) -> None:
    script = folder / "run.sh"
    script.write_text("old")
    script.chmod(0o755)
    async with agent().engage(folder) as fake:
        reply = await do(
            fake,
            write(folder / "a.txt", "ü\r\n🏙"),
            write(folder / "deep/er/b.txt"),
            write(script),
            write(folder / "way in/c.txt"),
        )
    assert answers(reply) == [{}] * 4
    assert (folder / "a.txt").read_bytes() == "ü\r\n🏙".encode()
    assert script.stat().st_mode & 0o777 == 0o755
    assert {file.path for file in reply.files} == {"a.txt", "deep/er/b.txt", "run.sh", "src/c.txt"}


async def test_nothing_is_written_outside_or_over_what_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    elsewhere = folder.parent / "elsewhere"
    paths = [
        *places(OUTSIDE, folder),
        "a.txt",
        folder,
        folder / "src",
        folder / "pipe",
        folder / "src/" / ("n" * 300),
    ]
    person = Person(allows=True)
    async with agent().engage(folder, consent=person) as fake:
        reply = await do(fake, *(write(path) for path in paths))
    assert all("code" in answer for answer in answers(reply))
    assert (reply.files, list(elsewhere.iterdir()), (folder / "loop").is_symlink()) == ((), [], True)
    assert not (folder.parent / "x").exists()
    assert person.asked == [f"fake asks leave to write {folder}"]


async def test_what_is_guarded_is_written_only_with_leave(folder: Path) -> None:
    hook = folder / ".git/hooks/pre-commit"
    for consent, code in ((None, -32602), (Person(allows=False), -32602), (Person(allows=True), None)):
        async with agent().engage(folder, consent=consent) as fake:
            reply = await do(fake, write(hook))
        assert answers(reply)[0].get("code") == code
    assert hook.read_text() == "new\n"


async def test_leave_for_a_call_is_leave_for_its_file_in_that_turn(folder: Path) -> None:
    person = Person(allows=True)
    async with agent({"permissions": Permissions(edit="ask")}).engage(folder, consent=person) as fake:
        first = await do(fake, ["permission", call("edit", f"{folder}/a.txt")], write(folder / "a.txt"))
        person.allows = False
        second = await do(fake, write(folder / "a.txt", "again"))
    assert answers(first) == [ALLOWED, {}]
    assert answers(second)[0]["code"] == -32602
    assert len(person.asked) == 2
    async with agent({"permissions": Permissions(edit="deny")}).engage(folder) as fake:
        assert answers(await do(fake, write(folder / "b.txt")))[0]["code"] == -32602


async def test_regular_files_are_read_in_whole_or_in_part(folder: Path) -> None:
    (folder / "a.txt").write_text("one\ntwo\nthree\n")
    os.mkfifo(folder / "pipe")
    async with agent().engage(folder) as fake:
        reply = await do(
            fake,
            read(folder / "a.txt"),
            read(folder / "a.txt", line=2, limit=1),
            read(folder / "a.txt", line=3),
            read(folder / "none"),
            read(folder / "pipe"),
            read("/dev/zero"),
            read("a.txt"),
            read(folder),
        )
    *texts, _, _, _, _, _ = found = answers(reply)
    assert [text["content"] for text in texts] == ["one\ntwo\nthree\n", "two\n", "three\n"]
    assert [error["code"] for error in found[3:]] == [-32002, -32602, -32602, -32602, -32603]
    with (folder / "large").open("wb") as large:
        large.truncate((16 << 20) + 1)
    async with agent().engage(folder) as fake:
        assert "larger than 16 MiB" in answers(await do(fake, read(folder / "large")))[0]["message"]
    async with agent({"permissions": Permissions(read="deny")}).engage(folder) as fake:
        assert answers(await do(fake, read(folder / "a.txt")))[0]["code"] == -32602
