"""Payload in memory: pages that check themselves, buffers that are too short, files that are."""

import os

import pytest
from blockyard.proto import errors
from blockyard.proto.call import FileRange
from blockyard.proto.lane import CheckedBuffer, payload
from blockyard.proto.probe_pb2 import ProbeReply, PullReply
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st


def checksums(data: bytes, page: int) -> list[int]:
    """Return the CRC32C of every page."""
    return [crc32c(data[start : start + page]) for start in range(0, len(data), page)]


def arrive(buffer: CheckedBuffer, data: bytes, sizes: list[int]) -> None:
    """Let data arrive in pieces of the given sizes, the rest at once."""
    done = 0
    for size in [*sizes, len(data)]:
        stop = min(done + size, len(data))
        buffer.view[done:stop] = data[done:stop]
        done = stop
        buffer.arrived(done, end=done == len(data))
        if done == len(data):
            break


@given(st.binary(min_size=1, max_size=500), st.integers(1, 100), st.lists(st.integers(1, 120), max_size=10))
def test_pages_that_match_pass_however_they_arrive(data: bytes, page: int, sizes: list[int]) -> None:
    buffer = CheckedBuffer(bytearray(len(data)), checksums(data, page), page)
    arrive(buffer, data, sizes)
    assert bytes(buffer.view) == data


@given(st.binary(min_size=1, max_size=500), st.integers(1, 100), st.lists(st.integers(1, 120), max_size=10), st.data())
def test_one_wrong_byte_is_found_and_its_page_named(
    data: bytes, page: int, sizes: list[int], draw: st.DataObject
) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    spoilt = bytearray(data)
    spoilt[at] ^= 0x10
    buffer = CheckedBuffer(bytearray(len(data)), checksums(data, page), page)
    with pytest.raises(errors.CorruptBlock, match=f"page {at // page} "):
        arrive(buffer, bytes(spoilt), sizes)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 50))
def test_bytes_without_a_checksum_are_not_trusted(data: bytes, page: int) -> None:
    buffer = CheckedBuffer(bytearray(len(data)), checksums(data, page)[:-1], page)
    with pytest.raises(errors.CorruptBlock):
        arrive(buffer, data, [])


@given(st.binary(max_size=100), st.integers(0, 200))
def test_a_buffer_takes_what_fits_and_no_more(data: bytes, size: int) -> None:
    buffer = bytearray(size)
    if len(data) > size:
        with pytest.raises(errors.TooLarge):
            payload.fill(buffer, data)
        assert bytes(buffer) == bytes(size)
    else:
        assert payload.fill(buffer, data) == len(data)
        assert bytes(buffer) == data + bytes(size - len(data))


def test_a_read_only_buffer_is_refused() -> None:
    with pytest.raises(TypeError, match="read-only"):
        payload.fill(b"constant", b"x")


def test_payload_lands_in_data_where_there_is_such_a_field() -> None:
    reply = PullReply()
    payload.land(reply, b"bytes")
    assert reply.data == b"bytes"
    with pytest.raises(errors.MalformedReply, match="ProbeReply"):
        payload.land(ProbeReply(), b"bytes")


@given(st.binary(max_size=300), st.integers(0, 320), st.integers(0, 320))
def test_a_range_of_a_file_is_read_whole_or_not_at_all(data: bytes, offset: int, length: int) -> None:
    descriptor = os.memfd_create("range")
    try:
        os.write(descriptor, data)
        if length and offset + length > len(data):
            with pytest.raises(errors.CorruptBlock, match="before its range"):
                payload.read_all(FileRange(descriptor, offset, length))
        else:
            assert payload.read_all(FileRange(descriptor, offset, length)) == data[offset : offset + length]
    finally:
        os.close(descriptor)
