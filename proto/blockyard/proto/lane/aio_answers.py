"""Answers of the event-loop server that are not there at once: awaited, streamed, or read from a file."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from blockyard.proto.call import Deferred, FileRange, Reply
from blockyard.proto.lane import frame, payload
from blockyard.proto.lane.aio_call import AioCall, StreamCredit

if TYPE_CHECKING:
    from blockyard.proto.lane.aio_connection import Connection

BURST = 64
"""Answers of a stream after which the event loop has a turn, however fast the caller takes them."""


def begin(connection: "Connection", call: AioCall, result: Any, window: int) -> None:
    """Await what a servicer returned, or iterate over it; `window` is the caller's, for streams."""
    connection.calls[call.id] = call
    if call.method.response_streaming:
        call.window = StreamCredit(window)
        call.task = connection.loop.create_task(_pump(connection, call, call.window, result))
    elif isinstance(result, Deferred):
        result.then(call.answered)
        return
    elif isinstance(result, asyncio.Future):
        call.task = result
    elif isinstance(result, Reply):
        call.task = connection.loop.create_task(_ready(result))
    else:
        call.task = connection.loop.create_task(result)
    call.task.add_done_callback(lambda task: connection.done(call, task))


def is_ready(result: Any) -> bool:
    """Return whether an answer can be sent without waiting for a disk."""
    return not (isinstance(result, Reply) and isinstance(result.payload, FileRange))


async def _ready(reply: Reply) -> Reply:
    if isinstance(reply.payload, FileRange):
        return Reply(reply.message, await asyncio.to_thread(payload.read_all, reply.payload))
    return reply


async def _pump(connection: "Connection", call: AioCall, window: StreamCredit, result: Any) -> None:
    sent = 0
    async for item in _iterate(result):
        reply = await _ready(item) if isinstance(item, Reply) else item
        await window.spend()
        await connection.output.writable.wait()
        connection.send(call, frame.MESSAGE, reply)
        sent += 1
        if sent % BURST == 0:
            await asyncio.sleep(0)


async def _iterate(result: Any) -> AsyncIterator[Any]:
    """Iterate over what a streaming servicer returned, async or not."""
    if hasattr(result, "__aiter__"):
        async for item in result:
            yield item
    else:
        for item in result:
            yield item
