"""The conversation as Markdown."""

from __future__ import annotations

from electrictown.redact import Secret
from electrictown.sessions.records import Said, Turn
from electrictown.sessions.transcript import transcript
from electrictown.work import Failure


def test_a_conversation_reads_as_markdown() -> None:
    failed = Failure("ServerError", "500 from\nthe host")
    assert transcript(
        [
            (Said("1", "How many?\n\n# really\n", "typed"), Turn("1", "done", "*Six*.\n", "qwen@ai01", 1.0)),
            (Said("2", "Draw it", "et-mayor-1"), Turn("2", "interrupted", "```\n/\\", "qwen@ai01")),
            (Said("3", "And?"), Turn("3", "failed", error=failed, files=("a.py", "b`c.py"))),
            (Said("4", "Well?"), None),
        ],
        "et-polecat-a3f2",
    ) == (
        "# et-polecat-a3f2\n\n"
        "## You\n\n> How many?\n>\n> # really\n\n"
        "## qwen@ai01\n\n*Six*.\n\n"
        "## et-mayor-1\n\n> Draw it\n\n"
        "## qwen@ai01\n\n```\n/\\\n```\n\n*Interrupted.*\n\n"
        "## You\n\n> And?\n\n"
        "## Reply\n\n*Failed: 500 from the host*\n\nFiles changed:\n\n* `a.py`\n* ``b`c.py``\n\n"
        "## You\n\n> Well?\n\n*Not answered yet.*\n"
    )


def test_a_block_of_code_that_is_closed_stays_as_it_is() -> None:
    for text in ("````\n```\n````", "~~~ x\n```\n~~~", "a ``` b", "``` a`b"):
        assert transcript([(Said("1", "x"), Turn("1", "done", text))]).endswith(f"\n\n{text}\n")


def test_no_secret_and_nothing_that_is_obeyed_is_in_it() -> None:
    Secret("sk-live-0123456789")
    evil = "\x1b[31m sk-live-0123456789 \x9b \u202e \u200f\u061c \r\x07"
    text = transcript([(Said("1", evil, evil), Turn("1", "done", evil, evil, files=(evil,)))], evil)

    assert "sk-live" not in text
    assert "␛[31m" in text
    assert not set(text) & set("\x1b\x9b\u202e\u200f\u061c\r\x07")
