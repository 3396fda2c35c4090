"""The probe service: what every process answers, to check and measure a connection.

`ThreadProbe` is for servers whose servicers are plain functions, `AioProbe` for event loops. Both pass one conformance
suite on every transport.
"""

import asyncio
import mmap
import os
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any

from blockyard.proto import errors
from blockyard.proto.call import CallContext, FileRange, Reply, payload_length
from blockyard.proto.probe_pb2 import ProbeReply, ProbeRequest, PullReply, PullRequest, PushReply, PushRequest
from crc32c import crc32c

PAGE_BYTES = 64 << 10
MAX_PIECE_BYTES = 64 << 20
MAX_DELAY_MS = 60_000
MAX_COUNT = 1_000_000
_PATTERN = bytes(i % 251 for i in range(PAGE_BYTES))


@cache
def pattern(length: int) -> bytes:
    """Return the bytes that `Pull` sends in a piece of that length: every page begins the same pattern anew."""
    return (_PATTERN * (length // PAGE_BYTES + 1))[:length]


@cache
def _checksums(length: int) -> list[int]:
    view = memoryview(pattern(length))
    return [crc32c(view[start : start + PAGE_BYTES]) for start in range(0, length, PAGE_BYTES)]


@cache
def _pattern_file() -> int:
    """Return the descriptor of a file in memory that holds the longest piece, so that sendfile has what to send."""
    descriptor = os.memfd_create("blockyard-probe")
    for _ in range(MAX_PIECE_BYTES // PAGE_BYTES):
        os.write(descriptor, _PATTERN)
    return descriptor


def _check(request: ProbeRequest) -> None:
    if request.delay_ms > MAX_DELAY_MS:
        raise errors.InvalidArgument(f"delay_ms {request.delay_ms}; at most {MAX_DELAY_MS} is allowed")
    if request.count > MAX_COUNT:
        raise errors.InvalidArgument(f"count {request.count}; at most {MAX_COUNT} is allowed")
    if request.error:
        raise errors.TABLE.get(request.error, errors.InvalidArgument)(f"asked for {request.error}")


def pieces(request: PullRequest) -> Iterator[Reply]:
    """Return the answers to a Pull, each with its payload."""
    if not 0 < request.piece_bytes <= MAX_PIECE_BYTES:
        raise errors.InvalidArgument(f"piece_bytes {request.piece_bytes}; 1 to {MAX_PIECE_BYTES} are allowed")
    for offset in range(0, request.total_bytes, request.piece_bytes):
        length = min(request.piece_bytes, request.total_bytes - offset)
        checksums = _checksums(length) if request.checksums else None
        yield Reply(PullReply(offset=offset, page_bytes=PAGE_BYTES, crc32c=checksums), pattern(length))


def _received(request: PushRequest, context: CallContext) -> PushReply:
    if context.payload_length == 0:
        return PushReply()
    buffer = mmap.mmap(
        -1, context.payload_length
    )  # touched as payload arrives: a caller may announce more than it sends
    context.receive_into(buffer)
    checksum = crc32c(buffer)
    if request.crc32c and request.crc32c != checksum:
        raise errors.CorruptBlock(f"CRC32C {checksum:#010x} arrived where {request.crc32c:#010x} was sent")
    return PushReply(received_bytes=len(buffer), crc32c=checksum)


class ThreadProbe:
    """The probe service in plain functions."""

    def Echo(self, request: ProbeRequest, context: CallContext) -> ProbeReply:
        _check(request)
        if request.delay_ms:
            time.sleep(request.delay_ms / 1000)
        return ProbeReply(body=request.body)

    def Count(self, request: ProbeRequest, context: CallContext) -> Iterator[ProbeReply]:
        for index in range(request.count):
            if request.delay_ms:
                time.sleep(request.delay_ms / 1000)
            yield ProbeReply(body=request.body, index=index)
        _check(request)

    def Sum(self, requests: Iterator[ProbeRequest], context: CallContext) -> ProbeReply:
        messages = total = 0
        for request in requests:
            _check(request)
            messages, total = messages + 1, total + len(request.body)
        return ProbeReply(index=messages, total_bytes=total)

    def Chat(self, requests: Iterator[ProbeRequest], context: CallContext) -> Iterator[ProbeReply]:
        for index, request in enumerate(requests):
            yield ProbeReply(body=self.Echo(request, context).body, index=index)

    def Pull(self, request: PullRequest, context: CallContext) -> Iterator[Reply]:
        for reply in pieces(request):
            yield Reply(reply.message, FileRange(_pattern_file(), 0, payload_length(reply.payload)))

    def Push(self, request: PushRequest, context: CallContext) -> PushReply:
        return _received(request, context)


class AioProbe:
    """The probe service for an event loop: an answer that needs no waiting is given at once."""

    def Echo(self, request: ProbeRequest, context: CallContext) -> Any:
        _check(request)
        reply = ProbeReply(body=request.body)
        return self._later(reply, request.delay_ms) if request.delay_ms else reply

    async def _later(self, reply: ProbeReply, delay_ms: int) -> ProbeReply:
        await asyncio.sleep(delay_ms / 1000)
        return reply

    async def Count(self, request: ProbeRequest, context: CallContext) -> AsyncIterator[ProbeReply]:
        for index in range(request.count):
            if request.delay_ms:
                await asyncio.sleep(request.delay_ms / 1000)
            yield ProbeReply(body=request.body, index=index)
        _check(request)

    async def Sum(self, requests: AsyncIterator[ProbeRequest], context: CallContext) -> ProbeReply:
        messages = total = 0
        async for request in requests:
            _check(request)
            messages, total = messages + 1, total + len(request.body)
        return ProbeReply(index=messages, total_bytes=total)

    async def Chat(self, requests: AsyncIterator[ProbeRequest], context: CallContext) -> AsyncIterator[ProbeReply]:
        index = 0
        async for request in requests:
            _check(request)
            yield await self._later(ProbeReply(body=request.body, index=index), request.delay_ms)
            index += 1

    def Pull(self, request: PullRequest, context: CallContext) -> Iterator[Reply]:
        return pieces(request)

    def Push(self, request: PushRequest, context: CallContext) -> PushReply:
        return _received(request, context)
