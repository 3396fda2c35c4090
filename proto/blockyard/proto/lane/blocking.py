"""A blocking socket that speaks frames: what the blocking channel and the thread server stand on.

Waiting is bounded by the kernel's own socket time-outs, so that a call costs no extra system call for its deadline.
"""

import socket
import struct
import time
from pathlib import Path

from blockyard.proto import errors
from blockyard.proto.call import Payload, payload_length
from blockyard.proto.common_pb2 import ErrorDetail
from blockyard.proto.lane import frame, handshake, payload
from blockyard.proto.lane.frame import HEADER_BYTES, Frame, FrameError, Header, Limits
from blockyard.proto.lane.handshake import Agreement
from blockyard.proto.lane.payload import CHUNK_BYTES, CheckedBuffer, Sink
from google.protobuf.message import DecodeError

TICK_S = 1.0
"""Longest time that a receive blocks before deadlines and the peer's life are looked at again."""
STALL_S = 30.0
"""A peer that stops in the middle of a frame, or takes nothing, for this long is given up."""
_BUFFER_BYTES = 64 << 10
_SKIP_BYTES = 1 << 20


class Idle(Exception):
    """Nothing arrived within the time allowed, and no frame has begun."""


def connect(address: str, timeout_s: float) -> socket.socket:
    """Connect to `host:port` or `unix:/path`; raises Unavailable, saying why, when nothing answers in time."""
    try:
        if address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout_s)
            sock.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            sock = socket.create_connection((host.strip("[]"), int(port)), timeout_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_S * 1000))
    except (OSError, ValueError) as error:
        raise errors.Unavailable(f"{address} does not answer: {error}", address) from error
    sock.settimeout(None)
    return sock


def listen(address: str, backlog: int = 1024) -> socket.socket:
    """Listen on `host:port` (port 0: the system chooses) or `unix:/path` (a left-over socket there is replaced)."""
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(path))
        sock.listen(backlog)
        return sock
    host, _, port = address.rpartition(":")
    return socket.create_server((host.strip("[]"), int(port)), backlog=backlog, reuse_port=False)


class BlockingConnection:
    """One connection. One thread may receive while another sends."""

    def __init__(self, sock: socket.socket, limits: Limits, stall_s: float = STALL_S) -> None:
        self.sock = sock
        self.limits = limits
        self.heard_at = time.monotonic()
        self.agreement: Agreement | None = None
        self.busy = False
        """Whether a call is under way: its server looks at this when it shuts down."""
        self._stall_s = stall_s
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._start = 0
        self._end = 0
        self._receive_timeout_s = -1.0
        self._last_call = 0
        self._set_timeout(socket.SO_SNDTIMEO, stall_s)

    # ------------------------------------------------------------------------------------------ both ends

    def shake_hands(self, timeout_s: float) -> None:
        """Say hello and read the other end's; raises where there is no agreement. Must come first."""
        self.sock.sendall(handshake.hello(self.limits))
        try:
            header = self.receive_header(timeout_s)
        except Idle:
            raise errors.Unavailable(f"the peer said no HELLO within {timeout_s:g} s") from None
        message = self.receive_message(header)
        if header.kind == frame.GOAWAY:
            raise error_in(message)
        self.agreement = handshake.agree(header.kind, message)

    def next_call(self) -> int:
        """Return a number for one more call."""
        self._last_call += 1
        return self._last_call

    def send(
        self,
        kind: int,
        call: int,
        message: bytes = b"",
        raw: Payload | None = None,
        method: int = 0,
        value: int = 0,
    ) -> None:
        """Send one frame.

        Raises TooLarge before anything is sent when the peer would refuse it, OSError when the peer is gone.
        """
        length = payload_length(raw) if raw is not None else 0
        if self.agreement is not None:
            handshake.check_outgoing(self.agreement.peer, len(message), length)
        payload.send(self.sock, frame.encode(kind, call, message, length, method, value), raw)

    def receive_header(self, timeout_s: float) -> Header:
        """Return the next frame's header.

        Raises Idle after `timeout_s` seconds without a byte, FrameError for bytes that are none, ConnectionError when
        the peer has gone or has stalled within the header.
        """
        while self._end - self._start < HEADER_BYTES:
            self._more(timeout_s if self._end == self._start else self._stall_s)
        start = self._start
        self._start += HEADER_BYTES
        return frame.decode_header(self._buffer, start, self.limits)

    def receive_message(self, header: Header) -> bytes:
        """Return the message of the frame whose header was received last."""
        length = header.message_bytes
        if self._end - self._start >= length:
            start = self._start
            self._start += length
            return self._buffer[start : start + length].tobytes()
        whole = bytearray(length)
        self._fill(memoryview(whole))
        return bytes(whole)

    def receive_payload(self, length: int, sink: Sink | None) -> None:
        """Receive the payload of the frame whose message was received last; without a `sink` it is dropped.

        A sink that is too short, or finds a bad page, raises only after the payload has been read: the connection
        stays in step.
        """
        if sink is None:
            self._skip(length)
            return
        try:
            view = payload.view_of(sink, length)
        except errors.TooLarge:
            self._skip(length)
            raise
        if isinstance(sink, CheckedBuffer):
            self._fill_checked(view, sink)
        else:
            self._fill(view)

    def receive_frame(self, timeout_s: float) -> Frame:
        """Return the next frame whole; its payload is held in memory."""
        header = self.receive_header(timeout_s)
        message = self.receive_message(header)
        raw = bytearray(header.payload_bytes)
        if raw:
            self._fill(memoryview(raw))
        return Frame(header.kind, header.method, header.call, header.value, message, bytes(raw))

    def pending(self) -> bool:
        """Return whether bytes wait to be received."""
        if self._end > self._start:
            return True
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Close; a thread that is receiving wakes with ConnectionError."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was faster
        self.sock.close()

    # ------------------------------------------------------------------------------------------ bytes

    def _more(self, timeout_s: float) -> None:
        """Receive whatever is there, at least one byte, within `timeout_s` seconds."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start > 0:
            rest = self._end - self._start
            self._buffer[:rest] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, rest
        self._end += self._receive(self._buffer[self._end :], timeout_s)

    def _receive(self, view: memoryview, timeout_s: float, flags: int = 0) -> int:
        if timeout_s != self._receive_timeout_s:
            self._set_timeout(socket.SO_RCVTIMEO, timeout_s)
            self._receive_timeout_s = timeout_s
        try:
            count = self.sock.recv_into(view, 0, flags)
        except BlockingIOError:
            if self._end == self._start and timeout_s < self._stall_s:
                raise Idle from None
            raise ConnectionError(f"the peer made no progress within a frame for {timeout_s:g} s") from None
        if count == 0:
            raise ConnectionError("the peer closed the connection")
        self.heard_at = time.monotonic()
        return count

    def _take_buffered(self, view: memoryview) -> int:
        count = min(self._end - self._start, view.nbytes)
        view[:count] = self._buffer[self._start : self._start + count]
        self._start += count
        return count

    def _fill(self, view: memoryview) -> None:
        done = self._take_buffered(view)
        while done < view.nbytes:
            done += self._receive(view[done:], self._stall_s)

    def _fill_checked(self, view: memoryview, sink: CheckedBuffer) -> None:
        done, bad = self._take_buffered(view), None
        while True:
            try:
                if bad is None:
                    sink.arrived(done, end=done == view.nbytes)
            except errors.CorruptBlock as error:
                bad = error
            if done == view.nbytes:
                break
            done += self._receive(view[done : done + CHUNK_BYTES], self._stall_s, socket.MSG_WAITALL)
        if bad is not None:
            raise bad

    def _skip(self, length: int) -> None:
        scrap = memoryview(bytearray(min(length, _SKIP_BYTES)))
        while length > 0:
            part = min(length, scrap.nbytes)
            self._fill(scrap[:part])
            length -= part

    def _set_timeout(self, option: int, seconds: float) -> None:
        micros = max(1, int(seconds * 1_000_000))
        self.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", micros // 1_000_000, micros % 1_000_000))


def error_in(message: bytes) -> errors.BlockyardError:
    """Return the error that an ERROR or GOAWAY frame carries."""
    try:
        return errors.from_detail(ErrorDetail.FromString(message))
    except DecodeError:
        return errors.MalformedReply("the peer sent an error that does not parse")


def refusal(error: FrameError) -> errors.BlockyardError:
    """Return what a peer is told about bytes that are no acceptable frame."""
    kind = errors.TooLarge if error.reason.endswith("_length") else errors.MalformedRequest
    return kind(str(error))


def peer_name(sock: socket.socket) -> str:
    """Return the other end's address, for logs."""
    name = sock.getpeername()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix"


def sever(sock: socket.socket) -> None:
    """Shut a socket down without closing its descriptor: whoever waits on it wakes."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # already down
