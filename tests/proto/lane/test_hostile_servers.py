"""Whatever a server says: its callers get an error that they know, soon, and leave nothing behind."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from blockyard.proto import errors
from blockyard.proto.lane import AioChannel, Channel, frame
from blockyard.proto.lane.frame import HEADER
from blockyard.proto.lane_pb2 import LaneHello
from blockyard.proto.probe_pb2 import ProbeReply, ProbeRequest, PullRequest, PushRequest

from tests.proto.lane.peers import Peer, hostile, open_descriptors, stub_of, wait_until

CHANNELS = ("blocking", "asyncio", "uvloop")
TIMEOUT_S = 8.0
Call = Callable[[Any], Any]
Script = Callable[[Peer], None]


@pytest.fixture(params=CHANNELS)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """A channel; no thread and no descriptor is left when the test is over."""
    for new_loop in (asyncio.new_event_loop, uvloop.new_event_loop):  # what they open once in a process
        new_loop().close()
    threads, descriptors = threading.active_count(), open_descriptors()
    yield request.param
    wait_until(lambda: threading.active_count() <= threads, "no thread is left behind")
    wait_until(lambda: open_descriptors() <= descriptors, "no descriptor is left behind")


def call(kind: str, address: str, method: str, request: Any, times: int = 1, **arguments: Any) -> list[Any]:
    """Make calls over a channel of that kind, one after the other; return what each gave: an answer or an error."""
    options: dict[str, Any] = {"timeout_s": TIMEOUT_S, "keepalive_s": arguments.pop("keepalive_s", 5.0)}
    options["connect_timeout_s"] = arguments.pop("connect_timeout_s", 5.0)
    if kind == "blocking":
        with Channel(address, **options) as channel:
            stub = stub_of(channel)
            return [_outcome(lambda: _all(getattr(stub, method)(request, **arguments))) for _ in range(times)]

    async def main() -> list[Any]:
        async with AioChannel(address, **options) as channel:
            stub = stub_of(channel)
            return [await _aio_outcome(lambda: getattr(stub, method)(request, **arguments)) for _ in range(times)]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if kind == "uvloop" else None) as runner:
        return runner.run(main())


def _all(answer: Any) -> Any:
    return list(answer) if hasattr(answer, "__next__") else answer


def _outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except errors.BlockyardError as error:
        return error


async def _aio_outcome(begin: Callable[[], Any]) -> Any:
    try:
        answer = begin()
        return [one async for one in answer] if hasattr(answer, "__aiter__") else await answer
    except errors.BlockyardError as error:
        return error


def answering(data: bytes, times: int = 1) -> Script:
    """Shake hands, wait for a call, say `data`, and hang up."""

    def script(peer: Peer) -> None:
        peer.hello()
        for _ in range(times):
            peer.receive()
            peer.sock.sendall(data)

    return script


def head(kind: int, message_bytes: int = 0, payload_bytes: int = 0, version: int = 1, call: int = 1) -> bytes:
    """Return a header that may announce anything."""
    return HEADER.pack(b"BY", version, kind, 0, call, 0, message_bytes, payload_bytes)


# ---------------------------------------------------------------------------------------------------- no lane server


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(40),
        bytes(64),
        head(frame.CALL),
        head(frame.REPLY),
        head(frame.HELLO, 2**32 - 1),
        head(frame.HELLO, 0, 2**63),
        head(frame.HELLO),
        head(frame.HELLO, 3) + b"\xff\xff\xff",
        head(frame.GOAWAY, 2) + b"\xff\xff",
        head(frame.HELLO)[:20],
        head(frame.HELLO, version=7),
    ],
    ids=repr,
)
def test_whoever_is_no_lane_server_is_not_called(kind: str, greeting: bytes) -> None:
    """The request never left, so the error is definite."""

    def script(peer: Peer) -> None:
        peer.sock.sendall(greeting)

    with hostile(script) as address:
        for method in ("Echo", "Count"):
            for error in call(kind, address, method, ProbeRequest(count=1), times=2):
                assert isinstance(error, errors.Unavailable | errors.VersionMismatch)
                assert error.definite


def test_a_server_that_never_greets_is_unavailable_and_given_up(kind: str) -> None:
    given_up = threading.Event()

    def script(peer: Peer) -> None:
        if peer.receive() is not None and peer.receive() is None:
            given_up.set()

    with hostile(script) as address:
        (error,) = call(kind, address, "Echo", ProbeRequest(), connect_timeout_s=0.1)
        assert type(error) is errors.Unavailable
        assert given_up.wait(5)


def test_a_server_of_another_version_is_told_apart(kind: str) -> None:
    hello = LaneHello(oldest_version=7, newest_version=9, stream_window=1, max_calls=1).SerializeToString()

    def script(peer: Peer) -> None:
        peer.sock.sendall(frame.encode(frame.HELLO, 0, hello))
        peer.receive()

    with hostile(script) as address:
        (error,) = call(kind, address, "Echo", ProbeRequest())
        assert type(error) is errors.VersionMismatch


def test_nobody_there_is_unavailable(kind: str) -> None:
    with hostile(lambda peer: None) as address:
        pass
    (error,) = call(kind, address, "Echo", ProbeRequest())
    assert type(error) is errors.Unavailable
    assert error.definite


# ---------------------------------------------------------------------------------------------------- broken answers


BROKEN = {
    "silence": b"",
    "a bad magic": b"NO" + bytes(30),
    "a bad version": head(frame.REPLY, version=2),
    "an unknown kind": head(99),
    "a message of 4 GiB": head(frame.REPLY, 2**32 - 1),
    "a payload of 2^63": head(frame.REPLY, 0, 2**63),
    "half a header": head(frame.REPLY)[:13],
    "half a message": head(frame.REPLY, 100) + bytes(50),
    "half a payload": head(frame.REPLY, 0, 100) + bytes(50),
    "half a payload of a stream": head(frame.MESSAGE, 0, 100) + bytes(50),
    "a second HELLO": head(frame.HELLO),
    "a call": head(frame.CALL),
    "a cancel": head(frame.CANCEL),
    "an HTTP answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("method", ["Echo", "Count", "Push", "Pull"])
def test_a_broken_answer_leaves_the_caller_in_doubt(kind: str, what: str, method: str) -> None:
    request = {
        "Echo": ProbeRequest(),
        "Count": ProbeRequest(count=3),
        "Push": PushRequest(data=b"x"),
        "Pull": PullRequest(total_bytes=1, piece_bytes=1),
    }[method]
    with hostile(answering(BROKEN[what])) as address:
        for error in call(kind, address, method, request, times=2):
            assert isinstance(error, errors.ConnectionLost | errors.MalformedReply)
            assert not error.definite


def reply(message: bytes = b"", payload: bytes = b"") -> bytes:
    """Return a reply to the first call."""
    return frame.encode(frame.REPLY, 1, message, len(payload)) + payload


def test_a_reply_that_does_not_parse_is_malformed(kind: str) -> None:
    with hostile(answering(reply(b"\xff\xff"))) as address:
        for method in ("Echo", "Push"):
            request: Any = ProbeRequest() if method == "Echo" else PushRequest()
            (error,) = call(kind, address, method, request)
            assert type(error) is errors.MalformedReply


def test_payload_that_no_field_takes_is_malformed(kind: str) -> None:
    with hostile(answering(reply(b"", b"payload"))) as address:
        for method in ("Echo", "Push"):
            request: Any = ProbeRequest() if method == "Echo" else PushRequest()
            (error,) = call(kind, address, method, request)
            assert type(error) is errors.MalformedReply


def test_an_error_that_does_not_parse_is_malformed(kind: str) -> None:
    with hostile(answering(frame.encode(frame.ERROR, 1, b"\xff"))) as address:
        (error,) = call(kind, address, "Echo", ProbeRequest())
        assert type(error) is errors.MalformedReply


@pytest.mark.parametrize("method", ["Count", "Pull"])
def test_a_single_reply_to_a_stream_does_not_leave_its_caller_waiting(kind: str, method: str) -> None:
    request: Any = ProbeRequest(count=1) if method == "Count" else PullRequest(total_bytes=1, piece_bytes=1)

    def script(peer: Peer) -> None:
        peer.hello()
        peer.receive()
        peer.sock.sendall(reply())
        peer.receive()

    with hostile(script) as address:
        (error,) = call(kind, address, method, request)
        assert isinstance(error, errors.MalformedReply | errors.ConnectionLost)


@pytest.mark.parametrize("frames", [frame.encode(frame.MESSAGE, 1), frame.encode(frame.END, 1)])
def test_a_stream_in_answer_to_a_plain_call_does_not_leave_its_caller_waiting(kind: str, frames: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.receive()
        peer.sock.sendall(frames)
        peer.receive()

    with hostile(script) as address:
        for method in ("Echo", "Push"):
            request: Any = ProbeRequest() if method == "Echo" else PushRequest()
            (error,) = call(kind, address, method, request)
            assert isinstance(error, errors.MalformedReply | errors.ConnectionLost)


def test_answers_without_credit_end_the_connection(kind: str) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.receive()
        for _ in range(100_000):
            peer.send(frame.MESSAGE, 1)

    with hostile(script) as address:
        if kind == "blocking":
            with Channel(address, timeout_s=TIMEOUT_S) as channel:
                stub = stub_of(channel)
                with pytest.raises(errors.ConnectionLost):
                    _send_many(stub.Chat())
        else:
            (error,) = call(kind, address, "Count", ProbeRequest(count=1))
            assert type(error) is errors.ConnectionLost


def _send_many(stream: Any) -> None:
    """Send beyond the server's window: the sender looks for credit and finds answers."""
    for _ in range(1000):
        stream.send(ProbeRequest())


def test_answers_to_nobody_are_dropped(kind: str) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        asked = peer.receive()
        assert asked is not None
        for number in (0, 77, 2**64 - 1):
            peer.send(frame.REPLY, number)
            peer.send(frame.ERROR, number)
        peer.send(frame.PONG, 0)
        peer.send(frame.REPLY, asked.call, ProbeReply(body=b"mine"))
        peer.receive()

    with hostile(script) as address:
        (answer,) = call(kind, address, "Echo", ProbeRequest())
        assert answer.body == b"mine"


def test_a_ping_of_the_server_is_answered(kind: str) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        asked = peer.receive()
        assert asked is not None
        peer.send(frame.PING, 0)
        pong = peer.receive()
        assert pong is not None
        if pong.kind == frame.PONG:
            peer.send(frame.REPLY, asked.call, ProbeReply(body=b"after pong"))
            peer.receive()

    with hostile(script) as address:
        (answer,) = call(kind, address, "Echo", ProbeRequest())
        assert answer.body == b"after pong"


# ---------------------------------------------------------------------------------------------------- silence, farewell


@pytest.mark.parametrize("method", ["Echo", "Count", "Push"])
def test_a_server_that_falls_silent_is_given_up(kind: str, method: str) -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        peer.hello()
        for _ in peer.answers():
            pass
        gone.set()

    request: Any = PushRequest() if method == "Push" else ProbeRequest(count=1)
    with hostile(script) as address:
        (error,) = call(kind, address, method, request, keepalive_s=0.1)
        assert type(error) is errors.ConnectionLost
        assert "no sign of life" in str(error)
        assert gone.wait(5)


def test_a_server_that_takes_nothing_holds_its_caller_no_longer_than_the_deadline(kind: str) -> None:
    """The request is larger than all buffers, and nobody reads it."""
    release = threading.Event()

    def script(peer: Peer) -> None:
        peer.hello()
        release.wait(10)

    with hostile(script) as address:
        try:
            (error,) = call(kind, address, "Push", PushRequest(), payload=bytes(64 << 20), timeout=0.2)
        finally:
            release.set()
        assert type(error) is errors.DeadlineExceeded


def test_calls_after_a_farewell_go_to_a_new_connection(kind: str) -> None:
    connections: list[int] = []

    def script(peer: Peer) -> None:
        connections.append(1)
        peer.hello()
        asked = peer.receive()
        assert asked is not None
        peer.send(frame.GOAWAY, 0)
        peer.send(frame.REPLY, asked.call, ProbeReply(body=b"last"))
        for _ in peer.answers():  # until the client closes, which it does without being made to
            pass

    with hostile(script) as address:
        answers = call(kind, address, "Echo", ProbeRequest(), times=3)
        assert [answer.body for answer in answers] == [b"last"] * 3
    assert len(connections) == 3


def test_a_server_that_always_sends_its_callers_away_is_unavailable_at_last(kind: str) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.send(frame.GOAWAY, 0)

    with hostile(script) as address:
        (error,) = call(kind, address, "Echo", ProbeRequest())
        assert isinstance(error, errors.Unavailable | errors.ConnectionLost)


def test_a_caller_that_gives_up_leaves_a_server_that_hangs(kind: str) -> None:
    cancelled = threading.Event()

    def script(peer: Peer) -> None:
        peer.hello()
        for item in peer.answers():
            if item.kind == frame.CANCEL:
                cancelled.set()

    with hostile(script) as address:
        (error,) = call(kind, address, "Echo", ProbeRequest(), timeout=0.1)
        assert type(error) is errors.DeadlineExceeded
        assert cancelled.wait(5)
