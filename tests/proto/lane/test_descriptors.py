"""File descriptors that travel with replies: one, to those who asked, over a Unix socket; every other is closed.

A pipe tells: its writing end hangs up when nobody has the reading end open any more.
"""

import array
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto.call import CallContext, Reply, register
from blockyard.proto.lane import Channel, ThreadServer, frame
from blockyard.proto.probe import ThreadProbe
from blockyard.proto.probe_pb2 import ProbeReply, ProbeRequest
from blockyard.proto.probe_pb2_grpc import add_ProbeServicer_to_server

from tests.proto.lane.peers import ECHO, Peer, open_descriptors, stub_of, wait_until

TIMEOUT_S = 8.0


class GivingProbe(ThreadProbe):
    """Answers Echo with a descriptor of the file that the body names."""

    def __init__(self) -> None:
        self.answered = 0

    def Echo(self, request: ProbeRequest, context: CallContext) -> Any:
        if not request.body:
            return ProbeReply()
        if not context.passes_descriptors and request.count == 0:
            raise errors.NotSupported("not here")
        descriptor = os.open(os.fsdecode(request.body), os.O_RDONLY)
        context.add_done_callback(lambda: os.close(descriptor))
        self.answered += 1
        return Reply(ProbeReply(index=7), b"", descriptor)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server on both kinds of sockets; gives its Unix address. Nothing stays open when the test is over."""
    descriptors = open_descriptors()
    threads = ThreadServer()
    register(add_ProbeServicer_to_server, GivingProbe(), threads)
    threads.listen(f"unix:{tmp_path}/lane")
    yield f"unix:{tmp_path}/lane"
    threads.stop(0)
    wait_until(lambda: open_descriptors() <= descriptors, "no descriptor is left behind")


class Pipe:
    """A pipe that knows whether anybody can read from it."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()

    def give_away(self) -> int:
        """Return the reading end, which is no longer this side's to close."""
        return self.reader

    def is_closed(self) -> bool:
        """Whether nobody has the reading end open."""
        poll = select.poll()
        poll.register(self._writer, 0)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the writing end."""
        os.close(self._writer)


@pytest.fixture
def pipes() -> Iterator[Callable[[], Pipe]]:
    """Makes pipes, which are to be closed by the end: nobody may read from them any more."""
    made: list[Pipe] = []

    def make() -> Pipe:
        made.append(Pipe())
        return made[-1]

    yield make
    for pipe in made:
        wait_until(pipe.is_closed, "the reading end is closed everywhere")
        pipe.close()


def send_with(sock: socket.socket, data: bytes, descriptors: list[int]) -> None:
    """Send bytes with descriptors, and close this side's copies."""
    try:
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@contextmanager
def hostile(tmp_path: Path, script: Callable[[Peer, int], None]) -> Iterator[str]:
    """Listen on a Unix socket and, after a client's call has come, follow `script` with its number."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "hostile"))
    listener.listen()

    def follow() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                peer = Peer(sock).hello()
                item = peer.receive()
                if item is not None:
                    script(peer, item.call)
                    peer.receive()  # until the client has gone

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield f"unix:{tmp_path}/hostile"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(TIMEOUT_S)


def ask(address: str, descriptors: list[int] | None, body: bytes = b"x", count: int = 0) -> ProbeReply:
    with Channel(address, timeout_s=TIMEOUT_S) as channel:
        reply: ProbeReply = stub_of(channel).Echo(ProbeRequest(body=body, count=count), descriptors=descriptors)
        return reply


def test_a_reply_brings_an_open_file(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"what it holds")
    taken: list[int] = []
    assert ask(server, taken, os.fsencode(tmp_path / "file")).index == 7
    [descriptor] = taken
    try:
        assert os.pread(descriptor, 100, 0) == b"what it holds"
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_many_calls_on_one_connection_bring_one_each(server: str, tmp_path: Path) -> None:
    before = open_descriptors()
    with Channel(server, timeout_s=TIMEOUT_S) as channel:
        stub = stub_of(channel)
        for number in range(50):
            (tmp_path / "file").write_bytes(b"%d" % number)
            taken: list[int] = []
            stub.Echo(ProbeRequest(body=os.fsencode(tmp_path / "file")), descriptors=taken)
            assert os.pread(taken[0], 10, 0) == b"%d" % number
            os.close(taken[0])
            nothing: list[int] = []
            stub.Echo(ProbeRequest(), descriptors=nothing)
            assert not nothing
    wait_until(lambda: open_descriptors() <= before, "every copy is closed")


def test_a_caller_who_did_not_ask_gets_none(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = open_descriptors()
    assert ask(server, None, os.fsencode(tmp_path / "file")).index == 7
    wait_until(lambda: open_descriptors() <= before, "nothing stays open")


def test_over_tcp_neither_end_passes_any(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    body = os.fsencode(tmp_path / "file")
    server = ThreadServer()
    probe = GivingProbe()
    register(add_ProbeServicer_to_server, probe, server)
    address = server.listen("127.0.0.1:0")
    try:
        with pytest.raises(errors.NotSupported):
            ask(address, [], body)
        assert not probe.answered
        with pytest.raises(errors.NotSupported):  # a servicer that gives one all the same
            ask(address, None, body, count=1)
        assert ask(address, None, b"").index == 0
    finally:
        server.stop(0)


def test_a_server_closes_what_its_clients_send(server: str, pipes: Callable[[], Pipe]) -> None:
    before = open_descriptors()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(server.removeprefix("unix:"))
        peer = Peer(sock).hello()
        pipe = pipes()
        send_with(sock, frame.encode(frame.CALL, 1, method=ECHO), [pipe.give_away()])
        assert (answer := peer.receive()) is not None
        assert answer.kind == frame.REPLY
        wait_until(pipe.is_closed, "the server has not kept it")
        wait_until(lambda: open_descriptors() <= before + 3, "two sockets and a pipe's end are open, no more")


def reply(call: int, announced: int) -> bytes:
    return frame.encode(frame.REPLY, call, ProbeReply(index=7).SerializeToString(), value=announced)


def test_more_than_one_in_a_frame_end_the_call(tmp_path: Path, pipes: Callable[[], Pipe]) -> None:
    def script(peer: Peer, call: int) -> None:
        send_with(peer.sock, reply(call, 1), [pipes().give_away() for _ in range(3)])

    taken: list[int] = []
    with hostile(tmp_path, script) as address, pytest.raises(errors.ConnectionLost, match="more than one"):
        ask(address, taken)
    assert not taken


def test_one_byte_each_with_a_descriptor_ends_the_call(tmp_path: Path, pipes: Callable[[], Pipe]) -> None:
    def script(peer: Peer, call: int) -> None:
        data = reply(call, 1)
        for at in range(8):
            try:
                send_with(peer.sock, data[at : at + 1], [pipes().give_away()])
            except OSError:
                return  # the client has had enough

    taken: list[int] = []
    with hostile(tmp_path, script) as address, pytest.raises(errors.ConnectionLost, match="more than one"):
        ask(address, taken)
    assert not taken


@pytest.mark.parametrize("announced", [0, 2, 7])
def test_one_that_was_announced_otherwise_is_closed(tmp_path: Path, pipes: Callable[[], Pipe], announced: int) -> None:
    def script(peer: Peer, call: int) -> None:
        send_with(peer.sock, reply(call, announced), [pipes().give_away()])

    taken: list[int] = []
    with hostile(tmp_path, script) as address, pytest.raises(errors.MalformedReply, match="announced"):
        ask(address, taken)
    assert not taken


def test_none_where_one_was_announced_is_an_error(tmp_path: Path) -> None:
    def script(peer: Peer, call: int) -> None:
        peer.sock.sendall(reply(call, 1))

    with hostile(tmp_path, script) as address, pytest.raises(errors.MalformedReply, match="announced"):
        ask(address, [])


def test_one_that_comes_with_an_error_is_closed(tmp_path: Path, pipes: Callable[[], Pipe]) -> None:
    detail = errors.to_detail(errors.UnknownBlock("not here")).SerializeToString()

    def script(peer: Peer, call: int) -> None:
        send_with(peer.sock, frame.encode(frame.ERROR, call, detail), [pipes().give_away()])

    taken: list[int] = []
    with hostile(tmp_path, script) as address, pytest.raises(errors.UnknownBlock):
        ask(address, taken)
    assert not taken


def test_one_that_comes_with_a_reply_that_does_not_parse_is_closed(tmp_path: Path, pipes: Callable[[], Pipe]) -> None:
    def script(peer: Peer, call: int) -> None:
        send_with(peer.sock, frame.encode(frame.REPLY, call, b"\xff\xff", value=1), [pipes().give_away()])

    taken: list[int] = []
    with hostile(tmp_path, script) as address, pytest.raises(errors.MalformedReply, match="parse"):
        ask(address, taken)
    assert not taken
