"""Streams of bytes are cut into the same events wherever the reads are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electrictown.errors import BadReplyError
from electrictown.llm.framing import NdjsonSplitter, Splitter, SseSplitter


def run(splitter: Splitter, data: bytes, cuts: list[int]) -> list[bytes]:
    out: list[bytes] = []
    start = 0
    for end in [*sorted(c % (len(data) + 1) for c in cuts), len(data)]:
        out += splitter.feed(data[start:end])
        start = end
    return out + splitter.finish()


def by_the_standard(data: bytes) -> list[bytes]:
    """The standard's algorithm, line by line and slow; a last event without a blank line counts."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    events: list[bytes] = []
    held: list[bytes] = []
    for line in [*lines, b""]:
        if not line:
            if b"\n".join(held):
                events.append(b"\n".join(held))
            held = []
        field, _, value = line.partition(b":")
        if field == b"data" and b":" in line:
            held.append(value.removeprefix(b" "))
    return events


piece = st.sampled_from(
    [
        *b"data: |data:|event: x|id:1|: note|retry: 5|data|a|{}| |\n|\n|\r\n|\r|\x0b".split(b"|"),
        "\u2028".encode(),
        "\u0085".encode(),
        b"data: 1\n\n",
        b"event: x\ndata: 1\n\n",
        b"data: 1\ndata: 2\n\n",
    ]
)
sse_text = st.builds(
    lambda bom, parts: bom + b"".join(parts),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(piece, max_size=40),
)
cuts = st.lists(st.integers(0, 10_000), max_size=20)


@given(sse_text, cuts)
def test_every_split_of_an_sse_stream_gives_what_the_standard_says(data: bytes, cuts: list[int]) -> None:
    assert run(SseSplitter(), data, cuts) == by_the_standard(data)


@given(st.lists(st.binary(min_size=1, max_size=30).filter(lambda b: b"\n" not in b and b"\r" not in b)), cuts)
def test_sse_payloads_come_out_as_they_went_in(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(b"data: " + p + b"\n\n" for p in payloads)
    assert run(SseSplitter(), data, cuts) == payloads


@given(st.lists(st.sampled_from([b"{}", b"\n", b"\r\n", b" ", "é\u2028".encode(), b"\xc2\x85", b"x"])), cuts)
def test_every_split_of_an_ndjson_stream_gives_the_same_lines(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    assert run(NdjsonSplitter(), data, cuts) == [line for line in lines if line and not line.isspace()]


def test_a_cut_at_every_single_byte_changes_nothing() -> None:
    payload = '{"text":"é\u2028\u0085😀"}'.encode()
    sse = b"\xef\xbb\xbf: hello\r\n\r\nevent: x\r\ndata: " + payload + b"\r\n\r\ndata:[DONE]\n\n"
    lines = b"\xef\xbb\xbf" + payload + b"\r\n" + payload + b"\n\n" + payload
    for at in range(len(sse) + 1):
        assert run(SseSplitter(), sse, [at]) == [payload, b"[DONE]"]
    for at in range(len(lines) + 1):
        assert run(NdjsonSplitter(), lines, [at]) == [payload] * 3


def test_a_read_of_nothing_changes_nothing() -> None:
    splitter = SseSplitter()
    out = [
        p
        for data in (b"data: a\r", b"", b"\n", b"", b"\r", b"", b"data: b\n", b"", b"\n")
        for p in splitter.feed(data)
    ]
    assert out == [b"a", b"b"]
    assert NdjsonSplitter().feed(b"") == []


def test_several_data_lines_are_one_payload() -> None:
    assert SseSplitter().feed(b"data: a\ndata:b\nid: 7\ndata:  c\n\n") == [b"a\nb\n c"]


def test_events_without_data_give_nothing() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b": ping\n\nevent: ping\n\n\n\ndata\n\ndata:\n\ndata: \n\n") == []
    assert splitter.finish() == []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_event_over_the_limit_is_refused_however_it_is_cut(size: int) -> None:
    for splitter, data in [
        (SseSplitter(limit=50), b"data: " + b"x" * 60 + b"\n\n"),
        (NdjsonSplitter(limit=50), b"x" * 60 + b"\n"),
    ]:
        cuts = list(range(0, len(data), size))
        with pytest.raises(BadReplyError, match="larger than 50"):
            run(splitter, data, cuts)


def test_many_events_under_the_limit_are_never_too_large() -> None:
    assert len(SseSplitter(limit=50).feed(b"data: abc\n\n" * 100)) == 100
    assert len(NdjsonSplitter(limit=50).feed(b"abc\n" * 100)) == 100
