"""A stream that came where one whole body was asked for: some servers and proxies know nothing else."""

from __future__ import annotations

from collections.abc import Callable

from electrictown.errors import IncompleteReplyError
from electrictown.llm.framing import SseSplitter
from electrictown.llm.messages import ChatResponse, Chunk, End
from electrictown.llm.wire.base import StreamDecoder

__all__ = ["decode_events"]

_BEGINNINGS = (b"data:", b"event:", b"id:", b":")


def decode_events(body: bytes, make: Callable[[], StreamDecoder]) -> ChatResponse | None:
    """The reply in a body of server-sent events by a decoder of `make`, None where it is no such body.

    Raises:
        ProviderError: as the decoder does.
    """
    if body[:1] == b"{" or not body.lstrip(b"\xef\xbb\xbf \r\n").startswith(_BEGINNINGS):
        return None
    splitter, decoder = SseSplitter(), make()
    out: list[Chunk] = []
    decoder.feed_all((*splitter.feed(body), *splitter.finish()), out)
    ends = [chunk for chunk in (*out, decoder.finish()) if isinstance(chunk, End)]
    if not ends:
        raise IncompleteReplyError("the stream ended without its end")
    return ends[0].response
