"""electrictown: a town of language-model agents, any model of any provider in any role.

The public names are resolved on first use, so that `import electrictown` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from electrictown.config import load_config, parse_config
    from electrictown.engine.team import RunOptions
    from electrictown.llm.costs import CostTracker
    from electrictown.llm.messages import (
        ChatRequest,
        ChatResponse,
        End,
        Message,
        Reset,
        TextDelta,
        assistant,
        system,
        user,
    )
    from electrictown.llm.provider import Provider, ProviderSettings
    from electrictown.llm.router import Router
    from electrictown.roles.mayor import Mayor
    from electrictown.roles.polecat import Polecat
    from electrictown.roles.refinery import Refinery
    from electrictown.roles.witness import Witness
    from electrictown.town import Town
    from electrictown.work import Done, Failed, Plan, Report, Review, Subtask, Task

_HOMES = {
    "ChatRequest": "electrictown.llm.messages",
    "ChatResponse": "electrictown.llm.messages",
    "CostTracker": "electrictown.llm.costs",
    "Done": "electrictown.work",
    "End": "electrictown.llm.messages",
    "Failed": "electrictown.work",
    "Mayor": "electrictown.roles.mayor",
    "Message": "electrictown.llm.messages",
    "Plan": "electrictown.work",
    "Polecat": "electrictown.roles.polecat",
    "Provider": "electrictown.llm.provider",
    "ProviderSettings": "electrictown.llm.provider",
    "Refinery": "electrictown.roles.refinery",
    "Report": "electrictown.work",
    "Reset": "electrictown.llm.messages",
    "Review": "electrictown.work",
    "Router": "electrictown.llm.router",
    "RunOptions": "electrictown.engine.team",
    "Subtask": "electrictown.work",
    "Task": "electrictown.work",
    "TextDelta": "electrictown.llm.messages",
    "Town": "electrictown.town",
    "Witness": "electrictown.roles.witness",
    "assistant": "electrictown.llm.messages",
    "load_config": "electrictown.config",
    "parse_config": "electrictown.config",
    "system": "electrictown.llm.messages",
    "user": "electrictown.llm.messages",
}

__all__ = [
    "ChatRequest",
    "ChatResponse",
    "CostTracker",
    "Done",
    "End",
    "Failed",
    "Mayor",
    "Message",
    "Plan",
    "Polecat",
    "Provider",
    "ProviderSettings",
    "Refinery",
    "Report",
    "Reset",
    "Review",
    "Router",
    "RunOptions",
    "Subtask",
    "Task",
    "TextDelta",
    "Town",
    "Witness",
    "assistant",
    "load_config",
    "parse_config",
    "system",
    "user",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
