"""Threads that share a connection: somebody always reads on, and an end reaches everybody."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto.lane import Channel, Limits, frame, shared
from blockyard.proto.lane.blocking import BlockingConnection
from blockyard.proto.lane.shared import SharedConnection
from blockyard.proto.probe_pb2 import ProbeRequest

from tests.proto.lane.peers import Peer, connected, running, stub_of, wait_until

LONG_S = 60.0


class Caller(threading.Thread):
    """A call in a thread of its own."""

    def __init__(self, connection: SharedConnection, timeout_s: float = LONG_S) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._timeout_s = timeout_s
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._connection.call(1, b"", self._timeout_s)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.outcome = error

    def result(self) -> Any:
        """Return the answer or the error."""
        self.join(10)
        assert not self.is_alive(), "the call hangs"
        return self.outcome


@pytest.fixture
def ends() -> Iterator[tuple[SharedConnection, Peer]]:
    """A connection, and its server's end in the hands of the test."""
    ours, theirs = socket.socketpair()
    peer = Peer(theirs)
    greeter = threading.Thread(target=peer.hello)
    greeter.start()
    connection = BlockingConnection(ours, Limits())
    connection.shake_hands(5)
    greeter.join()
    yield SharedConnection(connection, keepalive_s=LONG_S), peer
    peer.close()
    connection.close()


def waiting(connection: SharedConnection, count: int) -> None:
    """Return when so many calls wait, one of them reading."""
    wait_until(lambda: len(connection._waiting) == count, f"{count} calls wait")
    wait_until(connection._read_lock.locked, "one of them reads")


class Clock:
    """A clock that a test can put forward."""

    def __init__(self) -> None:
        self.forward_s = 0.0

    def monotonic(self) -> float:
        """Return the seconds, with what the test added."""
        return time.monotonic() + self.forward_s


def test_who_is_woken_to_read_and_leaves_instead_wakes_another(
    ends: tuple[SharedConnection, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lost wake-up: the second caller is told to read on just when its deadline has passed."""
    connection, peer = ends
    clock = Clock()
    monkeypatch.setattr(shared, "time", clock)
    first = Caller(connection, timeout_s=10_000)
    waiting(connection, 1)
    second = Caller(connection, timeout_s=30)
    waiting(connection, 2)
    third = Caller(connection, timeout_s=10_000)
    waiting(connection, 3)
    asked = [peer.receive() for _ in range(3)]
    clock.forward_s = 100.0  # past the second's deadline, though it sleeps and does not know
    assert asked[0] is not None
    peer.send(frame.REPLY, asked[0].call, b"first")
    assert first.result() == b"first"
    assert isinstance(second.result(), errors.DeadlineExceeded)
    assert asked[2] is not None
    peer.send(frame.REPLY, asked[2].call, b"third")
    assert third.result() == b"third"


def test_answers_reach_their_callers_in_any_order(ends: tuple[SharedConnection, Peer]) -> None:
    connection, peer = ends
    callers = [Caller(connection) for _ in range(20)]
    asked = [peer.receive() for _ in callers]
    for item in reversed(asked):
        assert item is not None
        peer.send(frame.REPLY, item.call, b"%d" % item.call)
    assert sorted(int(caller.result()) for caller in callers) == list(range(1, 21))


def test_a_reader_that_is_interrupted_tells_the_others(
    ends: tuple[SharedConnection, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a frame may have been read: nobody reads on where it stopped."""
    connection, peer = ends
    first = Caller(connection)
    waiting(connection, 1)
    second = Caller(connection)
    waiting(connection, 2)

    def interrupted(*_: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection._connection, "receive_message", interrupted)
    asked = peer.receive()
    assert asked is not None
    peer.send(frame.REPLY, asked.call, b"x")
    outcomes = {type(first.result()), type(second.result())}
    assert outcomes == {KeyboardInterrupt, errors.ConnectionLost}
    assert not connection.usable


def test_the_end_of_the_connection_reaches_every_caller(ends: tuple[SharedConnection, Peer]) -> None:
    connection, peer = ends
    callers = [Caller(connection) for _ in range(10)]
    for _ in callers:
        peer.receive()
    peer.close()
    for caller in callers:
        assert isinstance(caller.result(), errors.ConnectionLost)
    with pytest.raises(errors.Unavailable) as caught:
        connection.call(1, b"", 1)
    assert caught.value.definite


def test_closing_reaches_every_caller_and_frees_the_descriptor(ends: tuple[SharedConnection, Peer]) -> None:
    connection, _ = ends
    callers = [Caller(connection) for _ in range(10)]
    waiting(connection, 10)
    connection.close()
    for caller in callers:
        assert isinstance(caller.result(), errors.ConnectionLost)
    wait_until(lambda: connection._connection.sock.fileno() == -1, "the descriptor is closed by the last who leaves")


def test_a_request_that_is_too_large_leaves_no_trace(ends: tuple[SharedConnection, Peer]) -> None:
    connection, peer = ends
    with pytest.raises(errors.TooLarge):
        connection.call(1, bytes(Limits().max_message_bytes + 1), 1)
    assert connection._waiting == {}
    caller = Caller(connection)
    asked = peer.receive()
    assert asked is not None
    peer.send(frame.REPLY, asked.call, b"fine")
    assert caller.result() == b"fine"


def test_a_farewell_lets_calls_finish_and_takes_no_more(ends: tuple[SharedConnection, Peer]) -> None:
    connection, peer = ends
    caller = Caller(connection)
    asked = peer.receive()
    assert asked is not None
    peer.send(frame.GOAWAY, 0)
    wait_until(lambda: not connection.usable, "the farewell is heard")
    with pytest.raises(errors.Unavailable):
        connection.call(1, b"", 1)
    peer.send(frame.REPLY, asked.call, b"last")
    assert caller.result() == b"last"


def test_a_farewell_is_heard_before_the_next_call(ends: tuple[SharedConnection, Peer]) -> None:
    connection, peer = ends
    peer.send(frame.GOAWAY, 0)
    wait_until(lambda: not connection.is_alive(), "the farewell is heard")


def test_a_late_answer_is_nobodys(ends: tuple[SharedConnection, Peer]) -> None:
    connection, peer = ends
    caller = Caller(connection, timeout_s=0.05)
    asked = peer.receive()
    assert isinstance(caller.result(), errors.DeadlineExceeded)
    cancelled = peer.receive()
    assert asked is not None
    assert cancelled is not None
    assert (cancelled.kind, cancelled.call) == (frame.CANCEL, asked.call)
    peer.send(frame.REPLY, asked.call, b"late")
    caller = Caller(connection)
    asked = peer.receive()
    assert asked is not None
    peer.send(frame.REPLY, asked.call, b"mine")
    assert caller.result() == b"mine"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own_and_leaves_its_parents_alone() -> None:
    with running("threads") as server, connected(server), Channel(server.address, timeout_s=10) as channel:
        stub = stub_of(channel)
        stream = stub.Count(ProbeRequest(count=300))
        assert next(stream).index == 0
        assert stub.Echo(ProbeRequest(body=b"parent")).body == b"parent"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                stream.cancel()
                stub.Echo(ProbeRequest(body=b"child"))
                assert [reply.index for reply in stub.Count(ProbeRequest(count=3))] == [0, 1, 2]
                channel.close()
                code = 0
            finally:
                os._exit(code)
        assert stub.Echo(ProbeRequest(body=b"parent")).body == b"parent"
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert stub.Echo(ProbeRequest(body=b"parent")).body == b"parent"


def test_connecting_takes_no_longer_than_the_call_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for those who wait for another thread to connect."""
    waits: list[float] = []

    def connect(address: str, timeout_s: float) -> socket.socket:
        waits.append(timeout_s)
        raise errors.Unavailable("nobody")

    monkeypatch.setattr("blockyard.proto.lane.sockets.connect", connect)
    channel = Channel("127.0.0.1:1", connect_timeout_s=60)
    stub = stub_of(channel)
    calls: list[Callable[[], Any]] = [
        lambda: stub.Echo(ProbeRequest(), timeout=0.5),
        lambda: stub.Count(ProbeRequest(), timeout=0.5),
    ]
    for call in calls:
        with pytest.raises(errors.Unavailable):
            call()
    assert max(waits) <= 0.5
