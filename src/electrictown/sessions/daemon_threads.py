"""Calls that may never come back, made in a thread that no exit waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["in_daemon"]

T = TypeVar("T")


async def in_daemon(work: Callable[[], T]) -> T:
    """What `work` gives. Who is cancelled meanwhile leaves it behind, and so does a program that ends."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="in_daemon", daemon=True).start()
    return await asyncio.wrap_future(future)
