"""Payload over gRPC: in the field `data`, in pieces, from buffers and from files."""

import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto.call import FileRange, Reply
from blockyard.proto.door import payload
from blockyard.proto.door.payload import PIECE_BYTES, continuation, with_data
from blockyard.proto.probe_pb2 import PullReply, PullRequest, PushReply, PushRequest
from blockyard.proto.storage_pb2 import PageChecksums, ReadBlocksReply
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

CONTENT = os.urandom(PIECE_BYTES * 2 + 777)


class Bulk:
    """Sends a file or a buffer, and takes payload into a buffer of its own."""

    def __init__(self, source: Any, room: int = 1 << 20) -> None:
        self.source = source
        self.room = room

    def Echo(self, request: Any, context: Any) -> Any:
        raise errors.NotSupported

    Count = Sum = Chat = Echo

    def Pull(self, request: PullRequest, context: Any) -> Any:
        yield Reply(PullReply(page_bytes=4096, crc32c=[1, 2, 3]), self.source)
        yield PullReply(offset=9)

    def Push(self, request: PushRequest, context: Any) -> PushReply:
        buffer = bytearray(self.room)
        length = context.payload_length
        assert context.receive_into(buffer) == length
        assert context.payload_length == 0
        return PushReply(received_bytes=length, crc32c=crc32c(buffer[:length]))


@given(st.binary(max_size=300), st.integers(0, 2**40))
def test_data_joined_as_bytes_reads_like_data_that_was_set(data: bytes, offset: int) -> None:
    message = PullReply(offset=offset, crc32c=[7])
    assert PullReply.FromString(with_data(message, data)) == PullReply(offset=offset, crc32c=[7], data=data)


def test_later_pieces_repeat_plain_fields_only() -> None:
    first = ReadBlocksReply(
        range=3, offset=4, length=5, checksums=PageChecksums(), error=errors.to_detail(errors.Busy())
    )
    assert continuation(first) == ReadBlocksReply(range=3, offset=4, length=5)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1])
def test_pieces_are_at_most_one_mebibyte_and_at_least_one(size: int) -> None:
    messages = [PullReply.FromString(each) for each in payload.pieces_here(Reply(PullReply(offset=1), bytes(size)))]
    assert len(messages) == max(1, -(-size // PIECE_BYTES))
    assert sum(len(each.data) for each in messages) == size
    assert max(len(each.data) for each in messages) <= PIECE_BYTES


@pytest.fixture
def source(tmp_path: Path) -> Iterator[FileRange]:
    path = tmp_path / "block"
    path.write_bytes(b"before" + CONTENT + b"after")
    descriptor = os.open(path, os.O_RDONLY)
    yield FileRange(descriptor, 6, len(CONTENT))
    os.close(descriptor)


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("kind", ["file", "bytes", "memoryview"])
class TestReplies:
    @pytest.fixture
    def content(self, kind: str, source: FileRange) -> Any:
        return {"file": source, "bytes": CONTENT, "memoryview": memoryview(CONTENT)}[kind]

    async def test_arrive_in_pieces(self, serve: Any, workers: Any, content: Any, threads: bool) -> None:
        served = await serve(Bulk(content), workers=workers if threads else None)
        replies = [reply async for reply in served.stub.Pull(PullRequest())]
        assert [len(reply.data) for reply in replies] == [PIECE_BYTES, PIECE_BYTES, 777, 0]
        assert b"".join(reply.data for reply in replies) == CONTENT
        assert [list(reply.crc32c) for reply in replies] == [[1, 2, 3], [], [], []]
        assert replies[2].page_bytes == 4096
        assert replies[3].offset == 9

    async def test_move_into_the_callers_buffers(self, serve: Any, workers: Any, content: Any, threads: bool) -> None:
        served = await serve(Bulk(content), workers=workers if threads else None)
        whole, filled = bytearray(len(CONTENT)), 0

        def into(message: Any, length: int) -> memoryview:
            return memoryview(whole)[filled : filled + length]

        stream: AsyncIterator[Any] = served.stub.Pull(PullRequest(), into=into)
        for length in (PIECE_BYTES, PIECE_BYTES, 777, 0):
            reply = await anext(stream)
            assert reply.data == b""
            filled += length
        assert whole == CONTENT


async def test_a_file_that_is_too_short_is_a_corrupt_block(serve: Any, source: FileRange) -> None:
    served = await serve(Bulk(FileRange(source.fd, source.offset, source.length + 1000)))
    with pytest.raises(errors.CorruptBlock):
        [reply async for reply in served.stub.Pull(PullRequest())]


@pytest.mark.parametrize("threads", [False, True])
async def test_request_payload_reaches_the_servicers_buffer(
    serve: Any, workers: Any, source: FileRange, threads: bool
) -> None:
    served = await serve(Bulk(b""), workers=workers if threads else None)
    body = CONTENT[:5000]
    expected = PushReply(received_bytes=5000, crc32c=crc32c(body))
    assert await served.stub.Push(PushRequest(data=body)) == expected
    assert await served.stub.Push(PushRequest(), payload=memoryview(body)) == expected
    assert await served.stub.Push(PushRequest(), payload=FileRange(source.fd, source.offset, 5000)) == expected


async def test_request_payload_that_does_not_fit_is_refused(serve: Any) -> None:
    served = await serve(Bulk(b"", room=10))
    with pytest.raises(errors.TooLarge):
        await served.stub.Push(PushRequest(data=bytes(11)))
