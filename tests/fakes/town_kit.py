"""A whole fake town: answers by what a prompt is for, and ways to run `et` against it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from fakes.fake_server import Behaviour, FakeServer, Reply, Seen

__all__ = ["Answer", "FakeTown", "phase_of", "serving"]

Answer = str | Reply | Callable[[Seen], "str | Reply"]

_MARKS = {
    "synthesize": "Workers have done the parts of a task",
    "review": "Review this work.",
    "refine": "Improve this work",
    "brief": "Several workers are about to do",
    "repair": "That plan cannot be used",
    "plan": "Break this task into subtasks",
}

_PLAN = "1. write the parser\n2. write the printer\n3. write the tests [depends: 1, 2]"


def phase_of(seen: Seen) -> str:
    """What a request is for: plan, repair, brief, work, review, synthesize or refine."""
    return next((phase for phase, mark in _MARKS.items() if mark in seen.prompt), "work")


class FakeTown:
    """The reply function of a `FakeServer` that plays every role. `asked` counts requests by phase."""

    def __init__(self, **answers: Answer) -> None:
        self.answers: dict[str, Answer] = {
            "plan": _PLAN,
            "brief": "Agree on the name parse().",
            "work": "def parse(): ...",
            "review": '{"critique": "fine", "score": 8}',
            "synthesize": "The merged result.",
            "refine": "The polished result.",
            **answers,
        }
        self.asked: Counter[str] = Counter()
        self.seen: list[tuple[str, Seen]] = []

    def __call__(self, seen: Seen) -> str | Reply:
        phase = phase_of(seen)
        self.asked[phase] += 1
        self.seen.append((phase, seen))
        answer = self.answers.get(phase, self.answers["plan"] if phase == "repair" else "")
        return answer(seen) if callable(answer) else answer

    def prompts(self, phase: str) -> list[str]:
        """What was asked in a phase, in order."""
        return [seen.prompt for at, seen in self.seen if at == phase]


def yaml_of(url: str, *, pool: int = 2, type_: str = "ollama", extra: str = "", **roles: str) -> str:
    """A configuration of `pool` hosts on one fake server, each under a path of its own."""
    lines = ["providers:"]
    lines += [f"  h{i}: {{type: {type_}, base_url: {url}/h{i}}}" for i in range(pool)]
    lines += [f"  boss: {{type: {type_}, base_url: {url}/boss, max_in_flight: 4}}", "models:"]
    lines += [f"  m{i}: {{provider: h{i}, model: fake-{i}}}" for i in range(pool)]
    lines += ["  chief: {provider: boss, model: fake-chief}", "roles:", "  mayor: {model: chief}"]
    members = ", ".join(f"m{i}" for i in range(pool))
    polecat = roles.pop("polecat", f"{{model: m0, pool: [{members}]}}")
    lines += [f"  polecat: {polecat}", *(f"  {name}: {text}" for name, text in roles.items())]
    return "\n".join(lines) + "\n" + extra


@contextmanager
def serving(reply: Behaviour, **options: object) -> Generator[FakeServer]:
    """A fake server in a thread of its own, for programs that run their own event loop."""
    started = threading.Event()
    loop = asyncio.new_event_loop()
    server = FakeServer(reply=reply, **options)  # type: ignore[arg-type]
    finish = asyncio.Event()

    async def serve() -> None:
        async with server:
            started.set()
            await finish.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(10)
        yield server
    finally:
        loop.call_soon_threadsafe(finish.set)
        thread.join(10)
        loop.close()


def by_host(answers: Mapping[str, Answer], default: Answer) -> Callable[[Seen], str | Reply]:
    """Answers by which host is asked."""

    def choose(seen: Seen) -> str | Reply:
        answer = answers.get(seen.host.strip("/"), default)
        return answer(seen) if callable(answer) else answer

    return choose
