"""The router: from a name to a reply, over as many hosts as it takes.

`Router` finds the route; `call.Call` has the one loop that asks, for whole replies and streams alike.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from functools import cached_property

from msgspec.structs import replace

from electrictown.events import Emit, Event, HopTaken, ignore
from electrictown.llm.admission import Admission, Asking, MemoryAdmission
from electrictown.llm.call import Call
from electrictown.llm.chain import RetryPolicy
from electrictown.llm.costs import CostTracker
from electrictown.llm.messages import ChatRequest, ChatResponse, Chunk
from electrictown.llm.prices import Prices
from electrictown.llm.provider import Provider
from electrictown.llm.routes import Route, RouteTable

__all__ = ["RetryPolicy", "Router"]

_PATIENT = RetryPolicy()


class Router:
    """Asks the models that a name stands for, in order, until one answers.

    `providers` by their names, `routes` the table of names. Without `admission` and `tracker` it makes
    its own. `emit` hears of every request, hop and wait. For one event loop.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        routes: RouteTable,
        *,
        admission: Admission | None = None,
        tracker: CostTracker | None = None,
        emit: Emit = ignore,
        policy: RetryPolicy = _PATIENT,
        prices: Prices | None = None,
    ) -> None:
        self.providers = providers
        self.routes = routes
        self.admission: Admission = MemoryAdmission() if admission is None else admission
        self.tracker = CostTracker() if tracker is None else tracker
        self.emit = emit
        self.policy = policy
        self.prices = Prices() if prices is None else prices

    async def chat_completion(
        self,
        request: ChatRequest,
        route: Route | None = None,
        *,
        role: str = "",
        subtask: str = "",
        call: str = "",
        tracker: CostTracker | None = None,
    ) -> ChatResponse:
        """The whole reply to `request`.

        Without `route` the request's `model` is looked up: an alias, `provider/model`, a role, or ""
        for the default. `role` and `subtask` say on whose behalf, in events and costs, `call` is the
        call's key in a run's journal. A `tracker` gets the costs too, beside the router's own.

        Raises:
            ConfigError: for a name that means nothing.
            ProviderError: the preferred target's own error, when nobody could answer.
            DeadlineError: when the policy's deadline has passed.
        """
        return await self._call(request, route, Asking(role, subtask, call, tracker)).whole()

    def stream_chat_completion(
        self,
        request: ChatRequest,
        route: Route | None = None,
        *,
        role: str = "",
        subtask: str = "",
        call: str = "",
        tracker: CostTracker | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """The reply in pieces, otherwise as `chat_completion`; `async for` inside `async with`.

        The last chunk is `End`. After a failure in mid-stream comes `Reset`, and the reply starts again
        from nothing. Leaving the `async with`, however it happens, gives everything back.

        Raises:
            ConfigError, ProviderError, DeadlineError: as `chat_completion`, while iterating.
        """
        return aclosing(self._call(request, route, Asking(role, subtask, call, tracker)).stream())

    async def chat_completion_for_role(
        self,
        role: str,
        request: ChatRequest,
        *,
        route: Route | None = None,
        subtask: str = "",
        call: str = "",
        tracker: CostTracker | None = None,
    ) -> ChatResponse:
        """The whole reply of the model that fills `role`; `route` overrides the role's own.

        Raises:
            ConfigError, ProviderError, DeadlineError: as `chat_completion`.
        """
        route = self.routes.for_role(role) if route is None else route
        return await self._call(request, route, Asking(role, subtask, call, tracker)).whole()

    def stream_chat_completion_for_role(
        self,
        role: str,
        request: ChatRequest,
        *,
        route: Route | None = None,
        subtask: str = "",
        call: str = "",
        tracker: CostTracker | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """The reply of the model that fills `role` in pieces; see `stream_chat_completion`."""
        route = self.routes.for_role(role) if route is None else route
        return self.stream_chat_completion(
            request, route, role=role, subtask=subtask, call=call, tracker=tracker
        )

    @cached_property
    def _impatient(self) -> Router:
        """This router for callers who have others to turn to: one try a target, and they tell the hop."""
        once = copy.copy(self)
        once.policy = replace(self.policy, tries=1, rate_limit_tries=1)
        emit = self.emit

        def unless_last(event: Event) -> None:
            if not (isinstance(event, HopTaken) and not event.took_over):
                emit(event)

        once.emit = emit if emit is ignore else unless_last
        return once

    def _call(self, request: ChatRequest, route: Route | None, asking: Asking) -> Call:
        if route is None:
            route = self.routes.resolve(request.model)
        stack = self if route.patient else self._impatient
        return Call(stack, request, route.chain, asking)
