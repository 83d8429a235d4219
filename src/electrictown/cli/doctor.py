"""`et doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Literal, get_args

import click
from msgspec import Struct

from electrictown.cli.setup import config_option, environment, settle
from electrictown.cli.tables import print_json
from electrictown.redact import mask

if TYPE_CHECKING:
    from electrictown.config import Config
    from electrictown.llm.probe import Probe, ProbeCache
    from electrictown.llm.routes import Target
    from electrictown.town import Town

__all__ = ["command"]

_PATIENCE = 20.0
_PROBE_PATIENCE = 180.0
_NEEDED = (3, 11)


class Finding(Struct, frozen=True, omit_defaults=True):
    """One line of the doctor: what was looked at, how it is, what to do about it."""

    what: str
    state: Literal["ok", "warn", "fail"]
    detail: str = ""
    remedy: str = ""
    exit_code: int = 1


@click.command(short_help="Check python, tools, configuration, keys and every model of a role.")
@config_option
@click.option("--no-probe", is_flag=True, help="Ask no model anything; a probe costs a few hundred tokens.")
@click.option("--fresh", is_flag=True, help="Probe again what was probed within a week.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(config: str | None, no_probe: bool, fresh: bool, as_json: bool) -> int:
    """Check python, git, tmux, agents, configuration and keys, ping providers, probe models.

    Every model of a role is probed: does it stream, does it call tools, how
    large is its context window really? The answers are remembered for a week.

    The exit code is 0 when nothing failed, 4 when a key is missing or wrong.
    """
    findings: list[Finding] = []

    async def examine() -> None:
        async for finding in _examine(config, probing=not no_probe, fresh=fresh):
            findings.append(finding)
            if not as_json:
                _say(finding)

    asyncio.run(examine())
    if as_json:
        print_json(findings)
    failed = [f.exit_code for f in findings if f.state == "fail"]
    return max(failed, default=0)


def _say(finding: Finding) -> None:
    click.echo(mask(f"{finding.state:4}  {finding.what}: {finding.detail}".rstrip(": ")))
    if finding.remedy:
        click.echo(mask(f"      -> {finding.remedy}"))


async def _examine(path: str | None, *, probing: bool, fresh: bool) -> AsyncGenerator[Finding]:
    from electrictown.errors import ElectrictownError

    yield _python()
    yield await _tool("git", "agents that edit repositories need it")
    yield await _tool("tmux", "without it sessions have no terminal")
    environ = environment()
    yield _backends(environ)
    yield _presets(environ)
    try:
        config = await settle(path, environ, quiet=True, require_keys=False)
    except ElectrictownError as error:
        problems = "".join(f"\n      {problem}" for problem in getattr(error, "problems", ()))
        yield Finding("config", "fail", f"{error.message}{problems}", error.hint, error.exit_code)
        return
    yield Finding("config", "ok", config.path if path or config.path else "what was found on this machine")
    for note in config.notes:
        yield Finding("config", "warn", note)
    for finding in (*_keys(config), *_agents(config)):
        yield finding
    async for finding in _town(config, environ, probing=probing, fresh=fresh):
        yield finding


async def _town(
    config: Config, environ: Mapping[str, str], *, probing: bool, fresh: bool
) -> AsyncGenerator[Finding]:
    from electrictown.llm.probe import ProbeCache
    from electrictown.town import Town

    async with Town.open(config) as town:
        up: set[str] = set()
        for finding in await asyncio.gather(*(_ping(town, name) for name in town.providers)):
            if finding.state == "ok":
                up.add(finding.what.removeprefix("provider "))
            yield finding
        if not probing:
            return
        cache = ProbeCache(environ)
        asked = {(t.provider, t.model): t for t in _targets(town) if t.provider in up}
        # A host is asked one thing at a time, or its speed would not be its own.
        by_host: dict[str, list[Target]] = {}
        for target in asked.values():
            by_host.setdefault(target.host, []).append(target)
        hosts = [_probe_host(town, targets, cache, fresh=fresh) for targets in by_host.values()]
        for found in await asyncio.gather(*hosts):
            for finding in found:
                yield finding
        try:
            await asyncio.to_thread(cache.save)
        except OSError as error:
            yield Finding("probe cache", "warn", f"{cache.path} cannot be written: {error.strerror}")


def _python() -> Finding:
    here = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= _NEEDED:
        return Finding("python", "ok", here)
    return Finding("python", "fail", here, f"install Python {'.'.join(map(str, _NEEDED))} or newer")


async def _tool(name: str, why: str) -> Finding:
    flag = "-V" if name == "tmux" else "--version"
    try:
        process = await asyncio.create_subprocess_exec(
            name,
            flag,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath)},  # and none of the keys
        )
    except OSError:
        return Finding(name, "warn", f"not found; {why}", f"install it, on Debian: apt-get install {name}")
    output, _ = await process.communicate()
    return Finding(name, "ok", output.decode(errors="replace").strip())


def _backends(environ: Mapping[str, str]) -> Finding:
    """Where sessions can work."""
    from contextlib import suppress

    from electrictown.errors import SessionError
    from electrictown.sessions.launcher import choose_backend
    from electrictown.sessions.records import BackendName

    found: list[str] = []
    for name in get_args(BackendName):
        with suppress(SessionError):  # it is not installed
            found.append(choose_backend(name, environ))
    return Finding(
        "sessions", "ok", f"--backend {', '.join(found)}; left out: {choose_backend(None, environ)}"
    )


def _presets(environ: Mapping[str, str]) -> Finding:
    """Which of the agents that need no entry are installed."""
    from electrictown.acp.presets import PRESETS

    path = environ.get("PATH", os.defpath)
    found = [name for name, preset in PRESETS.items() if shutil.which(preset.command[0], path=path)]
    return Finding("agents", "ok", ", ".join(found) or f"none is installed of {', '.join(PRESETS)}")


def _agents(config: Config) -> list[Finding]:
    """The agents that the configuration has, or a role names: is the program of each there?"""
    from electrictown.errors import ElectrictownError
    from electrictown.town import Town

    town, found = Town(config), list[Finding]()
    named = [entry.agent for entry in (*config.roles.values(), *config.specialists.values()) if entry.agent]
    for name in dict.fromkeys((*config.agents, *named)):
        try:
            town.agent(name).check()
        except ElectrictownError as error:
            state = "fail" if name in named else "warn"
            found.append(Finding(f"agent {name}", state, error.message, error.hint, error.exit_code))
        else:
            found.append(Finding(f"agent {name}", "ok", "its program is there"))
    return found


def _keys(config: Config) -> list[Finding]:
    found: list[Finding] = []
    for name, entry in config.providers.items():
        variables = config.missing.get(name)
        if variables is not None:
            wanted = ", ".join(variables) or "api_key"
            remedy = " ".join(f"export {v[1:]}=..." for v in variables if v) or "write api_key: $VARIABLE"
            found.append(Finding(f"key of {name}", "fail", f"{wanted} is not set", remedy, 4))
        elif entry.api_key:
            source = config.key_source(name) or "written in the file"
            found.append(Finding(f"key of {name}", "ok", source))
    return found


async def _ping(town: Town, name: str) -> Finding:
    from electrictown.console.text import count
    from electrictown.errors import ElectrictownError

    what = f"provider {name}"
    try:
        async with asyncio.timeout(_PATIENCE):
            models = await town.providers[name].list_models()
    except ElectrictownError as error:
        return Finding(what, "fail", error.message, error.hint, error.exit_code)
    except TimeoutError:
        return Finding(what, "fail", f"no answer within {_PATIENCE:g} s", "check base_url and the host")
    return Finding(what, "ok", f"answers, {count(len(models), 'model')}")


def _targets(town: Town) -> list[Target]:
    routes = [*town.routes.roles.values(), *town.specialists.values()]
    if town.routes.default is not None:
        routes.append(town.routes.default)
    return [t for route in routes for t in (*route.chain, *route.pool)]


async def _probe_host(town: Town, targets: list[Target], cache: ProbeCache, *, fresh: bool) -> list[Finding]:
    from electrictown.llm.probe import Probe, probe

    found: list[Finding] = []
    for target in targets:
        entry = town.config.providers[target.provider]
        key = f"{entry.type} {entry.base_url} {target.model}"
        known = None if fresh else cache.get(key)
        if known is None:
            try:
                async with asyncio.timeout(_PROBE_PATIENCE):
                    known = await probe(town.providers[target.provider], target.model)
            except TimeoutError:
                known = Probe(error=f"not done within {_PROBE_PATIENCE:g} s")
            cache.put(key, known)
        found.append(_judged(target, known))
    return found


def _judged(target: Target, found: Probe) -> Finding:
    what = f"model {target.label}"
    if found.error:
        return Finding(what, "fail", found.error, f"see `et models`; its id is {target.model!r}")
    window = target.context_window
    facts = [
        "streams" if found.streams else "does not stream",
        "calls tools" if found.tools else "does not call tools",
        f"window {found.context_window:,}" if found.context_window else "window not told",
    ]
    if found.tokens_per_second is not None:
        facts.append(f"{found.tokens_per_second:.0f} tok/s")
    detail = ", ".join(facts)
    if found.context_window and window and window > found.context_window:
        remedy = f"lower context_window or num_ctx: the host gives {found.context_window:,}"
        return Finding(what, "warn", f"{detail}; the configuration says {window:,}", remedy)
    return Finding(what, "ok", detail)
