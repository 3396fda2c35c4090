"""A blocking socket that speaks frames: what the blocking channel and the thread server stand on.

Waiting is bounded by the kernel's own socket time-outs, so that a call costs no extra system call for its deadline.
"""

import os
import select
import socket
import struct
import threading
import time

from blockyard.proto import errors
from blockyard.proto.call import Payload, payload_length
from blockyard.proto.lane import frame, handshake, payload
from blockyard.proto.lane.frame import HEADER_BYTES, Frame, FrameError, Header, Limits
from blockyard.proto.lane.handshake import Agreement
from blockyard.proto.lane.payload import CHUNK_BYTES, CheckedBuffer, Sink
from blockyard.proto.lane.sockets import STALL_S, sever

TICK_S = 1.0
"""Longest time that a receive blocks before deadlines and the peer's life are looked at again."""
_BUFFER_BYTES = 64 << 10
_SKIP_BYTES = 1 << 20
_GROWTH_BYTES = 1 << 20
_LOOK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)  # combining them anew costs as much as the system call
_INT_BYTES = struct.calcsize("@i")
_ONE_DESCRIPTOR_BYTES = socket.CMSG_LEN(_INT_BYTES)


class Idle(Exception):
    """Nothing arrived within the time allowed, and no frame has begun."""


class BlockingConnection:
    """One connection. One thread may receive while others send.

    Invariant: nothing is received after a frame that was not received whole, and nothing is sent after a frame that was
    not sent whole.
    """

    def __init__(self, sock: socket.socket, limits: Limits, stall_s: float = STALL_S) -> None:
        self.sock = sock
        self.limits = limits
        self.heard_at = time.monotonic()
        self.agreement: Agreement | None = None
        self.serving = 0
        """The call under way, 0 for none: its server looks at this."""
        self.received_bytes = 0
        self.sent_bytes = 0
        self.is_local = sock.family == socket.AF_UNIX
        """Whether file descriptors can be passed."""
        self._descriptors: list[int] | None = None  # those that have arrived; None: the kernel closes them
        self.broken: Exception | None = None
        """Why no more can be received."""
        self._stall_s = stall_s
        self._sending = threading.Lock()
        self._send_timeout_s = stall_s
        self._process = os.getpid()
        self._pinged_at = 0.0
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
            raise handshake.error_in(message)
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
        descriptor: int | None = None,
    ) -> None:
        """Send one frame, on a Unix socket with a file descriptor where one is given.

        Raises TooLarge before anything is sent when the peer would refuse it, OSError when the peer is gone. After any
        other error the connection is severed: half of the frame may have left.
        """
        length = payload_length(raw) if raw is not None else 0
        if self.agreement is not None:
            handshake.check_outgoing(self.agreement.peer, len(message), length)
        if descriptor is not None:
            value = 1
            if not self.is_local:
                raise errors.NotSupported("a file descriptor cannot leave its machine")
        head = frame.encode(kind, call, message, length, method, value)
        if not (self._sending.acquire(False) or self._sending.acquire(True, self._send_timeout_s)):
            raise ConnectionError(f"the peer took nothing for {self._send_timeout_s:g} s")
        try:
            payload.send(self.sock, head, raw, descriptor)
        except BaseException as error:
            sever(self.sock)
            if isinstance(error, BlockingIOError) and not isinstance(error, errors.BlockyardError):
                self.broken = FrameError("stalled", f"the peer took nothing for {self._send_timeout_s:g} s")
                raise ConnectionError(str(self.broken)) from None
            self.broken = ConnectionError(f"a frame was not sent whole: {error}")
            raise
        else:
            self.sent_bytes += HEADER_BYTES + len(message) + length
        finally:
            self._sending.release()

    def send_if_free(self, kind: int, call: int) -> None:
        """Send a bare frame without waiting, from any thread, unless another is being sent just now."""
        if self._sending.acquire(False):
            try:
                if self.sock.send(frame.encode(kind, call), socket.MSG_DONTWAIT) < HEADER_BYTES:
                    sever(self.sock)
            except OSError:
                pass  # the peer has gone, or takes nothing: who receives will notice
            finally:
                self._sending.release()

    def look_for_life(self, keepalive_s: float) -> None:
        """Nothing came for a while: ask the peer for a sign of life. Raises ConnectionError when it gave none."""
        now = time.monotonic()
        if self._pinged_at > self.heard_at:
            if now - self._pinged_at > keepalive_s:
                raise ConnectionError(f"the peer gave no sign of life for {now - self.heard_at:.1f} s")
        elif now - self.heard_at > keepalive_s:
            self._pinged_at = now
            self.send(frame.PING, 0)

    def send_within(self, seconds: float) -> None:
        """Let every send from now on block for at most `seconds`, and never longer than a stalled peer is borne."""
        seconds = min(seconds, self._stall_s)
        if seconds != self._send_timeout_s:
            self._send_timeout_s = seconds
            self._set_timeout(socket.SO_SNDTIMEO, seconds)

    def receive_header(self, timeout_s: float) -> Header:
        """Return the next frame's header.

        Raises Idle after `timeout_s` seconds without a byte, FrameError for bytes that are none or stop within a frame,
        OSError when the peer has gone.
        """
        while self._end - self._start < HEADER_BYTES:
            self._more(timeout_s)
        start = self._start
        self._start += HEADER_BYTES
        try:
            return frame.decode_header(self._buffer, start, self.limits)
        except FrameError as error:
            raise self.out_of_step(error) from None

    def receive_message(self, header: Header) -> bytes:
        """Return the message of the frame whose header was received last."""
        length = header.message_bytes
        if self._end - self._start >= length:
            start = self._start
            self._start += length
            return self._buffer[start : start + length].tobytes()
        return bytes(self.gather(length))

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
        except (errors.TooLarge, TypeError):
            self._skip(length)
            raise
        if isinstance(sink, CheckedBuffer):
            self._fill_checked(view, sink)
        else:
            self._fill(view)

    def gather(self, length: int) -> bytearray:
        """Return the next `length` bytes; memory is taken as they arrive, not as they were announced."""
        whole, done = bytearray(min(length, _GROWTH_BYTES)), 0
        while True:
            self._fill(memoryview(whole)[done:])
            done = len(whole)
            if done == length:
                return whole
            whole += bytes(min(length - done, done))

    def out_of_step(self, error: Exception) -> Exception:
        """Nothing can be received any more, for the reason given, which is returned to be raised."""
        self.broken = error
        self._start = self._end = 0
        return error

    def receive_frame(self, header: Header) -> Frame:
        """Return the frame whose header was received last, whole; its payload is held in memory."""
        message = self.receive_message(header)
        raw = bytes(self.gather(header.payload_bytes)) if header.payload_bytes else b""
        return Frame(header.kind, header.method, header.call, header.value, message, raw)

    def skip_frame(self, header: Header) -> None:
        """Read and drop the frame whose header was received last."""
        self._skip(header.message_bytes + header.payload_bytes)

    def accept_descriptor(self) -> None:
        """Let the next answer bring a file descriptor, to be taken by `take_descriptor`."""
        if not self.is_local:
            raise errors.NotSupported("a file descriptor is passed over a Unix socket only")
        self._descriptors = []

    def take_descriptor(self) -> list[int]:
        """Return the descriptor that has come, none or one; it is the caller's to close."""
        taken, self._descriptors = self._descriptors or [], None
        return taken

    def refuse_descriptors(self) -> None:
        """Close a descriptor that nobody took, and let no more in."""
        for descriptor in self.take_descriptor():
            os.close(descriptor)

    def pending(self) -> bool:
        """Return whether bytes wait to be received; raises OSError when the peer has gone."""
        if self._end > self._start:
            return True
        try:
            if self.sock.recv(1, _LOOK):
                return True
        except BlockingIOError:
            return False
        raise ConnectionError("the peer closed the connection")

    def await_bytes(self, timeout_s: float) -> bool:
        """Wait `timeout_s` seconds at most for bytes or the peer's end; return whether there are any.

        Raises OSError when the peer has gone.
        """
        if timeout_s > 0 and not self.pending():
            poll = select.poll()
            poll.register(self.sock, select.POLLIN)
            poll.poll(timeout_s * 1000)
        return self.pending()

    def close(self) -> None:
        """Close; a thread that is receiving wakes with ConnectionError."""
        if os.getpid() == self._process:  # a forked child's copy must not end its parent's conversation
            sever(self.sock)
        with self._sending:  # nobody sends to a descriptor that may be another's by now
            self.sock.close()
        self.refuse_descriptors()

    # ------------------------------------------------------------------------------------------ bytes

    def _more(self, timeout_s: float) -> None:
        """Receive whatever is there, at least one byte; where no frame has begun, wait `timeout_s` for it."""
        rest = self._end - self._start
        if rest and self._start:
            self._buffer[:rest] = bytes(self._buffer[self._start : self._end])
        self._start, self._end = 0, rest
        if rest:
            self._end += self._receive(self._buffer[rest:], self._stall_s)
        else:
            self._end += self._receive(self._buffer, timeout_s, 0, True)

    def _receive(self, view: memoryview, timeout_s: float, flags: int = 0, between_frames: bool = False) -> int:
        if self.broken is not None:
            raise self.broken
        if timeout_s != self._receive_timeout_s:
            self._set_timeout(socket.SO_RCVTIMEO, timeout_s)
            self._receive_timeout_s = timeout_s
        try:
            if self._descriptors is None:
                count = self.sock.recv_into(view, 0, flags)
            else:
                count = self._receive_descriptor(view, flags)
        except BlockingIOError:
            if between_frames:
                raise Idle from None
            stalled = FrameError("stalled", f"no progress within a frame for {timeout_s:g} s")
            raise self.out_of_step(stalled) from None
        except OSError as error:
            raise self.out_of_step(error) from None
        if count == 0:
            raise self.out_of_step(ConnectionError("the peer closed the connection"))
        self.heard_at = time.monotonic()
        self.received_bytes += count
        return count

    def _receive_descriptor(self, view: memoryview, flags: int) -> int:
        """Receive bytes, and the descriptor that may come with them; raises FrameError for more than one in all."""
        assert self._descriptors is not None
        count, ancillary, status, _ = self.sock.recvmsg_into(
            [view], _ONE_DESCRIPTOR_BYTES, flags | socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._descriptors += struct.unpack_from(f"@{len(data) // _INT_BYTES}i", data)
        if status & socket.MSG_CTRUNC or len(self._descriptors) > 1:
            self.refuse_descriptors()
            raise self.out_of_step(FrameError("descriptors", "more than one file descriptor came"))
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
