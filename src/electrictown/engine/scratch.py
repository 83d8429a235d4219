"""The private folder that an agent works a subtask in: made for one attempt, and gone after it."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from electrictown.errors import WorkspaceError
from electrictown.events import Emit, Noted
from electrictown.journal.through import in_thread
from electrictown.work import File
from electrictown.workspace.folder import Folder, Refused

__all__ = ["scratch"]


@asynccontextmanager
async def scratch(files: Iterable[File], emit: Emit) -> AsyncGenerator[Path]:
    """A new folder with `files` in it, which nobody else may enter. It is removed on leaving, come what may.

    Raises:
        WorkspaceError: when it cannot be made.
    """
    import tempfile

    base = Path(await in_thread(tempfile.gettempdir))
    folder = base / f"et-{secrets.token_hex(16)}"
    try:
        try:
            await in_thread(partial(folder.mkdir, 0o700))
        except OSError as error:
            raise WorkspaceError(
                f"no folder can be made for the agent in {base}: {error.strerror or error}",
                "set TMPDIR to a folder that can be written to",
            ) from error
        place = Folder(folder)
        for file in files:
            laid = await place.write(file)
            if isinstance(laid, Refused):
                emit(Noted(text=f"the agent is not given {laid.path}: {laid.reason}", level="warning"))
        yield folder
    finally:
        if trouble := await in_thread(partial(_removed, folder)):
            emit(Noted(text=f"the agent's folder {folder} could not be removed: {trouble}", level="warning"))


def _removed(folder: Path) -> str:
    """Why `folder` is still there; "" when it is not."""
    import shutil

    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return ""
    except OSError:
        # A folder that may not be entered, or written to, is opened first.
        for at, names, _ in os.walk(folder):
            for path in (Path(at, name) for name in names):
                if not path.is_symlink():
                    path.chmod(0o700)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            return error.strerror or str(error)
    return ""
