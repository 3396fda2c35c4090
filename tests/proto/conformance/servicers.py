"""Probe servicers that tell a test what they saw: when a call began, when it was over, what time it had left."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from blockyard.proto import errors
from blockyard.proto.call import CallContext
from blockyard.proto.common_pb2 import ACTOR_OPERATOR, Address
from blockyard.proto.probe import AioProbe, ThreadProbe
from blockyard.proto.probe_pb2 import ProbeReply, ProbeRequest

WHOLE = "every attribute"
UNEXPECTED = "unexpected"
FIRST = "after the first request"
LONG_MS = 20_000
"""A delay that no test waits for: the call is given up, or ended by its deadline."""


def whole_error() -> errors.BlockyardError:
    """Return an error none of whose attributes is what its class says."""
    leader = Address(host="10.0.0.7", lane_port=7001)
    error = errors.NotLeader("ask m2", "member m1", definite=False, leader=leader, map_epoch=41, retry_after_ms=250)
    error.actor = ACTOR_OPERATOR
    return error


class Watch:
    """What the servicer saw."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()
        self.time_left: list[float | None] = []

    def see(self, context: CallContext) -> None:
        """A call has begun."""
        self.time_left.append(context.time_remaining())
        context.add_done_callback(self.over.set)
        self.begun.set()

    def answer(self, request: ProbeRequest) -> ProbeReply | None:
        """Return or raise what a request asks for in particular."""
        if request.error == WHOLE:
            raise whole_error()
        if request.error == UNEXPECTED:
            raise ZeroDivisionError("a secret of the server")
        return ProbeReply(body=bytes(request.count)) if request.count else None


class WatchedAioProbe(AioProbe):
    """On an event loop."""

    def __init__(self) -> None:
        self.watch = Watch()

    def Echo(self, request: ProbeRequest, context: CallContext) -> Any:
        self.watch.see(context)
        return self.watch.answer(request) or super().Echo(request, context)

    async def Count(self, request: ProbeRequest, context: CallContext) -> AsyncIterator[ProbeReply]:
        self.watch.see(context)
        async for reply in super().Count(request, context):
            yield reply

    async def Sum(self, requests: AsyncIterator[ProbeRequest], context: CallContext) -> ProbeReply:
        self.watch.see(context)
        if (first := await anext(requests, None)) is None:
            return ProbeReply()
        if first.error == FIRST:
            raise errors.QuotaExceeded("no more than one")
        reply = await super().Sum(requests, context)
        return ProbeReply(index=reply.index + 1, total_bytes=reply.total_bytes + len(first.body))

    async def Chat(self, requests: AsyncIterator[ProbeRequest], context: CallContext) -> AsyncIterator[ProbeReply]:
        self.watch.see(context)
        async for reply in super().Chat(requests, context):
            yield reply


class PlainAioProbe(WatchedAioProbe):
    """On an event loop, its streams of answers plain generators."""

    def Count(self, request: ProbeRequest, context: CallContext) -> Any:
        return (ProbeReply(body=request.body, index=index) for index in range(request.count))


class WatchedThreadProbe(ThreadProbe):
    """In plain functions."""

    def __init__(self) -> None:
        self.watch = Watch()

    def Echo(self, request: ProbeRequest, context: CallContext) -> ProbeReply:
        self.watch.see(context)
        ends_at = time.monotonic() + request.delay_ms / 1000
        while time.monotonic() < ends_at:
            if context.cancelled():
                self.watch.over.set()
                raise errors.Cancelled("nobody waits for it")
            time.sleep(0.005)
        delay_ms, request.delay_ms = request.delay_ms, 0
        reply = self.watch.answer(request) or super().Echo(request, context)
        request.delay_ms = delay_ms
        return reply

    def Count(self, request: ProbeRequest, context: CallContext) -> Iterator[ProbeReply]:
        self.watch.see(context)
        yield from super().Count(request, context)

    def Sum(self, requests: Iterator[ProbeRequest], context: CallContext) -> ProbeReply:
        self.watch.see(context)
        if (first := next(requests, None)) is None:
            return ProbeReply()
        if first.error == FIRST:
            raise errors.QuotaExceeded("no more than one")
        reply = super().Sum(requests, context)
        return ProbeReply(index=reply.index + 1, total_bytes=reply.total_bytes + len(first.body))

    def Chat(self, requests: Iterator[ProbeRequest], context: CallContext) -> Iterator[ProbeReply]:
        self.watch.see(context)
        yield from super().Chat(requests, context)
