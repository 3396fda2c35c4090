"""Signals in the middle of calls: those that are handled change nothing, those that raise leave nothing half done."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from blockyard.proto import errors
from blockyard.proto.lane import Channel
from blockyard.proto.probe import pattern
from blockyard.proto.probe_pb2 import ProbeRequest, PullRequest, PushRequest

from tests.proto.lane.peers import KINDS, Running, running, stub_of

PIECE_BYTES = 2 << 20


class Stop(Exception):
    """What a handler raises."""


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(request.param) as server:
        yield server


@contextmanager
def signalled(handler: Callable[..., object], every_s: float) -> Iterator[None]:
    """Send this process a signal again and again."""
    before = signal.signal(signal.SIGUSR1, handler)
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(every_s):
            os.kill(os.getpid(), signal.SIGUSR1)

    sender = threading.Thread(target=send, daemon=True)
    try:
        sender.start()
        yield
    finally:
        while not ended.is_set() or sender.is_alive():
            with suppress(Stop):  # the last signal may strike right here
                ended.set()
                sender.join()
        signal.signal(signal.SIGUSR1, before)


def test_signals_that_are_handled_change_nothing(server: Running) -> None:
    seen: list[int] = []
    with Channel(server.address, timeout_s=10) as channel, signalled(lambda *_: seen.append(1), 0.001):
        stub = stub_of(channel)
        assert stub.Echo(ProbeRequest(body=b"x", delay_ms=100)).body == b"x"
        body = pattern(PIECE_BYTES)
        for _ in range(5):
            assert stub.Push(PushRequest(), payload=body).received_bytes == PIECE_BYTES
            replies = list(stub.Pull(PullRequest(total_bytes=3 * PIECE_BYTES, piece_bytes=PIECE_BYTES)))
            assert all(reply.data == body for reply in replies)
    assert seen


def test_signals_that_raise_leave_nothing_half_done(server: Running) -> None:
    """Whatever was interrupted, the next call is whole."""

    armed: list[int] = []

    def stop(*_: object) -> None:
        if armed:
            armed.clear()
            raise Stop

    with Channel(server.address, timeout_s=10) as channel:
        stub, body, interrupted = stub_of(channel), pattern(PIECE_BYTES), 0
        for turn in range(20):
            armed.append(turn)
            try:
                with signalled(stop, 0.003 + turn / 5000):
                    while True:
                        stub.Echo(ProbeRequest(body=b"x", delay_ms=1))
                        stub.Push(PushRequest(), payload=body)
                        list(stub.Pull(PullRequest(total_bytes=PIECE_BYTES, piece_bytes=PIECE_BYTES)))
            except (Stop, errors.ConnectionLost):
                interrupted += 1
            assert stub.Echo(ProbeRequest(body=b"next")).body == b"next"
            assert stub.Push(PushRequest(), payload=body).received_bytes == PIECE_BYTES
        assert interrupted == 20
