"""The channel to the metadata group on an event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from random import Random
from typing import Any, cast

import grpc
from blockyard.proto import errors
from blockyard.proto.group.channel import DEFAULT_TIMEOUT_S
from blockyard.proto.group.routing import ASK_S, KEEPALIVE_S, Errand, Route
from blockyard.proto.lane import AioChannel, Limits
from blockyard.proto.lane.aio_stream import AioStream
from blockyard.proto.raft_pb2 import MetaStatusReply, MetaStatusRequest
from blockyard.proto.raft_pb2_grpc import MetaAdminStub
from blockyard.proto.retry import is_repeatable


class AioGroupChannel:
    """A channel to whichever member leads; generated stubs take it in place of a gRPC channel.

    Every call has a deadline: `timeout` seconds, or the channel's own; all its attempts are within. Calls raise
    BlockyardError. To be used on one event loop.
    """

    def __init__(
        self,
        addresses: Iterable[str],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        limits: Limits | None = None,
        random: Random | None = None,
    ) -> None:
        """Make a channel to the group of which `addresses` (`host:port`, of the lane) are members."""
        self.timeout_s = timeout_s
        self._random = random or Random()
        self._limits = limits
        self._route = Route(addresses)
        self._channels: dict[str, AioChannel] = {}
        self._finding: asyncio.Task[str] | None = None
        self._closed = False

    # ------------------------------------------------------------------------------------------ what stubs ask for

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return a coroutine function for one unary method."""

        async def call(
            request: Any,
            timeout: float | None = None,  # noqa: ASYNC109 - as generated stubs name it
            **_: Any,
        ) -> Any:
            def attempt(channel: AioChannel, left_s: float) -> Awaitable[Any]:
                return channel.unary_unary(method, request_serializer, response_deserializer)(request, timeout=left_s)

            return await self.run(attempt, self._errand(method, request, timeout))

        return call

    def unary_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., "AioGroupStream"]:
        """Return a callable that starts a method with a stream of answers."""

        def call(request: Any, timeout: float | None = None, **_: Any) -> AioGroupStream:
            def attempt(channel: AioChannel, left_s: float) -> AioStream:
                opened = channel.unary_stream(method, request_serializer, response_deserializer)
                return opened(request, timeout=left_s)

            return AioGroupStream(self, attempt, self._errand(method, request, timeout))

        return call

    # ------------------------------------------------------------------------------------------ calls

    @property
    def members(self) -> tuple[str, ...]:
        """Lane addresses of the members known."""
        return self._route.members

    async def close(self) -> None:
        """Close every connection; calls under way fail with ConnectionLost or Unavailable."""
        self._closed = True
        if self._finding is not None:
            self._finding.cancel()
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    async def __aenter__(self) -> "AioGroupChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def run(self, attempt: Callable[[AioChannel, float], Awaitable[Any]], errand: Errand) -> Any:
        """Return what `attempt` returns at the leader, wherever it is by then. Raises the call's error."""
        while True:
            address = ""
            try:
                left_s = max(0.001, errand.deadline_s - time.monotonic())
                address = await self._leader(left_s)
                return await attempt(self._channel(address), left_s)
            except errors.BlockyardError as error:
                self.failed(address, error)
                wait = None if self._closed else errand.wait_after(error, time.monotonic())
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    def failed(self, address: str, error: errors.BlockyardError) -> None:
        """Take in that a call at `address` ended with `error`."""
        self._route.failed(address, error)

    def _errand(self, method: str, request: Any, timeout_s: float | None) -> Errand:
        deadline_s = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        return Errand(self._random, repeatable=is_repeatable(method, request), deadline_s=deadline_s)

    def _channel(self, address: str) -> AioChannel:
        if self._closed:
            raise errors.Unavailable("the channel to the metadata group was closed")
        if address not in self._channels:
            self._channels[address] = AioChannel(
                address, connect_timeout_s=ASK_S, keepalive_s=KEEPALIVE_S, limits=self._limits
            )
        return self._channels[address]

    # ------------------------------------------------------------------------------------------ the leader

    async def _leader(self, timeout_s: float) -> str:
        """Return the leader's address. Raises Unavailable when no member says in time that it leads."""
        if leader := self._route.leader:
            return leader
        if self._finding is None or self._finding.done():
            self._finding = asyncio.get_running_loop().create_task(self._find())
            self._finding.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        finding = self._finding
        await asyncio.wait((finding,), timeout=timeout_s)
        if not finding.done() or finding.cancelled():
            raise errors.Unavailable("the search for the metadata group's leader takes longer than this call may")
        return finding.result()

    async def _find(self) -> str:
        members = self.members
        said: dict[str, str] = {}
        asking = [asyncio.get_running_loop().create_task(self._ask(address)) for address in members]
        try:
            for answered in asyncio.as_completed(asking, timeout=ASK_S + 0.1):
                address, answer = await answered
                if isinstance(answer, errors.BlockyardError):
                    said[address] = answer.message
                    continue
                said[address] = "does not lead"
                if self._route.heard(address, answer):
                    return address
        except TimeoutError:
            pass  # who did not answer is in the error
        finally:
            for task in asking:
                task.cancel()
        raise self._route.nobody_leads(said)

    async def _ask(self, address: str) -> tuple[str, MetaStatusReply | errors.BlockyardError]:
        try:
            stub: Any = MetaAdminStub(cast(grpc.Channel, self._channel(address)))
            return address, await stub.Status(MetaStatusRequest(), timeout=ASK_S)
        except errors.BlockyardError as error:
            return address, error


class AioGroupStream:
    """The answers of one call. Iterate over it; `cancel` it to leave early.

    Until the first answer it looks for the leader like any call. After that an error ends it, since only its user knows
    where to go on from.
    """

    def __init__(
        self, group: AioGroupChannel, attempt: Callable[[AioChannel, float], AioStream], errand: Errand
    ) -> None:
        self._group = group
        self._errand = errand
        self._attempt = attempt
        self._stream: AioStream | None = None
        self._address = ""
        self._cancelled = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._stream is None:
            return await self._group.run(self._first, self._errand)
        try:
            return await anext(self._stream)
        except errors.BlockyardError as error:
            self._group.failed(self._address, error)
            raise

    def cancel(self) -> None:
        """Give the call up; its server is told."""
        self._cancelled = True
        if self._stream is not None:
            self._stream.cancel()

    async def _first(self, channel: AioChannel, left_s: float) -> Any:
        if self._cancelled:
            raise errors.Cancelled("the stream was given up")
        self._address = channel.address
        self._stream = self._attempt(channel, left_s)
        try:
            return await anext(self._stream)
        except errors.BlockyardError:
            self._stream = None
            raise
