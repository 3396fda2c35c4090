"""Payload beside messages: where it lands, who checks it, and that a call which refuses it harms no other."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto.call import FileRange
from blockyard.proto.lane import CheckedBuffer
from blockyard.proto.probe import PAGE_BYTES, pattern
from blockyard.proto.probe_pb2 import ProbeRequest, PullReply, PullRequest, PushRequest
from crc32c import crc32c

from tests.proto.conformance.clients import Client
from tests.proto.conformance.transports import Transport

PIECE_BYTES = 5 * PAGE_BYTES + 17
TOTAL_BYTES = 3 * PIECE_BYTES + 1234


async def all_of(answers: Any) -> list[Any]:
    """Return every answer of a stream."""
    return [answer async for answer in answers]


def pull(checksums: bool = False) -> PullRequest:
    """Ask for four pieces, the last one shorter."""
    return PullRequest(total_bytes=TOTAL_BYTES, piece_bytes=PIECE_BYTES, checksums=checksums)


def whole() -> bytes:
    """Return what `pull` asks for."""
    return pattern(PIECE_BYTES) * 3 + pattern(1234)


async def alive(client: Client) -> bool:
    """Return whether the channel still carries calls and payload."""
    reply = await client.ask("Push", PushRequest(), payload=b"after")
    return bool(reply.received_bytes == 5 and (await client.ask("Echo", ProbeRequest(body=b"x"))).body == b"x")


# ---------------------------------------------------------------------------------------------------- to the caller


async def test_payload_lands_in_the_buffer_that_is_named_for_it(client: Client) -> None:
    buffer = bytearray(TOTAL_BYTES)

    def into(reply: PullReply, length: int) -> memoryview:
        return memoryview(buffer)[reply.offset : reply.offset + length]

    replies = await all_of(client.stream("Pull", pull(), into=into))
    assert bytes(buffer) == whole()
    assert [reply.offset for reply in replies] == [0, PIECE_BYTES, 2 * PIECE_BYTES, 3 * PIECE_BYTES]
    assert all(not reply.data for reply in replies)


async def test_payload_lands_in_one_buffer_for_all(client: Client) -> None:
    buffer = bytearray(PIECE_BYTES)
    async for reply in client.stream("Pull", pull(), into=buffer):
        length = min(PIECE_BYTES, TOTAL_BYTES - reply.offset)
        assert bytes(buffer[:length]) == pattern(length)


async def test_payload_without_a_buffer_lands_in_the_message(client: Client) -> None:
    replies = await all_of(client.stream("Pull", pull()))
    assert b"".join(reply.data for reply in replies) == whole()


async def test_payload_that_is_dropped_harms_nobody(client: Client) -> None:
    replies = await all_of(client.stream("Pull", pull(), into=lambda reply, length: None))
    assert len(replies) == 4
    assert await alive(client)


async def test_payload_is_checked_while_it_arrives(client: Client) -> None:
    buffer = bytearray(PIECE_BYTES)

    def into(reply: PullReply, length: int) -> CheckedBuffer:
        return CheckedBuffer(memoryview(buffer)[:length], list(reply.crc32c), reply.page_bytes)

    assert len(await all_of(client.stream("Pull", pull(checksums=True), into=into))) == 4


@pytest.mark.parametrize("page", [0, 3, 5])
async def test_a_page_that_does_not_match_is_corrupt(client: Client, page: int) -> None:
    def into(reply: PullReply, length: int) -> CheckedBuffer:
        checksums = list(reply.crc32c)
        checksums[page] ^= 1
        return CheckedBuffer(bytearray(length), checksums, reply.page_bytes)

    with pytest.raises(errors.CorruptBlock, match=f"page {page} "):
        await all_of(client.stream("Pull", pull(checksums=True), into=into))
    assert await alive(client)


async def test_a_buffer_that_is_too_short_is_refused(client: Client) -> None:
    with pytest.raises(errors.TooLarge):
        await all_of(client.stream("Pull", pull(), into=bytearray(PIECE_BYTES - 1)))
    assert await alive(client)


async def test_an_error_of_the_function_that_names_the_buffer_reaches_the_caller(client: Client) -> None:
    def into(reply: PullReply, length: int) -> bytearray:
        raise LookupError("no buffer left")

    with pytest.raises(LookupError, match="no buffer left"):
        await all_of(client.stream("Pull", pull(), into=into))
    assert await alive(client)


async def test_a_buffer_that_cannot_be_written_is_refused(client: Client) -> None:
    with pytest.raises(TypeError):
        await all_of(client.stream("Pull", pull(), into=bytes(PIECE_BYTES)))
    assert await alive(client)


# ---------------------------------------------------------------------------------------------------- to the server


@pytest.fixture
def source() -> Iterator[int]:
    """A file of 100,000 bytes."""
    descriptor = os.memfd_create("source")
    os.write(descriptor, pattern(100_000))
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
async def test_a_buffer_is_sent_as_payload(client: Client, form: Any) -> None:
    body = pattern(700_001)
    reply = await client.ask("Push", PushRequest(crc32c=crc32c(body)), payload=form(body))
    assert (reply.received_bytes, reply.crc32c) == (len(body), crc32c(body))


async def test_a_range_of_a_file_is_sent_as_payload(client: Client, source: int) -> None:
    body = pattern(100_000)[1000:91_000]
    reply = await client.ask("Push", PushRequest(crc32c=crc32c(body)), payload=FileRange(source, 1000, 90_000))
    assert (reply.received_bytes, reply.crc32c) == (90_000, crc32c(body))


async def test_no_payload_is_none(client: Client) -> None:
    assert (await client.ask("Push", PushRequest())).received_bytes == 0
    assert (await client.ask("Push", PushRequest(), payload=b"")).received_bytes == 0


async def test_payload_may_come_in_the_message(client: Client) -> None:
    assert (await client.ask("Push", PushRequest(data=b"inside"))).received_bytes == 6


async def test_payload_that_does_not_match_is_corrupt(client: Client) -> None:
    with pytest.raises(errors.CorruptBlock):
        await client.ask("Push", PushRequest(crc32c=1), payload=pattern(100_000))
    assert await alive(client)


async def test_a_file_that_is_shorter_than_its_range_ends_the_call_and_no_other(client: Client, source: int) -> None:
    with pytest.raises(errors.CorruptBlock):
        await client.ask("Push", PushRequest(), payload=FileRange(source, 0, 100_001))
    assert await alive(client)


async def test_payload_is_not_taken_by_a_method_that_has_none(transport: Transport, client: Client) -> None:
    """A stub that says otherwise is one of another version."""
    if not transport.is_lane or transport.channel == "blocking":
        pytest.skip("gRPC has no place for it, and the blocking channel drops it")
    with pytest.raises(errors.MalformedRequest):
        await client.ask("Echo", ProbeRequest(), payload=b"x" * 100_000)
    assert await alive(client)
