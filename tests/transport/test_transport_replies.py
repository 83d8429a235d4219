"""Whole and streamed replies over the four wires, and what may go wrong with them on the way."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest
from transport_kit import ASK, IDS, WIRES, broken, either, make, provider, stream

from electrictown.errors import (
    BadReplyError,
    ConnectError,
    FirstTokenTimeout,
    IdleTimeout,
    IncompleteReplyError,
    OverloadedError,
    ProviderError,
    ServerError,
)
from electrictown.llm.messages import ChatResponse, Reasoning, ReasoningDelta, Text, TextDelta, ToolCallDelta
from electrictown.llm.provider import Timeouts
from fakes.fake_server import FakeServer, Reply

over_all_wires = pytest.mark.parametrize("wire", WIRES, ids=IDS)
whole_and_streamed = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])

RICH = Reply(
    text="Grüße, 世界 😀\u2028and\u0085more",
    reasoning="let me see",
    tool_calls=(("look", '{"at":"é\u2028"}'), ("leave", "{}")),
    input_tokens=100,
    output_tokens=9,
)


def is_rich(reply: ChatResponse) -> None:
    assert reply.text == RICH.text
    assert reply.reasoning == RICH.reasoning
    assert [(c.name, c.arguments) for c in reply.tool_calls] == list(RICH.tool_calls)
    assert reply.finish_reason == "tool_calls"
    assert reply.usage is not None
    assert (reply.usage.input, reply.usage.output) == (100, 9)
    assert reply.provider.startswith("the-")
    assert reply.message.origin == reply.provider


@over_all_wires
@whole_and_streamed
@pytest.mark.parametrize(
    "how",
    [Reply(), Reply(dribble=3), Reply(gzip=True), Reply(pause=0.001), Reply(plain_json=True)],
    ids=["plain", "dribbled", "gzip", "slow", "json"],
)
async def test_a_reply_arrives_without_loss(wire: tuple[str, str], streamed: bool, how: Reply) -> None:
    if how.plain_json and wire[0] == "ollama":
        how = Reply()  # a stream of one line is that wire's own form of it; tested in its own room
    reply = Reply(
        text=RICH.text,
        reasoning=RICH.reasoning,
        tool_calls=RICH.tool_calls,
        input_tokens=100,
        output_tokens=9,
        dribble=how.dribble,
        gzip=how.gzip,
        pause=how.pause,
        plain_json=how.plain_json,
    )
    async with FakeServer(reply) as server, provider(wire, server) as asked:
        is_rich(await either(asked, streamed))


@over_all_wires
async def test_chunks_come_while_the_model_still_speaks(wire: tuple[str, str]) -> None:
    async with FakeServer(Reply(text="one two three", stall=4)) as server, provider(wire, server) as asked:
        async with asked.stream_chat_completion(ASK) as reply:
            async for chunk in reply:
                if isinstance(chunk, TextDelta):
                    break
            assert server.in_flight[""] == 1
        await server.until(lambda: server.chats[0].aborted)


@over_all_wires
async def test_the_pieces_of_a_stream_add_up_to_its_end(wire: tuple[str, str]) -> None:
    async with FakeServer(RICH) as server, provider(wire, server) as asked:
        chunks, response = await stream(asked)
    assert "".join(c.text for c in chunks if isinstance(c, TextDelta)) == response.text
    arguments: dict[int, str] = {}
    for chunk in chunks:
        if isinstance(chunk, ToolCallDelta):
            arguments[chunk.index] = arguments.get(chunk.index, "") + chunk.arguments
    assert list(arguments.values()) == [call.arguments for call in response.tool_calls]


@over_all_wires
async def test_a_cut_stream_is_incomplete_and_its_beginning_was_given(wire: tuple[str, str]) -> None:
    async with FakeServer(Reply(text="one two three four", cut=5)) as server, provider(wire, server) as asked:
        got, reply, failure = await broken(asked)
        assert isinstance(failure, IncompleteReplyError)
        assert got
        assert "one two three four".startswith(got)
        assert reply.partial().text == got
        usage = reply.partial().usage
        assert usage is None or usage.partial
        assert failure.provider == asked.name
        assert failure.model == "m1"


async def test_the_known_usage_of_a_cut_stream_can_be_asked() -> None:
    fault = Reply(text="a b c", input_tokens=77, cut=5)
    async with FakeServer(fault) as server, provider(("anthropic", ""), server) as asked:
        _, reply, _ = await broken(asked)
    assert reply.usage is not None
    assert reply.usage.input == 77


@over_all_wires
async def test_a_clean_end_without_the_terminal_event_is_incomplete(wire: tuple[str, str]) -> None:
    async with FakeServer(Reply(text="one two", terminal=False)) as server, provider(wire, server) as asked:
        with pytest.raises(IncompleteReplyError):
            await stream(asked)


@over_all_wires
async def test_a_provider_may_be_allowed_to_end_without_the_terminal_event(wire: tuple[str, str]) -> None:
    async with (
        FakeServer(Reply(text="one two", terminal=False)) as server,
        provider(wire, server, allow_incomplete=True) as asked,
    ):
        assert (await stream(asked))[1].text == "one two"


@over_all_wires
@whole_and_streamed
async def test_a_good_status_and_no_bytes_is_a_failure(wire: tuple[str, str], streamed: bool) -> None:
    async with FakeServer(Reply(body=b"")) as server, provider(wire, server) as asked:
        with pytest.raises((IncompleteReplyError, BadReplyError)) as failed:
            await either(asked, streamed)
        if streamed:
            assert "too long" in failed.value.hint


@over_all_wires
@whole_and_streamed
async def test_a_web_page_is_no_reply(wire: tuple[str, str], streamed: bool) -> None:
    async with FakeServer(Reply(body=b"<!doctype html><p>hi")) as server, provider(wire, server) as asked:
        with pytest.raises(BadReplyError):
            await either(asked, streamed)


@over_all_wires
async def test_garbage_in_a_stream_is_a_bad_reply(wire: tuple[str, str]) -> None:
    body = b"data: {nonsense\n\n" if wire[0] != "ollama" else b"nonsense\n"
    async with FakeServer(Reply(body=body)) as server, provider(wire, server) as asked:
        with pytest.raises(BadReplyError):
            await stream(asked)


@over_all_wires
async def test_an_error_in_mid_stream_has_its_type(wire: tuple[str, str]) -> None:
    fault = Reply(text="one two three", mid_error=4, error="the engine broke")
    async with FakeServer(fault) as server, provider(wire, server) as asked:
        got, _, failure = await broken(asked)
    assert got
    assert isinstance(failure, ServerError | OverloadedError)
    assert "the engine broke" in failure.message


@whole_and_streamed
async def test_what_is_not_http_is_a_bad_reply(streamed: bool) -> None:
    other = Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n")
    async with FakeServer(other) as server, provider(WIRES[0], server) as asked:
        with pytest.raises(BadReplyError, match="not HTTP"):
            await either(asked, streamed)


async def test_a_lost_connection_before_the_answer_is_a_connect_error() -> None:
    async with FakeServer(Reply(raw=b"")) as server, provider(WIRES[0], server) as asked:
        with pytest.raises(ConnectError, match="without an answer"):
            await asked.chat_completion(ASK)


async def test_a_whole_reply_that_is_cut_is_incomplete() -> None:
    async with FakeServer(Reply(cut=30)) as server, provider(WIRES[0], server) as asked:
        with pytest.raises(IncompleteReplyError):
            await asked.chat_completion(ASK)


async def test_a_reply_that_cannot_be_unpacked_is_a_bad_reply() -> None:
    reply = Reply(body=b"not gzip at all", headers=(("content-encoding", "gzip"),))
    async with FakeServer(reply) as server, provider(WIRES[0], server) as asked:
        with pytest.raises(BadReplyError):
            await asked.chat_completion(ASK)


async def test_a_reply_beyond_all_measure_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from electrictown.llm.answer import Answer

    limits = Answer.read_all.__defaults__
    monkeypatch.setattr(Answer.read_all, "__defaults__", (1000,))
    async with FakeServer(Reply(text="x" * 5000)) as server, provider(WIRES[0], server) as asked:
        with pytest.raises(BadReplyError, match="larger than 1000 bytes"):
            await asked.chat_completion(ASK)
    assert limits == (256 << 20,)


# --- time


async def test_silence_before_the_headers_is_a_first_token_timeout() -> None:
    async with FakeServer(Reply(never=True)) as server:
        for streamed in (False, True):
            async with provider(WIRES[0], server, Timeouts(first_token=0.05)) as asked:
                with pytest.raises(FirstTokenTimeout, match=r"no answer within 0\.05 s"):
                    await either(asked, streamed)
        await server.until(lambda: all(seen.aborted for seen in server.chats))


@over_all_wires
async def test_silence_after_the_headers_is_a_first_token_timeout(wire: tuple[str, str]) -> None:
    async with FakeServer(Reply(stall=0)) as server:
        async with provider(wire, server, Timeouts(first_token=0.05)) as asked:
            with pytest.raises(FirstTokenTimeout, match=r"no first token within 0\.05 s"):
                await stream(asked)
        await server.until(lambda: server.chats[0].aborted)


@over_all_wires
async def test_silence_in_mid_stream_is_an_idle_timeout(wire: tuple[str, str]) -> None:
    async with FakeServer(Reply(text="one two three", stall=3)) as server:
        async with provider(wire, server, Timeouts(first_token=5.0, idle=0.05)) as asked:
            with pytest.raises(IdleTimeout, match=r"fell silent for 0\.05 s"):
                await stream(asked)
        await server.until(lambda: server.chats[0].aborted)


async def test_a_steady_stream_is_never_idle() -> None:
    text = "word " * 12
    times = Timeouts(first_token=0.5, idle=0.5)
    steady = Reply(text=text, pause=0.05)
    async with FakeServer(steady) as server, provider(WIRES[0], server, times) as asked:
        assert (await stream(asked))[1].text == text


@whole_and_streamed
async def test_the_whole_request_has_a_limit_too(streamed: bool) -> None:
    slow = Reply(text="word " * 100, pause=0.02, dribble=0 if streamed else 150)
    times = Timeouts(total=0.1)
    async with FakeServer(slow) as server, provider(WIRES[0], server, times) as asked:
        with pytest.raises(IdleTimeout, match=r"not complete when 0\.1 s were over"):
            await either(asked, streamed)


async def test_the_limit_of_the_whole_request_holds_before_the_answer_too() -> None:
    async with (
        FakeServer(Reply(never=True)) as server,
        provider(WIRES[0], server, Timeouts(total=0.05)) as asked,
    ):
        with pytest.raises(FirstTokenTimeout, match=r"not answered when 0\.05 s were over"):
            await asked.chat_completion(ASK)


async def test_a_slow_reader_is_not_an_idle_host() -> None:
    times = Timeouts(first_token=0.05, idle=0.05)
    got = ""
    async with (
        FakeServer(Reply(text="one two three")) as server,
        provider(WIRES[0], server, times) as asked,
        asked.stream_chat_completion(ASK) as reply,
    ):
        await asyncio.sleep(0.1)
        async for chunk in reply:
            got += chunk.text if isinstance(chunk, TextDelta) else ""
            await asyncio.sleep(0.06)
    assert got == "one two three"


async def test_no_limits_means_no_limits() -> None:
    none = Timeouts(connect=None, first_token=None, idle=None, total=None)
    async with FakeServer(Reply(pause=0.005)) as server, provider(WIRES[0], server, none) as asked:
        assert (await stream(asked))[1].text == "Hello from the fake."


# --- connections


async def test_a_refused_connection_is_a_connect_error() -> None:
    async with FakeServer() as server:
        url = server.url
    async with provider(WIRES[0], url) as asked:
        with pytest.raises(ConnectError, match="refused") as failed:
            await asked.chat_completion(ASK)
    assert failed.value.hint
    assert failed.value.retry_same


async def test_a_host_that_never_takes_the_connection_is_a_connect_error() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(8)]  # more than may wait: later ones hang
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with provider(WIRES[0], url, Timeouts(connect=0.1)) as asked:
            with pytest.raises(ConnectError, match=r"no connection to .* within 0\.1 s"):
                await asked.chat_completion(ASK)
        for one in waiting:
            one.close()


async def test_an_unknown_host_is_a_connect_error() -> None:
    async with provider(WIRES[0], "http://no-such-host.invalid") as asked:
        with pytest.raises(ConnectError, match=r"no host named no-such-host\.invalid"):
            await asked.chat_completion(ASK)


async def test_tls_to_a_plain_port_says_so() -> None:
    async with FakeServer() as server, provider(WIRES[0], f"https://127.0.0.1:{server.port}") as asked:
        # The greeting of TLS is no request to the fake: it is made to say what nginx says.
        answering = asyncio.create_task(_answer_in_plain(server))
        with pytest.raises(ConnectError, match="TLS") as failed:
            await asked.chat_completion(ASK)
        await answering
    assert "http://" in failed.value.hint


async def _answer_in_plain(server: FakeServer) -> None:
    await server.until(lambda: bool(server.connections))
    for connection in list(server.connections):
        connection.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def test_a_connection_serves_again() -> None:
    async with FakeServer() as server:
        for wire in WIRES:
            async with provider(wire, server) as asked:
                before = server.accepted
                for _ in range(5):
                    await asked.chat_completion(ASK)
                    await stream(asked)
                assert server.accepted == before + 1


async def test_leaving_at_the_last_chunk_keeps_the_connection() -> None:
    async with FakeServer(Reply(pause=0.001)) as server, provider(WIRES[0], server) as asked:
        for _ in range(3):
            async with asked.stream_chat_completion(ASK) as reply:
                async for chunk in reply:
                    if not isinstance(chunk, TextDelta):
                        break
            await server.until(lambda: not server.in_flight[""])
            await asyncio.sleep(0.01)
        assert server.accepted == 1


async def test_a_server_that_never_ends_the_body_holds_nobody_up() -> None:
    async with FakeServer(Reply(linger=True)) as server, provider(WIRES[0], server) as asked:
        assert (await stream(asked))[1].text == "Hello from the fake."
        await server.until(lambda: server.chats[0].aborted)


@whole_and_streamed
async def test_cancellation_frees_the_connection_at_once(streamed: bool) -> None:
    async with FakeServer(Reply(text="one two", stall=2, latency=0.0 if streamed else 60)) as server:
        async with provider(WIRES[0], server) as asked:
            task = asyncio.create_task(either(asked, streamed))
            await server.until(lambda: bool(server.chats))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.until(lambda: server.chats[0].aborted and not server.connections)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_two_hundred_streams_at_once_lose_nothing() -> None:
    async with (
        FakeServer(Reply(text="word " * 20, pause=0.001)) as server,
        provider(WIRES[0], server) as asked,
    ):
        replies = await asyncio.gather(*(stream(asked) for _ in range(200)))
        assert {response.text for _, response in replies} == {"word " * 20}
        assert server.max_in_flight[""] > 100
        assert server.in_flight[""] == 0


async def test_providers_of_one_loop_share_connections_until_the_last_is_closed() -> None:
    async with FakeServer() as server:
        first, second = make(WIRES[0], server.url), make(WIRES[0], server.url)
        await first.chat_completion(ASK)
        await second.chat_completion(ASK)
        assert server.accepted == 1
        await first.aclose()
        await second.chat_completion(ASK)
        await second.aclose()
        await second.aclose()
        await server.until(lambda: not server.connections)
        await first.chat_completion(ASK)  # closed is not dead: it connects anew
        await first.aclose()


def test_a_provider_outlives_its_event_loop_and_closes_with_it() -> None:
    async def once() -> str:
        async with FakeServer() as server:
            one = make(WIRES[0], server.url)
            return (await one.chat_completion(ASK)).text  # nobody calls aclose

    assert asyncio.run(once()) == "Hello from the fake."
    assert asyncio.run(once()) == "Hello from the fake."
    gc.collect()  # an unclosed session would warn, and a warning is an error here


async def test_a_request_of_many_megabytes_is_sent() -> None:
    from electrictown.llm.messages import ChatRequest, user

    large = ChatRequest(model="m1", messages=(user("x" * 3_000_000),))
    async with FakeServer() as server, provider(WIRES[0], server) as asked:
        assert (await asked.chat_completion(large)).text == "Hello from the fake."
        assert len(server.chats[0].raw) > 3_000_000


async def test_parts_of_a_plain_json_reply_are_chunks_in_order() -> None:
    reply = Reply(text="done", reasoning="hm", plain_json=True)
    async with FakeServer(reply) as server, provider(("anthropic", ""), server) as asked:
        chunks, response = await stream(asked)
    kinds = [type(part) for part in response.message.parts]
    assert kinds == [Reasoning, Text]
    assert chunks == [ReasoningDelta("hm"), TextDelta("done")]


async def test_calls_of_a_plain_json_reply_are_numbered_as_those_of_a_stream() -> None:
    reply = Reply(text="Looking.", tool_calls=(("f", "{}"), ("g", "{}")), plain_json=True)
    async with FakeServer(reply) as server, provider(("anthropic", ""), server) as asked:
        chunks, _ = await stream(asked)
    assert [(c.index, c.name) for c in chunks if isinstance(c, ToolCallDelta)] == [(0, "f"), (1, "g")]


@over_all_wires
@whole_and_streamed
async def test_an_error_status_has_its_type(wire: tuple[str, str], streamed: bool) -> None:
    busy = Reply(status=503, error="come back later")
    async with FakeServer(busy) as server, provider(wire, server) as asked:
        with pytest.raises(ProviderError, match="come back later") as failed:
            await either(asked, streamed)
    assert failed.value.status == 503
    assert failed.value.retry_same
    assert failed.value.try_next
    assert (failed.value.provider, failed.value.model) == (asked.name, "m1")
    assert len(server.chats) == 1
