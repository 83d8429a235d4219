"""Waiting for something that must not be left half way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread", "through"]

T = TypeVar("T")


async def through(future: asyncio.Future[T]) -> T:
    """What `future` comes to. Who is cancelled meanwhile is cancelled when it is over, not before.

    Raises:
        CancelledError: when it was asked for meanwhile, whatever the future came to.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return future.result()
    if not future.cancelled():
        future.exception()  # it is known to who keeps the journal; here the cancellation counts
    raise cancelled


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` gives, done in a thread and never abandoned there."""
    return await through(asyncio.ensure_future(asyncio.to_thread(work)))
