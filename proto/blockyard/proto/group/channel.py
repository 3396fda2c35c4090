"""The channel to the metadata group for threads."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from random import Random
from typing import Any, cast

import grpc
from blockyard.proto import errors
from blockyard.proto.group.routing import ASK_S, KEEPALIVE_S, Errand, Route
from blockyard.proto.lane import Channel, Limits
from blockyard.proto.lane.stream import Stream
from blockyard.proto.raft_pb2 import MetaStatusReply, MetaStatusRequest
from blockyard.proto.raft_pb2_grpc import MetaAdminStub
from blockyard.proto.retry import is_repeatable

DEFAULT_TIMEOUT_S = 30.0


class GroupChannel:
    """A channel to whichever member leads; generated stubs take it in place of a gRPC channel.

    Every call has a deadline: `timeout` seconds, or the channel's own; all its attempts are within. Calls raise
    BlockyardError. Any number of threads may use it.
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
        self.random = random or Random()
        self._limits = limits
        self._route = Route(addresses)
        self._lock = threading.Lock()  # guards the route and the table of channels
        self._finding = threading.Lock()
        self._channels: dict[str, Channel] = {}
        self._closed = threading.Event()

    # ------------------------------------------------------------------------------------------ what stubs ask for

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., Any]:
        """Return a callable for one unary method."""

        def call(request: Any, timeout: float | None = None, **_: Any) -> Any:
            def attempt(channel: Channel, left_s: float) -> Any:
                return channel.unary_unary(method, request_serializer, response_deserializer)(request, timeout=left_s)

            return self.run(attempt, self._errand(method, request, timeout))

        return call

    def unary_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., "GroupStream"]:
        """Return a callable that starts a method with a stream of answers."""

        def call(request: Any, timeout: float | None = None, **_: Any) -> GroupStream:
            def attempt(channel: Channel, left_s: float) -> Stream:
                opened = channel.unary_stream(method, request_serializer, response_deserializer)
                return opened(request, timeout=left_s)

            return GroupStream(self, attempt, self._errand(method, request, timeout))

        return call

    # ------------------------------------------------------------------------------------------ calls

    @property
    def members(self) -> tuple[str, ...]:
        """Lane addresses of the members known."""
        return self._route.members

    def close(self) -> None:
        """Close every connection; calls under way fail with ConnectionLost or Unavailable."""
        self._closed.set()
        with self._lock:
            channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.close()

    def __enter__(self) -> "GroupChannel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, attempt: Callable[[Channel, float], Any], errand: Errand) -> Any:
        """Return what `attempt` returns at the leader, wherever it is by then. Raises the call's error."""
        while True:
            address = ""
            try:
                left_s = max(0.001, errand.deadline_s - time.monotonic())
                address = self._leader(left_s)
                return attempt(self._channel(address), left_s)
            except errors.BlockyardError as error:
                self.pause_after(address, error, errand)

    def pause_after(self, address: str, error: errors.BlockyardError, errand: Errand) -> None:
        """Wait until a call that failed at `address` may be made again. Raises `error` when it may not."""
        self.failed(address, error)
        wait = None if self._closed.is_set() else errand.wait_after(error, time.monotonic())
        if wait is None:
            raise error
        self._closed.wait(wait)

    def failed(self, address: str, error: errors.BlockyardError) -> None:
        """Take in that a call at `address` ended with `error`."""
        with self._lock:
            self._route.failed(address, error)

    def _errand(self, method: str, request: Any, timeout: float | None) -> Errand:
        timeout_s = self.timeout_s if timeout is None else timeout
        return Errand(self.random, repeatable=is_repeatable(method, request), deadline_s=time.monotonic() + timeout_s)

    def _channel(self, address: str) -> Channel:
        with self._lock:
            if self._closed.is_set():
                raise errors.Unavailable("the channel to the metadata group was closed")
            if address not in self._channels:
                self._channels[address] = Channel(
                    address, connect_timeout_s=ASK_S, keepalive_s=KEEPALIVE_S, limits=self._limits
                )
            return self._channels[address]

    # ------------------------------------------------------------------------------------------ the leader

    def _leader(self, timeout_s: float) -> str:
        """Return the leader's address. Raises Unavailable when no member says in time that it leads."""
        if leader := self._route.leader:
            return leader
        if not self._finding.acquire(timeout=timeout_s):
            raise errors.Unavailable("the search for the metadata group's leader takes longer than this call may")
        try:
            return self._route.leader or self._find(min(ASK_S, timeout_s))
        finally:
            self._finding.release()

    def _find(self, timeout_s: float) -> str:
        answers: SimpleQueue[tuple[str, MetaStatusReply | errors.BlockyardError]] = SimpleQueue()
        members = self.members
        for address in members:
            threading.Thread(
                target=self._ask, args=(address, timeout_s, answers), name=f"find-{address}", daemon=True
            ).start()
        said: dict[str, str] = {}
        deadline = time.monotonic() + timeout_s
        while len(said) < len(members):
            try:
                address, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                break
            if isinstance(answer, errors.BlockyardError):
                said[address] = answer.message
                continue
            said[address] = "does not lead"
            with self._lock:
                if self._route.heard(address, answer):
                    return address
        raise self._route.nobody_leads(said)

    def _ask(self, address: str, timeout_s: float, answers: "SimpleQueue[Any]") -> None:
        try:
            stub: Any = MetaAdminStub(cast(grpc.Channel, self._channel(address)))
            answers.put((address, stub.Status(MetaStatusRequest(), timeout=timeout_s)))
        except errors.BlockyardError as error:
            answers.put((address, error))


class GroupStream:
    """The answers of one call. Iterate over it; `cancel` it, from any thread, to leave early.

    Until the first answer it looks for the leader like any call. After that an error ends it, since only its user knows
    where to go on from.
    """

    def __init__(self, group: GroupChannel, attempt: Callable[[Channel, float], Stream], errand: Errand) -> None:
        self._group = group
        self._errand = errand
        self._cancelled = False
        self._stream: Stream | None = None
        self._address = ""
        self._attempt = attempt

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._stream is None:
            return self._group.run(self._first, self._errand)
        try:
            return next(self._stream)
        except errors.BlockyardError as error:
            self._group.failed(self._address, error)
            raise

    def cancel(self) -> None:
        """Give the call up; its server is told."""
        self._cancelled = True
        if self._stream is not None:
            self._stream.cancel()

    def __enter__(self) -> "GroupStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def _first(self, channel: Channel, left_s: float) -> Any:
        if self._cancelled:
            raise errors.Cancelled("the stream was given up")
        self._address = channel.address
        self._stream = self._attempt(channel, left_s)
        if self._cancelled:
            self._stream.cancel()
        try:
            return next(self._stream)
        except errors.BlockyardError:
            self._stream = None
            raise
