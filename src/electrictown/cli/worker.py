"""`et worker`: this machine works subtasks of runs that others drive."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from electrictown.cli.journals import store_url
from electrictown.cli.setup import environment
from electrictown.errors import UsageError
from electrictown.redact import mask

if TYPE_CHECKING:
    from electrictown.engine.working import WorkerLoop
    from electrictown.events import Event
    from electrictown.workplace import Workplace

__all__ = ["command"]

_DB = "ELECTRICTOWN_DB"


class _Address(click.ParamType[tuple[str, int]]):
    """`127.0.0.1:9464`, or a port alone, which is this machine's own."""

    name = "address"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        found = re.fullmatch(r"(?:\[?([^\[\]]*?)\]?:)?(\d{1,5})", str(value).strip())
        if found is None or int(found[2]) > 65535:
            self.fail(f"{value!r} is no address; write 127.0.0.1:9464, or a port", param, ctx)
        return found[1] or "127.0.0.1", int(found[2])


class _Given(TypedDict):
    """What the command line says, by the names of the options below."""

    db: str | None
    name: str | None
    concurrency: int
    listen: tuple[str, int] | None
    heartbeat: float
    env_file: str | None


@click.command(short_help="Work the subtasks of runs that others drive.")
@click.option(
    "--db", metavar="URL", help=f"The PostgreSQL where all meet.  [default: ${_DB}, then cluster.db]"
)
@click.option("--name", metavar="NAME", help="What this worker is called.  [default: the machine's name]")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    metavar="N",
    default=4,
    show_default=True,
    help="Subtasks at once; hosts have limits of their own.",
)
@click.option("--listen", type=_Address(), metavar="ADDRESS", help="Serve /healthz and /metrics there.")
@click.option(
    "--heartbeat",
    type=click.FloatRange(0.2, 600),
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="A worker that is silent for two of them is given up.",
)
@click.option("--env-file", metavar="FILE", help="KEY=VALUE lines to add to the environment.")
def command(**given: Unpack[_Given]) -> int:
    """Work the subtasks of runs that others drive with `et run --db URL`.

    It needs the address of the database and the keys that the runs'
    configurations name as $VARIABLES; everything else comes with the run.

    \b
      et worker --db postgresql://et@db.lan/town
      et worker --listen 9464 --concurrency 8

    SIGTERM or Ctrl-C: it takes nothing new, finishes what it has, and ends. A
    second one lets go at once; others take the work up.
    """
    asyncio.run(_work(given))
    return 0


async def _work(given: _Given) -> None:
    from electrictown.engine.working import WorkerLoop
    from electrictown.journal.postgres import PostgresStore
    from electrictown.llm.postgres_slots import PostgresSlots
    from electrictown.workplace import Workplace

    environ = environment(given["env_file"])
    url = given["db"] or environ.get(_DB, "") or store_url(None, environ)
    if not url.startswith(("postgresql://", "postgres://")):
        raise UsageError(
            "a worker needs a PostgreSQL",
            f"et worker --db postgresql://user@host/database, or set ${_DB}",
        )
    name = given["name"] or socket.gethostname().partition(".")[0]
    async with AsyncExitStack() as stack:
        store = await PostgresStore.open(url, owner=f"{name}-{secrets.token_hex(3)}")
        stack.push_async_callback(store.aclose)
        slots = PostgresSlots(store.database, lambda error: loop.abandon(error))
        await stack.enter_async_context(slots)
        place = Workplace(environ, slots, _say)
        stack.push_async_callback(place.aclose)
        loop = WorkerLoop(
            store,
            place.perform,
            concurrency=given["concurrency"],
            heartbeat=given["heartbeat"],
            emit=_say,
        )
        if given["listen"] is not None:
            await stack.enter_async_context(_served(loop, place, *given["listen"]))
        _listen_for_signals(loop)
        _tell(f"worker {loop.worker} at {store.database.place}, {given['concurrency']} subtasks at once")
        await loop.run()
        _tell(f"worker {loop.worker} has ended")


def _listen_for_signals(loop: WorkerLoop) -> None:
    def end() -> None:
        if loop.state.draining:
            loop.stop()
        else:
            _tell(f"finishing {len(loop.state.running)} subtasks; once more lets go of them")
            loop.drain()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)


@asynccontextmanager
async def _served(loop: WorkerLoop, place: Workplace, host: str, port: int) -> AsyncGenerator[None]:
    """/healthz and /metrics, for as long as the worker works.

    Raises:
        UsageError: when the address cannot be listened at.
    """
    from aiohttp import web

    async def healthz(_: web.Request) -> web.Response:
        alive = loop.state.alive
        return web.Response(text="ok\n" if alive else "not alive\n", status=200 if alive else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=_exposed(loop, place), content_type="text/plain", charset="utf-8")

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise UsageError(
                f"cannot listen at {host}:{port}: {os.strerror(error.errno or 0)}", "choose another --listen"
            ) from None
        yield
    finally:
        await runner.cleanup()


def _exposed(loop: WorkerLoop, place: Workplace) -> str:
    """The state of the worker in Prometheus's text format."""
    state = loop.state
    figures = (
        ("alive", "gauge", "Whether the worker is known to live (1) or not (0).", int(state.alive)),
        ("draining", "gauge", "Whether the worker takes nothing new.", int(state.draining)),
        ("heartbeat_age_seconds", "gauge", "Seconds since the last heartbeat.", round(state.silent, 3)),
        ("subtasks_running", "gauge", "Subtasks that are being worked.", len(state.running)),
        ("subtasks_done_total", "counter", "Subtasks that were done.", state.done),
        ("subtasks_failed_total", "counter", "Subtasks that could not be done.", state.failed),
        ("subtasks_abandoned_total", "counter", "Subtasks that were let go of for others.", state.abandoned),
        ("requests_total", "counter", "Requests to models that have ended.", place.requests),
        ("tokens_total", "counter", "Tokens of these requests, in and out.", place.tokens),
        ("usd_total", "counter", "US dollars for these requests, where a price is known.", place.usd),
    )
    label = state.worker.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(
        f"# HELP et_worker_{name} {help_}\n# TYPE et_worker_{name} {kind}\n"
        f'et_worker_{name}{{worker="{label}"}} {value}\n'
        for name, kind, help_, value in figures
    )


def _say(event: Event) -> None:
    from electrictown.console.lines import Narrator

    for line in Narrator()(event):
        _tell(line.text)


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {mask(text)}", file=sys.stderr, flush=True)
