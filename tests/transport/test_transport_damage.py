"""Bytes that are no text: a reply may hold them, and must not break more than itself."""

from __future__ import annotations

import pytest
from transport_kit import ASK, IDS, WIRES, provider, stream

from electrictown.errors import ProviderError
from fakes.fake_server import FakeModel, FakeServer, Reply
from fakes.fake_wires import models_page, render, render_whole

BAD = b"a\xff\xe4b"
MENDED = "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(("wire", "name"), list(zip(WIRES, IDS, strict=True)), ids=IDS)
async def test_what_is_no_utf8_is_shown_as_such(wire: tuple[str, str], name: str) -> None:
    reply = Reply(text="one BAD two BAD")
    events, terminal = render(name, "m1", reply)  # type: ignore[arg-type]
    streamed = (b"".join(events) + terminal).replace(b"BAD", BAD)
    whole = render_whole(name, "m1", reply).replace(b"BAD", BAD)  # type: ignore[arg-type]
    async with FakeServer() as server, provider(wire, server) as asked:
        server.reply = Reply(body=streamed, dribble=5)
        assert (await stream(asked))[1].text == f"one {MENDED} two {MENDED}"
        server.reply = Reply(body=whole, dribble=5)
        assert (await stream(asked))[1].text == f"one {MENDED} two {MENDED}"
        assert (await asked.chat_completion(ASK)).text == f"one {MENDED} two {MENDED}"


@pytest.mark.parametrize(("wire", "name"), list(zip(WIRES, IDS, strict=True)), ids=IDS)
async def test_half_an_emoji_is_shown_as_such_and_a_whole_one_as_itself(
    wire: tuple[str, str], name: str
) -> None:
    reply = Reply(text="HALF WHOLE BACKSLASH")
    said = "\N{REPLACEMENT CHARACTER}a \N{GRINNING FACE} \\ud83d"

    def escaped(body: bytes) -> bytes:
        for word, bad in ((b"HALF", rb"\ud83da"), (b"WHOLE", rb"\uD83D\uDE00"), (b"BACKSLASH", rb"\\ud83d")):
            body = body.replace(word, bad)
        return body

    events, terminal = render(name, "m1", reply)  # type: ignore[arg-type]
    async with FakeServer() as server, provider(wire, server) as asked:
        server.reply = Reply(body=escaped(b"".join(events) + terminal), dribble=7)
        assert (await stream(asked))[1].text == said
        server.reply = Reply(body=escaped(render_whole(name, "m1", reply)))  # type: ignore[arg-type]
        assert (await stream(asked))[1].text == said
        assert (await asked.chat_completion(ASK)).text == said


@pytest.mark.parametrize("wire", WIRES, ids=IDS)
@pytest.mark.parametrize("status", [400, 500])
async def test_an_error_that_is_no_utf8_is_still_one_of_ours(wire: tuple[str, str], status: int) -> None:
    body = b'{"error": {"message": "no ' + BAD + b'"}}'
    async with FakeServer(Reply(status=status, body=body)) as server, provider(wire, server) as asked:
        with pytest.raises(ProviderError, match=MENDED):
            await asked.chat_completion(ASK)


@pytest.mark.parametrize(("wire", "name"), list(zip(WIRES, IDS, strict=True)), ids=IDS)
async def test_a_list_of_models_that_is_no_utf8_is_read(wire: tuple[str, str], name: str) -> None:
    page = models_page(name, [FakeModel(id="BAD")], {}, 0)  # type: ignore[arg-type]
    async with FakeServer() as server, provider(wire, server) as asked:
        server.lists = page.replace(b"BAD", BAD)
        assert [model.id for model in await asked.list_models()] == [MENDED]
