"""Frames: what is sent arrives, however the stream is cut; what is no frame is refused before it costs anything."""

import struct
import tracemalloc
from itertools import pairwise

import pytest
from blockyard.proto.lane import frame
from blockyard.proto.lane.frame import HEADER, HEADER_BYTES, Frame, FrameDecoder, FrameError, Kind, Limits
from hypothesis import given
from hypothesis import strategies as st

LIMITS = Limits(max_message_bytes=1000, max_payload_bytes=5000)
REASONS = {"magic", "version", "kind", "message_length", "payload_length"}
CARRIERS = (Kind.CALL, Kind.MESSAGE, Kind.REPLY)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Frames within LIMITS."""
    kind = draw(st.sampled_from(Kind))
    payload = draw(st.binary(max_size=300)) if kind in CARRIERS else b""
    return Frame(
        int(kind),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(0, frame.MAX_CALL)),
        draw(st.integers(0, frame.MAX_VALUE)),
        draw(st.binary(max_size=300)),
        payload,
    )


def encoded(item: Frame) -> bytes:
    """Return a frame as it travels."""
    head = frame.encode(item.kind, item.call, item.message, len(item.payload), item.method, item.value)
    return head + item.payload


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut a byte stream at `places`."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:stop] for start, stop in pairwise(edges)]


def decode(decoder: FrameDecoder, pieces: list[bytes]) -> list[Frame]:
    """Feed every piece."""
    return [item for piece in pieces for item in decoder.feed(piece)]


@given(st.lists(frames(), max_size=6), st.lists(st.integers(0, 5000), max_size=20))
def test_frames_come_back_however_the_stream_is_cut(items: list[Frame], places: list[int]) -> None:
    decoder = FrameDecoder(LIMITS)
    assert decode(decoder, cut(b"".join(map(encoded, items)), places)) == items
    assert decoder.error is None
    assert not decoder.unfinished


@given(frames())
def test_frames_come_back_from_single_bytes(item: Frame) -> None:
    data = encoded(item)
    assert decode(FrameDecoder(LIMITS), [data[i : i + 1] for i in range(len(data))]) == [item]


@given(frames(), st.integers(1, 5000))
def test_an_unfinished_frame_is_waited_for(item: Frame, missing: int) -> None:
    data = encoded(item)
    decoder = FrameDecoder(LIMITS)
    kept = data[: max(0, len(data) - missing)]
    assert decoder.feed(kept) == []
    assert decoder.unfinished == bool(kept)
    assert decoder.error is None


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes_are_frames_or_are_refused_or_are_waited_for(data: bytes, places: list[int]) -> None:
    decoder = FrameDecoder(LIMITS)
    items = decode(decoder, cut(data, places))
    assert sum(len(encoded(item)) for item in items) <= len(data)
    if decoder.error is not None:
        assert decoder.error.reason in REASONS
        assert decoder.feed(encoded(Frame(int(Kind.PING), 0, 0, 0, b"", b""))) == []
    else:
        assert decoder.unfinished == (sum(len(encoded(item)) for item in items) < len(data))


@given(st.lists(frames(), min_size=1, max_size=4), st.data())
def test_frames_before_a_broken_one_are_whole_and_none_comes_after(items: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encoded, items))
    broken = data.draw(st.integers(0, len(items) - 1))
    at = sum(len(encoded(item)) for item in items[:broken])
    stream = stream[:at] + b"NO" + stream[at + 2 :]
    decoder = FrameDecoder(LIMITS)
    assert decode(decoder, cut(stream, data.draw(st.lists(st.integers(0, 3000), max_size=8)))) == items[:broken]
    assert decoder.error is not None
    assert decoder.error.reason == "magic"


Fields = tuple[bytes, int, int, int, int, int, int, int]
HEADERS = st.tuples(
    st.sampled_from([b"BY", b"by", b"\x00\x00"]),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.one_of(st.integers(0, 2000), st.integers(0, 2**32 - 1)),
    st.one_of(st.integers(0, 9000), st.integers(0, 2**64 - 1)),
)


@given(HEADERS)
def test_a_header_is_taken_when_it_is_within_the_limits_and_only_then(
    fields: tuple[bytes, int, int, int, int, int, int, int],
) -> None:
    magic, version, kind, _, _, _, message_bytes, payload_bytes = fields
    acceptable = (
        magic == b"BY"
        and version == frame.NEWEST_VERSION
        and kind in list(Kind)
        and message_bytes <= LIMITS.max_message_bytes
        and payload_bytes <= (LIMITS.max_payload_bytes if kind in CARRIERS else 0)
    )
    data = HEADER.pack(*fields)
    if acceptable:
        assert tuple(frame.decode_header(data, 0, LIMITS)) == fields[2:]
    else:
        with pytest.raises(FrameError) as caught:
            frame.decode_header(data, 0, LIMITS)
        assert caught.value.reason in REASONS


@pytest.mark.parametrize("message_bytes", [1001, 2**32 - 1])
@pytest.mark.parametrize("payload_bytes", [5001, 2**63, 2**64 - 1])
def test_what_is_announced_is_not_allocated(message_bytes: int, payload_bytes: int) -> None:
    tracemalloc.start()
    try:
        for lengths in ((message_bytes, 0), (0, payload_bytes), (1000, 5000)):
            decoder = FrameDecoder(LIMITS)
            decoder.feed(HEADER.pack(b"BY", 1, Kind.CALL, 0, 1, 0, *lengths))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_an_error_names_the_call_it_belongs_to() -> None:
    with pytest.raises(FrameError) as caught:
        frame.decode_header(HEADER.pack(b"BY", 1, Kind.CALL, 0, 77, 0, 1001, 0), 0, LIMITS)
    assert caught.value.call == 77


def test_the_header_is_as_the_format_says() -> None:
    assert HEADER_BYTES == 32
    data = frame.encode(Kind.CALL, 7, b"abc", 9, method=0x01020304, value=5)
    assert data == b"BY\x01\x02" + struct.pack("<IQIIQ", 0x01020304, 7, 5, 3, 9) + b"abc"
