"""Blocking streams: two threads, one reader; a connection goes back when it is clean, and only then."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto.lane import Channel
from blockyard.proto.probe import pattern
from blockyard.proto.probe_pb2 import ProbeRequest, PullRequest, PushRequest

from tests.proto.lane.peers import KINDS, Running, running, stub_of, wait_until


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(request.param) as server:
        yield server


@pytest.fixture
def channel(server: Running) -> Iterator[Channel]:
    with Channel(server.address, timeout_s=10) as channel:
        yield channel


@pytest.fixture
def stub(channel: Channel) -> Any:
    return stub_of(channel)


def requests(count: int) -> Iterator[ProbeRequest]:
    """Return numbered requests."""
    return (ProbeRequest(body=b"%d" % number) for number in range(count))


def test_a_sender_that_reads_for_credit_gives_the_answers_to_the_receiver(stub: Any) -> None:
    """The receiver comes late: the sender has used its credit and reads already."""
    stream = stub.Chat(requests(500))
    wait_until(stream._exchange._reading.locked, "the sender waits for credit")
    wait_until(lambda: len(stream._exchange._held) > 0, "it has read answers ahead")
    assert [int(reply.body) for reply in stream] == list(range(500))


def test_one_thread_may_send_more_than_a_window_before_it_receives(stub: Any) -> None:
    stream = stub.Chat()
    for request in requests(110):
        stream.send(request)
    stream.done_sending()
    assert [int(reply.body) for reply in stream] == list(range(110))


def test_a_receiver_and_a_sender_that_take_turns_lose_nothing(stub: Any) -> None:
    for _ in range(5):
        stream = stub.Chat()

        def send(stream: Any = stream) -> None:
            for request in requests(1000):
                stream.send(request)
            stream.done_sending()

        sender = threading.Thread(target=send)
        sender.start()
        assert [int(reply.body) for reply in stream] == list(range(1000))
        sender.join()


def test_a_sender_whose_answers_nobody_takes_ends_with_the_deadline(stub: Any) -> None:
    stream = stub.Chat(timeout=0.3)

    def send_all() -> None:
        for request in requests(1000):
            stream.send(request)

    with pytest.raises(errors.DeadlineExceeded):
        send_all()


def test_a_stream_that_ended_gives_its_connection_to_the_next(server: Running, channel: Channel, stub: Any) -> None:
    for _ in range(5):
        assert len(list(stub.Count(ProbeRequest(count=3)))) == 3
        assert len(list(stub.Chat(requests(3)))) == 3
        assert stub.Sum(requests(3)).index == 3
    assert len(channel._idle) == 1
    assert server.server.metrics.connections_total == 1


def test_a_stream_that_was_left_does_not(channel: Channel, stub: Any) -> None:
    with stub.Count(ProbeRequest(count=100)) as stream:
        next(stream)
    assert channel._idle == []


def test_a_call_that_failed_gives_its_connection_to_the_next(server: Running, channel: Channel, stub: Any) -> None:
    for _ in range(3):
        with pytest.raises(errors.NotFound):
            list(stub.Count(ProbeRequest(error="NotFound")))
        with pytest.raises(errors.CorruptBlock):
            stub.Push(PushRequest(crc32c=1), payload=bytes(100_000))
    assert len(channel._idle) == 1
    assert server.server.metrics.connections_total == 1


def test_a_stream_that_is_left_by_another_thread_ends(stub: Any) -> None:
    stream = stub.Count(ProbeRequest(count=1_000_000, delay_ms=1))
    next(stream)
    threading.Timer(0.05, stream.cancel).start()
    assert all(reply.index > 0 for reply in stream)


def test_closing_the_channel_leaves_streams_to_their_users(channel: Channel, stub: Any) -> None:
    stream = stub.Count(ProbeRequest(count=300))
    next(stream)
    channel.close()
    assert len(list(stream)) == 299
    assert channel._idle == []
    with pytest.raises(errors.Unavailable, match="was closed"):
        stub.Count(ProbeRequest(count=1))
    with pytest.raises(errors.Unavailable, match="was closed"):
        stub.Echo(ProbeRequest())


def test_a_stream_without_a_server_is_unavailable_and_leaves_nothing_behind() -> None:
    stub = stub_of(Channel("127.0.0.1:1"))
    with pytest.raises(errors.Unavailable):
        stub.Count(ProbeRequest(count=1))  # the half-made stream is dropped: its __del__ must bear it


def test_a_receiver_that_is_interrupted_does_not_go_on_within_a_frame(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stub.Pull(PullRequest(total_bytes=1 << 20, piece_bytes=1 << 16))
    next(stream)

    def interrupted(*_: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(stream._exchange.connection, "gather", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert list(stream) == []
    assert stream._exchange.connection.sock.fileno() == -1


def test_answers_read_ahead_find_their_buffers(stub: Any) -> None:
    """Payload that a sender has read goes to where the receiver wants it, when it wants it."""
    buffer = bytearray(1 << 16)
    stream = stub.Pull(PullRequest(total_bytes=3 << 16, piece_bytes=1 << 16), into=buffer)
    exchange = stream._exchange
    with exchange._reading:
        exchange._read_ahead()
    assert bytes(buffer) == bytes(1 << 16)
    assert len(list(stream)) == 3
    assert bytes(buffer) == pattern(1 << 16)
