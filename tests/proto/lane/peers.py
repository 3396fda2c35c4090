"""Real servers in threads, and peers that say to them whatever a test wants."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop
from blockyard.proto import errors
from blockyard.proto.call import register
from blockyard.proto.lane import AioServer, Limits, ThreadServer, frame, handshake
from blockyard.proto.lane.frame import HEADER, HEADER_BYTES, Frame, Header
from blockyard.proto.lane.methods import method_id
from blockyard.proto.probe_pb2_grpc import ProbeStub, add_ProbeServicer_to_server

from tests.proto.conformance.servicers import WatchedAioProbe, WatchedThreadProbe

WAIT_S = 10.0
ECHO = method_id("/blockyard.v1.Probe/Echo")
COUNT = method_id("/blockyard.v1.Probe/Count")
SUM = method_id("/blockyard.v1.Probe/Sum")
CHAT = method_id("/blockyard.v1.Probe/Chat")
PULL = method_id("/blockyard.v1.Probe/Pull")
PUSH = method_id("/blockyard.v1.Probe/Push")
KINDS = ("asyncio", "uvloop", "threads")


class Running:
    """A server that runs beside the test."""

    def __init__(self, server: Any, port: int, servicer: Any, kind: str) -> None:
        self.server = server
        self.port = port
        self.servicer = servicer
        self.kind = kind
        self.address = f"127.0.0.1:{port}"

    @property
    def refused(self) -> dict[str, int]:
        """What was refused, by reason."""
        refused: dict[str, int] = self.server.metrics.refused_frames
        return refused

    @property
    def open_connections(self) -> int:
        """Connections that the server has."""
        return int(self.server.metrics.connections_open)


@contextmanager
def running(kind: str, servicer: Any = None, limits: Limits | None = None, stall_s: float = 30.0) -> Iterator[Running]:
    """Run a server: on an event loop of its own in a thread, or of threads."""
    if kind == "threads":
        servicer = servicer or WatchedThreadProbe()
        threads = ThreadServer(limits, stall_s=stall_s)
        register(add_ProbeServicer_to_server, servicer, threads)
        port = int(threads.listen("127.0.0.1:0").rpartition(":")[2])
        try:
            yield Running(threads, port, servicer, kind)
        finally:
            threads.stop(0)
        return
    loop = uvloop.new_event_loop() if kind == "uvloop" else asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="event loop")
    thread.start()

    def on_loop(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(WAIT_S)

    aio = AioServer(limits, stall_s=stall_s)
    servicer = servicer or WatchedAioProbe()
    register(add_ProbeServicer_to_server, servicer, aio)
    try:
        yield Running(aio, on_loop(aio.listen_tcp("127.0.0.1", 0)), servicer, kind)
    finally:
        on_loop(aio.stop(0))
        left = on_loop(_tasks())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert left == 0, "tasks of the server are left"


async def _tasks() -> int:
    for _ in range(10):
        await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


class Peer:
    """One end of a connection, in the hands of a test."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(WAIT_S)

    def hello(self, limits: Limits | None = None) -> "Peer":
        """Say HELLO and hear the other end's."""
        self.sock.sendall(handshake.hello(limits or Limits()))
        item = self.receive()
        assert item is not None
        assert item.kind == frame.HELLO
        return self

    def send(
        self, kind: int, call: int, message: Any = b"", payload: bytes = b"", method: int = 0, value: int = 0
    ) -> None:
        """Send a frame; `message` is bytes or a message."""
        data = message if isinstance(message, bytes) else message.SerializeToString()
        self.sock.sendall(frame.encode(kind, call, data, len(payload), method, value) + payload)

    def receive(self) -> Frame | None:
        """Return the next frame; None when the other end has closed."""
        try:
            head = self._exactly(HEADER_BYTES)
            header = Header(*HEADER.unpack(head)[2:])
            message = self._exactly(header.message_bytes)
            return Frame(*header[:4], message, self._exactly(header.payload_bytes))
        except (EOFError, ConnectionError):
            return None

    def answers(self) -> Iterator[Frame]:
        """Return every frame until the other end closes."""
        while (item := self.receive()) is not None:
            yield item

    def last_words(self) -> errors.BlockyardError | None:
        """Return the error that the other end says before it closes; None when it says none."""
        said = None
        for item in self.answers():
            if item.kind in (frame.ERROR, frame.GOAWAY):
                said = handshake.error_in(item.message)
        return said

    def close(self) -> None:
        """Close."""
        self.sock.close()

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self.sock.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


def stub_of(channel: Any) -> Any:
    """Return the probe's stub over a channel."""
    return ProbeStub(channel)


@contextmanager
def connected(server: Running, hello: bool = True, limits: Limits | None = None) -> Iterator[Peer]:
    """Connect to a server, and shake hands unless told otherwise."""
    with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as sock:
        peer = Peer(sock)
        yield peer.hello(limits) if hello else peer


@contextmanager
def hostile(script: Callable[[Peer], None]) -> Iterator[str]:
    """Listen, and follow `script` on every connection; gives the address. The connection closes with the script."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def follow(sock: socket.socket) -> None:
        with sock:
            try:
                script(Peer(sock))
            except (OSError, AssertionError):
                pass  # the client was faster to leave

    def accept() -> None:
        while not ended.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=follow, args=(sock,)))
            threads[-1].start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join(WAIT_S)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition; fails, naming it, when it does not come."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S:g} s in vain: {what}"
        time.sleep(0.002)


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def resident_bytes() -> int:
    """Return this process's resident memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
