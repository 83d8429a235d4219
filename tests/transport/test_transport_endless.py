"""A host that never stops talking."""

from __future__ import annotations

import pytest
from transport_kit import make, stream

from electrictown.errors import BadReplyError
from electrictown.llm import answer
from fakes.fake_server import FakeServer, Reply


async def test_a_stream_that_does_not_end_is_cut_off_at_the_largest_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer, "MAX_BODY", 20_000)
    async with FakeServer(reply=Reply(pieces=("word ",) * 5_000)) as server:
        provider = make(("openai", ""), server.url)
        with pytest.raises(BadReplyError, match="larger than 20000 bytes"):
            await stream(provider)
        await provider.aclose()
