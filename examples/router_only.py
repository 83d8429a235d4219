"""The router alone, without a configuration file: two providers, a fallback, a stream, the events, the costs.

python examples/router_only.py
"""

from __future__ import annotations

import asyncio

from electrictown import ChatRequest, Reset, Router, TextDelta, user
from electrictown.events import Event, HopTaken
from electrictown.llm.routes import Price, Route, RouteTable, Target
from electrictown.llm.scripted import ScriptedProvider

# Two providers that play scripts. A real one is made of its settings:
#   make_provider(ProviderSettings(name="openai", type="openai", api_key=Secret(key)))
BUSY = ScriptedProvider.of("busy", [{"error": {"type": "RateLimitError", "retry_after": 30}, "repeat": True}])
CALM = ScriptedProvider.of("calm", [{"text": "You asked: {prompt}", "repeat": True}])

FAST = Target(alias="fast", provider="busy", model="m-fast")
SAFE = Target(alias="safe", provider="calm", model="m-safe", price=Price(input=1.0, output=5.0))
ROUTES = RouteTable(
    roles={"writer": Route("writer", FAST, fallbacks=(SAFE,))},
    aliases={"fast": FAST, "safe": SAFE},
    providers={"busy": FAST, "calm": SAFE},
)


def show(event: Event) -> None:
    """Tell of every failover."""
    if isinstance(event, HopTaken):
        print(f"{event.failed} failed ({event.error.type}), {event.took_over} takes over")


async def main() -> None:
    """Ask for a role, then for a model."""
    router = Router({"busy": BUSY, "calm": CALM}, ROUTES, emit=show)

    question = ChatRequest(messages=(user("What is a town?"),), max_tokens=200)
    response = await router.chat_completion_for_role("writer", question)
    print(f"{response.provider}: {response.text}")

    # By alias, or as provider/model. After a failure in mid-stream `Reset` comes: what was printed is void.
    async with router.stream_chat_completion(
        ChatRequest(model="calm/m-other", messages=(user("And a city?"),))
    ) as reply:
        async for chunk in reply:
            if isinstance(chunk, TextDelta):
                print(chunk.text, end="", flush=True)
            elif isinstance(chunk, Reset):
                print(f"\n(again: {chunk.reason})")
    print()

    summary = router.tracker.summary()
    print(f"{summary.total_requests} requests, {summary.total_tokens} tokens, ${summary.total_cost}")
    writer = router.tracker.summary_for_role("writer")
    print(f"the writer alone: {writer.total_requests} requests, {writer.total_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main())
