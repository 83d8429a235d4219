"""The log of a session: every entry as it was, and nowhere a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from electrictown import redact
from electrictown.redact import Secret
from electrictown.sessions.log import LOG, Entry, Log, entries

SECRET = "sk-kept-to-itself-4711"


def kept(folder: Path, *told: Entry) -> list[Entry]:
    log = Log(folder)
    for entry in told:
        log(entry)
    log.close()
    return list(entries((folder / LOG).read_bytes()))


def test_a_secret_is_in_no_file_wherever_its_text_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redact, "_known", [])
    Secret(SECRET)
    text = f"the key is {SECRET}, s"
    for at in range(len(text)):
        folder = tmp_path / str(at)
        folder.mkdir()
        pieces = (Entry("text", piece, turn="m") for piece in (text[:at], text[at:]) if piece)
        shown = kept(folder, *pieces, Entry("end", turn="m", outcome="done"))
        assert "".join(entry.text for entry in shown) == "the key is ***, s"
        assert {(entry.kind, entry.turn) for entry in shown} == {("text", "m"), ("end", "m")}


def test_what_waits_is_written_in_its_place_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redact, "_known", [])
    Secret(SECRET)
    told = [Entry("text", "yes", turn="m"), Entry("note", "a note", turn="m"), Entry("text", "s", turn="m")]
    shown = [(entry.kind, entry.text) for entry in kept(tmp_path, *told)]
    assert shown == [("text", "ye"), ("text", "s"), ("note", "a note"), ("text", "s")]


@pytest.mark.parametrize(
    "entry",
    [
        Entry("said", "see http://a.example\nbob@b.example\tand more", turn="m", sender="send"),
        Entry("end", "no answer from http://a.example", turn="m", outcome="failed", model="qwen@ai01"),
    ],
)
def test_an_address_with_a_sign_of_a_name_after_it_stays_as_it_is(entry: Entry, tmp_path: Path) -> None:
    assert kept(tmp_path, entry) == [entry]
