"""Files are written whole, inside the folder, and nobody's work is lost."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from electrictown.errors import WorkspaceError
from electrictown.work import File
from electrictown.workspace import placing
from electrictown.workspace.folder import Folder, Refused, Written

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug


def tree(root: Path) -> dict[str, str]:
    """Everything under `root`: the text of files, and what else there is."""
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() and not path.is_symlink() else "-"
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }


async def refused(folder: Folder, path: str, subtask: str = "t01") -> str:
    answer = await folder.write(File(path, "new"), subtask)
    assert isinstance(answer, Refused)
    assert (answer.path, answer.subtask) == (path, subtask)
    return answer.reason


async def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out" / "deep")
    written = await folder.write(File("src/a/b.py", "x = 'é'\n"), "t01")
    assert written == Written("src/a/b.py", "t01", 9)
    assert tree(tmp_path) == {"out/deep/src/a/b.py": "x = 'é'\n"}
    assert await folder.write(File("./src//a/b.py", "x = 'é'\n"), "t01") == Written(
        "src/a/b.py", "t01", 9, unchanged=True
    )


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../x", "leads out"),
        ("../../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a/..", "leads out"),
        ("/etc/passwd", "absolute"),
        ("~/x", "absolute"),
        ("C:/x", "absolute"),
        ("c:x", "absolute"),
        ("", "empty"),
        ("  ", "empty"),
        (".", "no file"),
        ("./", "names a folder"),
        ("a/", "names a folder"),
        ("a\\..\\..\\x", "backslash"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x7f", "control"),
        ("a\u202etxt.py", "control"),
        ("\ud800", "control"),
        (".git/config", "git"),
        ("a/.GIT/hooks/pre-commit", "git"),
        (".git", "git"),
        ("git~1/config", "git"),
        (".git::$INDEX_ALLOCATION/config", "git"),
        ("electrictown.yaml", "configuration"),
        ("a/Electrictown.YAML", "configuration"),
        ("\N{FULLWIDTH FULL STOP}git/config", "git"),
        (".g\N{ZERO WIDTH JOINER}it/config", "control"),
        (".git /config", "space"),
        ("a.", "dot"),
        ("a /b", "space"),
        ("CON", "reserved"),
        ("a/nul.txt", "reserved"),
        ("\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}/x", "dot|no file name"),
        ("a\N{FULLWIDTH SOLIDUS}b", "no file name"),
        ("x" * 250, "too long"),
        ("/".join(["abcdefgh"] * 200), "too long"),
    ],
)
async def test_a_path_that_no_file_should_have_is_refused(tmp_path: Path, path: str, said: str) -> None:
    folder = Folder(tmp_path / "out")
    assert re.search(said, await refused(folder, path))
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    "path",
    [".gitignore", ".github/ci.yml", "a b.txt", "...x", "a..b", "naïve.py", "-rf", "connect.py", "日本.md"],
)
async def test_unusual_but_honest_names_are_written(tmp_path: Path, path: str) -> None:
    assert isinstance(await Folder(tmp_path).write(File(path, "x"), "t01"), Written)
    assert tree(tmp_path) == {path: "x"}


async def test_contents_that_are_no_text_are_refused(tmp_path: Path) -> None:
    answer = await Folder(tmp_path).write(File("a", "\ud800"), "t01")
    assert isinstance(answer, Refused)
    assert tree(tmp_path) == {}


async def test_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.py").write_text("kept")
    root = tmp_path / "out"
    root.mkdir()
    (root / "folder").symlink_to(outside)
    (root / "file.py").symlink_to(outside / "kept.py")
    (root / "dangling").symlink_to(outside / "new.py")
    (root / "inside").symlink_to(root)
    folder = Folder(root)
    assert "symbolic link" in await refused(folder, "folder/kept.py")
    assert "symbolic link" in await refused(folder, "folder/new/x.py")
    assert "symbolic link" in await refused(folder, "file.py")
    assert "symbolic link" in await refused(folder, "dangling")
    assert "symbolic link" in await refused(folder, "inside/x.py")
    assert tree(outside) == {"kept.py": "kept"}


async def test_the_folder_itself_may_be_a_link_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    await Folder(tmp_path / "out").write(File("a", "x"), "t01")
    assert tree(tmp_path / "real") == {"a": "x"}


async def test_a_link_that_appears_on_the_way_does_not_lead_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment between making a folder and entering it, and that before the file is moved."""
    outside, root = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    real_mkdir, real_replace = os.mkdir, os.replace

    def mkdir_then_swap(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real_mkdir(name, mode, dir_fd=dir_fd)
        if name == "a":
            os.rmdir(name, dir_fd=dir_fd)
            os.symlink(outside, name, dir_fd=dir_fd)

    folder = Folder(root)
    await folder.prepare()
    monkeypatch.setattr(placing.os, "mkdir", mkdir_then_swap)
    assert "symbolic link" in await refused(folder, "a/x.py")
    assert tree(outside) == {}
    monkeypatch.undo()

    def swap_then_replace(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        (root / "b").rename(root / "moved")
        (root / "b").symlink_to(outside)
        os.symlink(outside / "x.py", target, dir_fd=dst_dir_fd)
        real_replace(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(placing.os, "replace", swap_then_replace)
    await folder.write(File("b/x.py", "new"), "t01")
    assert tree(outside) == {}
    assert (root / "moved" / "x.py").read_text() == "new"


async def test_something_else_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    folder = Folder(tmp_path)
    assert "a folder is in its place" in await refused(folder, "folder")
    assert "'file' on its way is a file" in await refused(folder, "file/x.py")
    assert "device" in await refused(folder, "pipe")


async def test_two_workers_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    await folder.write(File("a.py", "one"), "t01")
    answer = await folder.write(File("a.py", "two"), "t02")
    assert answer == Refused(
        "a.py", "t01 has already written it with other contents; use another name", "t02"
    )
    assert "differs only in case" in await refused(folder, "A.py", "t02")
    assert tree(tmp_path) == {"a.py": "one"}
    assert await folder.write(File("a.py", "one"), "t02") == Written("a.py", "t02", 3, unchanged=True)
    assert "t02" in await refused(folder, "a.py", "t01")


async def test_a_worker_may_write_its_own_file_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    await folder.write(File("a.py", "one"), "t01")
    assert await folder.write(File("a.py", "better"), "t01") == Written("a.py", "t01", 6)
    assert tree(tmp_path) == {"a.py": "better"}


async def test_a_worker_may_replace_what_it_builds_upon(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    await folder.write(File("a.py", "one"), "t01")
    assert await folder.write(File("a.py", "more"), "t02", replacing=["t01"]) == Written("a.py", "t02", 4)
    assert "t02" in await refused(folder, "a.py", "t01")
    assert tree(tmp_path) == {"a.py": "more"}


async def test_collisions_are_seen_when_all_write_at_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    answers = await asyncio.gather(*(folder.write(File("a.py", f"by {n}"), f"t{n}") for n in range(20)))
    [winner] = [answer for answer in answers if isinstance(answer, Written)]
    assert tree(tmp_path) == {"a.py": f"by {winner.subtask[1:]}"}


async def test_a_file_from_before_the_run_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("the user's")
    (tmp_path / "same.py").write_text("same")
    (tmp_path / "a.py").chmod(0o750)
    first = Folder(tmp_path)
    assert await first.write(File("a.py", "one"), "t01") == Written("a.py", "t01", 3, kept="a.py.orig")
    assert await first.write(File("same.py", "same"), "t01") == Written("same.py", "t01", 4, unchanged=True)
    assert await first.write(File("a.py", "two"), "t01") == Written("a.py", "t01", 3)
    assert await Folder(tmp_path).write(File("a.py", "three"), "t01") == Written(
        "a.py", "t01", 5, kept="a.py.orig.2"
    )
    assert tree(tmp_path) == {
        "a.py": "three",
        "a.py.orig": "the user's",
        "a.py.orig.2": "two",
        "same.py": "same",
    }
    assert (tmp_path / "a.py").stat().st_mode & 0o777 == 0o750


async def test_what_somebody_changed_during_the_run_is_kept_as_well(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    await folder.write(File("d/a.py", "one"), "t01")
    (tmp_path / "d/a.py").write_text("the user's")
    assert await folder.write(File("d/a.py", "two"), "t01") == Written("d/a.py", "t01", 3, kept="d/a.py.orig")
    assert tree(tmp_path) == {"d/a.py": "two", "d/a.py.orig": "the user's"}


async def test_a_file_system_without_hard_links_keeps_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("the user's")
    (tmp_path / "a.py.orig").write_text("older still")
    monkeypatch.setattr(placing.os, "link", failing(errno.EPERM))
    written = await Folder(tmp_path).write(File("a.py", "one"), "t01")
    assert isinstance(written, Written)
    assert tree(tmp_path) == {"a.py": "one", "a.py.orig": "older still", "a.py.orig.2": "the user's"}


async def test_a_file_that_may_not_be_read_is_kept_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("one")
    monkeypatch.setattr(placing, "_reading", failing(errno.EACCES))  # permissions do not bind root
    written = await Folder(tmp_path).write(File("a.py", "one"), "t01")
    assert written == Written("a.py", "t01", 3, kept="a.py.orig")


async def test_there_is_an_end_to_keeping_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_MOST_COPIES", 2)
    (tmp_path / "a.py").write_text("old")
    (tmp_path / "a.py.orig").write_text("older")
    assert "copies of it already" in await refused(Folder(tmp_path), "a.py")
    assert tree(tmp_path) == {"a.py": "old", "a.py.orig": "older"}


def failing(code: int) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace", "fchmod", "link"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
async def test_a_failing_disk_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    (tmp_path / "a.py").write_text("old")
    monkeypatch.setattr(placing.os, call, failing(code))
    with pytest.raises(WorkspaceError) as caught:
        await Folder(tmp_path).write(File("a.py", "new"), "t01")
    assert caught.value.hint
    assert "a.py" in caught.value.message
    assert tree(tmp_path) == {"a.py": "old"}


async def test_a_name_the_file_system_does_not_take_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing.os, "replace", failing(errno.EINVAL))
    assert "does not take this name" in await refused(Folder(tmp_path), "ab:c.py")
    assert tree(tmp_path) == {}


async def test_a_folder_that_cannot_be_used_is_said_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WorkspaceError, match="cannot write") as caught:
            await Folder(root).prepare()
        assert "--output-dir" in caught.value.hint
    await Folder(tmp_path / "new").prepare()
    assert (tmp_path / "new").is_dir()
    assert tree(tmp_path / "new") == {}
    monkeypatch.setattr(placing.os, "open", failing(errno.EROFS))
    with pytest.raises(WorkspaceError, match="cannot write"):
        await Folder(tmp_path / "new").prepare()


async def test_a_folder_without_permission_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing.os, "open", failing(errno.EACCES))  # permissions do not bind root
    with pytest.raises(WorkspaceError, match="ermission") as caught:
        await Folder(tmp_path).write(File("a", "x"), "t01")
    assert "you may not write there" in caught.value.hint


def test_a_crash_before_the_move_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("old")
    program = textwrap.dedent("""
        import asyncio, os, sys
        from electrictown.work import File
        from electrictown.workspace import folder, placing
        placing.os.replace = lambda *_, **__: os._exit(9)
        asyncio.run(folder.Folder(sys.argv[1]).write(File("a.py", "new" * 100_000), "t01"))
    """)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == 9
    assert (tmp_path / "a.py").read_text() == "old"


async def test_a_cancelled_call_ends_when_its_file_is_whole(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    text = "x" * 1_000_000
    writing = asyncio.create_task(folder.write(File("a.py", text), "t01"))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert tree(tmp_path) == {"a.py": text}


steps = st.sampled_from(
    [
        "..",
        ".",
        "",
        "a",
        "b.py",
        "~",
        "C:",
        ".git",
        "link",
        "up",
        "\\",
        " ",
        "..\\..",
        "/",
        "\0",
        "...",
        "\u2024\u2024",
    ]
)


@calm
@given(st.lists(steps | st.text(max_size=3), max_size=6).map("/".join) | st.text(max_size=12))
def test_no_path_leads_out_of_the_folder(path: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name).resolve()
        (base / "outside").mkdir()
        root = base / "out"
        root.mkdir()
        (root / "link").symlink_to(base / "outside")
        (root / "up").symlink_to("..")
        answer = asyncio.run(Folder(root).write(File(path, "payload"), "t01"))
        files = {p for p in base.rglob("*") if p.is_file()}
        if isinstance(answer, Refused):
            assert not files
        else:
            assert files == {root / answer.path}
