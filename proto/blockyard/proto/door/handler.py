"""Runs a servicer's method under grpc.aio: parses, calls, maps errors, counts.

The servicer is the same object that the lane serves. Methods that are coroutines, or that return a future, run on the
event loop. Plain methods and plain generators run inline on the loop, as they only touch memory, unless the server was
given worker threads: then they may block, and receive their requests from a plain iterator.

A request stream whose caller has gone ends with `Cancelled`, never as if it were complete.
"""

import asyncio
import concurrent.futures
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor
from typing import Any

import grpc
import grpc.aio
from blockyard.proto import errors, logs
from blockyard.proto.call import FileRange, Reply
from blockyard.proto.door import payload
from blockyard.proto.door.call import DoorCall
from blockyard.proto.door.limits import LONGEST_MESSAGE_BYTES, LONGEST_PATH_BYTES, STATUS_CODES
from blockyard.proto.lane.methods import Method
from blockyard.proto.lane.payload import read_all
from blockyard.proto.metrics import OK, TransportMetrics

Context = grpc.aio.ServicerContext[Any, Any]

_log = logs.get(__name__)


class Handler:
    """One method of one servicer."""

    def __init__(
        self,
        method: Method,
        metrics: TransportMetrics,
        *,
        workers: Executor | None,
        default_deadline_s: float,
        message_limit_bytes: int,
        started: Callable[[Context], None],
    ) -> None:
        self.method = method
        self._transport = metrics
        self._workers = None if _is_async(method.behaviour) else workers
        self._default_deadline_s = default_deadline_s
        self._limit = message_limit_bytes
        self._started = started

    def grpc_handler(self) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return what grpc.aio registers; it sees bytes only."""
        match self.method.request_streaming, self.method.response_streaming:
            case False, False:
                return grpc.unary_unary_rpc_method_handler(self._unary)
            case False, True:
                return grpc.unary_stream_rpc_method_handler(self._stream)
            case True, False:
                return grpc.stream_unary_rpc_method_handler(self._unary)
        return grpc.stream_stream_rpc_method_handler(self._stream)

    # --- The two shapes of a call ------------------------------------------------------------------------------------

    async def _unary(self, requests: Any, context: Context) -> bytes:
        async def answer(call: DoorCall) -> bytes:
            exchange = Exchange(self, call, context)
            async with asyncio.timeout(self._default_deadline_s if call.time_remaining() is None else None):
                result = await self._call(exchange.argument(requests), call)
            return self._checked(await self._serialized(result))

        data: bytes = await self._run(context, answer)
        self._transport.sent_bytes += len(data)
        return data

    async def _stream(self, requests: Any, context: Context) -> None:
        async def answers(call: DoorCall) -> None:
            exchange = Exchange(self, call, context)
            if self._workers is not None:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._workers, exchange.pump_here, exchange.argument(requests))
            else:
                await exchange.pump(self.method.behaviour(exchange.argument(requests), call))

        await self._run(context, answers)

    async def _call(self, argument: Any, call: DoorCall) -> Any:
        if self._workers is None:
            result = self.method.behaviour(argument, call)
        else:
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(self._workers, self.method.behaviour, argument, call)
        return await result if inspect.isawaitable(result) else result

    async def _run(self, context: Context, work: Callable[[DoorCall], Awaitable[Any]]) -> Any:
        """Run one call to its end: its errors become the call's status, its outcome is counted."""
        call = DoorCall(self.method, context)
        began, outcome = time.perf_counter(), OK
        try:
            self._started(context)
            return await work(call)
        except asyncio.CancelledError as raised:
            outcome = errors.Cancelled.__name__
            if _is_being_cancelled():
                raise  # the caller has gone or its deadline has passed: there is nobody to answer
            await abort(context, errors.from_exception(raised))
        except Exception as raised:  # noqa: BLE001 - a servicer's boundary: whatever it raised becomes the call's error
            error = errors.from_exception(raised)
            outcome = type(error).__name__
            if isinstance(error, errors.InternalError):
                _log.error("call_failed", method=self.method.name, peer=call.peer(), exc_info=raised)
            await abort(context, error)
        finally:
            call.finish()
            self.method.metrics.done(time.perf_counter() - began, outcome)

    # --- Messages ----------------------------------------------------------------------------------------------------

    def parse(self, call: DoorCall, data: bytes) -> Any:
        """Count and parse a request message. Raises MalformedRequest."""
        self._transport.received_bytes += len(data)
        try:
            return call.message(data)
        except errors.MalformedRequest:
            self._transport.refused("malformed")
            raise

    async def _serialized(self, result: Any) -> bytes:
        return (
            await payload.whole(result, read_elsewhere) if isinstance(result, Reply) else self.method.serialize(result)
        )

    def _checked(self, data: bytes) -> bytes:
        if len(data) > self._limit:
            found = f"the reply of {self.method.name} has {len(data):,} bytes, over the limit of {self._limit:,}"
            raise errors.TooLarge(found, definite=False)
        return data

    async def send(self, context: Context, data: bytes) -> None:
        """Send one message of a stream, as fast as the caller takes them."""
        self._transport.sent_bytes += len(data)
        await context.write(self._checked(data))


class Exchange:
    """The messages of one call, in both directions and for both worlds: the loop and the worker threads."""

    def __init__(self, handler: Handler, call: DoorCall, context: Context) -> None:
        self._handler = handler
        self._call = call
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._has_sent = False
        self._awaited: set[concurrent.futures.Future[Any]] = set()
        call.add_done_callback(self._let_go)

    def argument(self, requests: Any) -> Any:
        """Return what the servicer gets: its request, or an iterator of its requests."""
        if not self._handler.method.request_streaming:
            return self._handler.parse(self._call, requests)
        messages = self._messages(requests)
        return messages if self._handler._workers is None else self._messages_here(messages)

    async def pump(self, result: Any) -> None:
        """Send what an iterator or async iterator yields."""
        if inspect.isawaitable(result):
            result = await result
        if hasattr(result, "__aiter__"):
            async for item in result:
                await self._send(item)
        else:
            for item in result:
                await self._send(item)

    def pump_here(self, argument: Any) -> None:
        """Call the servicer and send what it yields, from a worker thread; its generator ends in this thread too."""
        items = iter(self._handler.method.behaviour(argument, self._call))
        try:
            for item in items:
                for data in self._serialized_here(item):
                    self._from_thread(self._write(data))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    async def _messages(self, requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in requests:
            yield self._handler.parse(self._call, data)
        if self._has_sent:
            await asyncio.sleep(0)  # a caller that has gone ends the stream first and cancels this task second
        else:
            await self._context.send_initial_metadata(())  # fails when the caller has gone
            self._has_sent = True
        if self._call.cancelled():
            raise errors.Cancelled("the caller has gone before its requests ended")

    def _messages_here(self, messages: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self._from_thread(_next(messages))
            except _Ended:
                return

    def _from_thread(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` on the loop and wait for it; raises Cancelled once the call is over."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._awaited.add(future)
        if self._call.cancelled():
            future.cancel()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise errors.Cancelled("the caller has gone") from None
        finally:
            self._awaited.discard(future)

    def _let_go(self) -> None:
        """The call is over: worker threads that wait for the loop need not wait longer."""
        for future in list(self._awaited):
            future.cancel()

    async def _send(self, item: Any) -> None:
        if isinstance(item, Reply):
            async for data in payload.pieces(item, read_elsewhere):
                await self._write(data)
        else:
            await self._write(self._handler.method.serialize(item))

    def _serialized_here(self, item: Any) -> Iterator[bytes]:
        if isinstance(item, Reply):
            yield from payload.pieces_here(item)
        else:
            yield self._handler.method.serialize(item)

    async def _write(self, data: bytes) -> None:
        self._has_sent = True
        await self._handler.send(self._context, data)


class _Ended(Exception):
    """The request stream is complete."""


async def _next(messages: AsyncIterator[Any]) -> Any:
    try:
        return await anext(messages)
    except StopAsyncIteration:
        raise _Ended from None


async def read_elsewhere(source: FileRange) -> bytes:
    """Read a file range on a thread: a disk may make it wait."""
    return await asyncio.to_thread(read_all, source)


async def abort(context: Context, error: errors.BlockyardError) -> None:
    """End the call with `error`: its status and sentence for any gRPC client, all of it in the metadata for ours."""
    detail = errors.to_detail(error)
    detail.message = _cut(detail.message, LONGEST_MESSAGE_BYTES)
    detail.subject = _cut(detail.subject, LONGEST_PATH_BYTES)
    metadata = ((errors.METADATA_KEY, detail.SerializeToString()),)
    await context.abort(STATUS_CODES[error.grpc_status], detail.message, metadata)


def _cut(text: str, longest_bytes: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= longest_bytes else encoded[:longest_bytes].decode(errors="ignore") + "…"


def _is_async(behaviour: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
