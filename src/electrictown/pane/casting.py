"""Who answers in a session: what its record and the configuration say, found out before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from electrictown.errors import UsageError

if TYPE_CHECKING:
    from electrictown.budget.caps import Caps
    from electrictown.config import Config
    from electrictown.llm.routes import Route
    from electrictown.sessions.messages import Begin
    from electrictown.sessions.records import Record
    from electrictown.town import Town

__all__ = ["ROLES", "agent_of", "caps_of", "check", "configured", "role_of"]

ROLES = ("mayor", "polecat", "witness", "refinery")
"""Roles that the town knows by itself."""


def check(record: Record, begin: Begin) -> None:
    """See to it that the configuration has what the session of `record` needs.

    Where there is no file the machine is looked at for models when the session begins, and not twice.

    Raises:
        ConfigError, UsageError, AgentMissingError: for what is missing.
    """
    from electrictown.town import Town

    if begin.config is not None:
        from electrictown.config import load_config

        config = load_config(Path(begin.config), begin.environ)
    else:
        config = _without_models(begin)
    caps_of(config, begin.budget, record)
    if agent := agent_of(config, record):
        Town(config).agent(agent).check()
    elif begin.config is not None:
        role_of(Town(config), record.role)
    else:
        _check_role(config, record.role)


async def configured(record: Record, begin: Begin) -> tuple[Config, str]:
    """The configuration that a session begins with, and a word on where it is from.

    Raises:
        ConfigError: when the file is wrong, or nothing was found at all.
    """
    if begin.config is not None:
        from electrictown.config import load_config

        return load_config(Path(begin.config), begin.environ), f"config: {begin.config}"
    if record.agent:  # which wants no model
        return _without_models(begin), f"no electrictown.yaml: {record.agent} with its own settings and login"
    from electrictown.discovery import discover

    found = await discover(begin.environ)
    return found.config, f"no electrictown.yaml: {found.why}"


def _without_models(begin: Begin) -> Config:
    """What there is without any file: the agents that need no entry."""
    from electrictown.config import Config
    from electrictown.config.origin import Source
    from electrictown.discovery import FOUND_HERE

    return Config().bind(Source(file=FOUND_HERE, environ=begin.environ))


def agent_of(config: Config, record: Record) -> str:
    """The agent of others that answers: the one that was named, else the role's own; "" for a model."""
    entry = config.specialists.get(record.role) or config.roles.get(record.role)
    return record.agent or (entry.agent if entry is not None else "")


def role_of(town: Town, role: str) -> tuple[Route, str | None]:
    """Whom `role` means, and the system prompt that is its own (None: the role's built-in one).

    Raises:
        UsageError: for a role that nobody has heard of.
        ConfigError: when no model fills it.
    """
    config = town.config
    if role in config.specialists:
        return town.specialists[role], config.specialists[role].system_prompt or None
    _check_role(config, role)
    entry = config.roles.get(role)
    return town.routes.for_role(role), (entry.system_prompt or None) if entry is not None else None


def _check_role(config: Config, role: str) -> None:
    known = [*dict.fromkeys((*ROLES, *config.roles, *config.specialists))]
    if role not in known:
        from difflib import get_close_matches

        near = get_close_matches(role, known, n=1)
        raise UsageError(
            f"there is no role {role!r}",
            f"did you mean {near[0]!r}?" if near else f"roles: {', '.join(known)}",
        )


def caps_of(config: Config, said: str | None, record: Record) -> Caps:
    """The budget of the session: what was said over what the file says; without any file, a dollar.

    Raises:
        UsageError: when what was said is no budget.
        ConfigError: when an agent would be bound by it, which has an account of its own.
    """
    from electrictown.budget.caps import UNASKED
    from electrictown.budget.errands import check_agents
    from electrictown.discovery import FOUND_HERE
    from electrictown.wiring import budget_of, budget_said

    if agent := agent_of(config, record):
        caps = budget_of(config) if said is None else budget_said(said, budget_of(config), config, "mayor")
        check_agents([agent], record.role, caps)
        return caps
    if said is None:
        return UNASKED if config.path == FOUND_HERE else budget_of(config)
    return budget_said(said, budget_of(config), config, "mayor")
