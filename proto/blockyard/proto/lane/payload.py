"""How payload reaches buffers, and leaves descriptors, without a copy in Python."""

import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from blockyard.proto import errors
from blockyard.proto.call import FileRange, Payload, payload_length
from crc32c import crc32c

if TYPE_CHECKING:
    from typing_extensions import Buffer
else:
    Buffer = bytes | bytearray | memoryview

CHUNK_BYTES = 256 << 10
"""Bytes received at a time into a `CheckedBuffer`: they are still in the processor's cache when they are checked."""


class CheckedBuffer:
    """A buffer whose pages are checked against their CRC32C while they arrive.

    `view` receives at most `len(view)` bytes; page `i` is bytes `i * page_bytes` and on, the last one shorter.
    """

    __slots__ = ("_checked", "_checksums", "_page_bytes", "view")

    def __init__(self, view: Buffer, checksums: Sequence[int], page_bytes: int) -> None:
        self.view = memoryview(view).cast("B")
        self._checksums = checksums
        self._page_bytes = page_bytes
        self._checked = 0

    def arrived(self, total: int, end: bool) -> None:
        """The first `total` bytes are there; `end` says that no more come. Raises CorruptBlock naming the page."""
        page = self._page_bytes
        while self._checked < total and (total - self._checked >= page or end):
            index = self._checked // page
            stop = min(self._checked + page, total)
            if index >= len(self._checksums) or crc32c(self.view[self._checked : stop]) != self._checksums[index]:
                raise errors.CorruptBlock(f"page {index} ({stop - self._checked} bytes) does not match its CRC32C")
            self._checked = stop


Sink: TypeAlias = Buffer | CheckedBuffer
Into: TypeAlias = Sink | Callable[[Any, int], Sink | None]
"""Where reply payload goes: a buffer, or a function of (reply message, length) that names one; None drops it."""


def choose(into: Into, message: Any, length: int) -> Sink | None:
    """Return where `length` bytes of payload that belong to `message` go."""
    return into(message, length) if callable(into) else into


def land(message: Any, data: bytes) -> None:
    """Put payload that nobody named a buffer for into the message's field `data`; raises MalformedReply without one."""
    try:
        message.data = data
    except AttributeError:
        raise errors.MalformedReply(f"payload came with a {type(message).__name__}, which has none") from None


def view_of(sink: Sink, length: int) -> memoryview:
    """Return the first `length` bytes of `sink`; raises TooLarge when it is shorter, TypeError when it is read-only."""
    view = sink.view if isinstance(sink, CheckedBuffer) else memoryview(sink).cast("B")
    if view.readonly:
        raise TypeError("payload cannot be received into a read-only buffer")
    if view.nbytes < length:
        raise errors.TooLarge(f"a payload of {length:,} bytes for a buffer of {view.nbytes:,}")
    return view[:length]


def fill(sink: Sink, data: Buffer) -> int:
    """Copy payload that is already in memory into `sink`, checking it where the sink does; return its length."""
    length = memoryview(data).nbytes
    view_of(sink, length)[:] = memoryview(data).cast("B")
    if isinstance(sink, CheckedBuffer):
        sink.arrived(length, end=True)
    return length


def read_all(payload: Payload) -> bytes:
    """Return payload as bytes; raises CorruptBlock when a file is shorter than its range says."""
    if not isinstance(payload, FileRange):
        return bytes(payload)
    pieces, done = [], 0
    while done < payload.length:
        piece = os.pread(payload.fd, payload.length - done, payload.offset + done)
        if not piece:
            raise errors.CorruptBlock(f"the file ended {payload.length - done} bytes before its range")
        pieces.append(piece)
        done += len(piece)
    return b"".join(pieces)


def send(sock: socket.socket, head: bytes, payload: Payload | None, descriptor: int | None = None) -> None:
    """Send a frame's head and its payload over a blocking socket; a descriptor goes with the first byte.

    Raises CorruptBlock when a file is shorter than its range: the frame is then broken and so is the connection.
    """
    if descriptor is not None:
        assert payload is None or payload_length(payload) == 0, "a frame carries payload or a descriptor"
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("@i", descriptor))
        sock.sendall(head[sock.sendmsg([head], [rights]) :])
    elif payload is None or payload_length(payload) == 0:
        sock.sendall(head)
    elif isinstance(payload, FileRange):
        sock.sendall(head, socket.MSG_MORE)
        _send_file(sock, payload)
    else:
        _send_buffers(sock, head, memoryview(payload).cast("B"))


def _send_file(sock: socket.socket, source: FileRange) -> None:
    target, done = sock.fileno(), 0
    while done < source.length:
        sent = os.sendfile(target, source.fd, source.offset + done, source.length - done)
        if sent == 0:
            raise errors.CorruptBlock(f"the file ended {source.length - done} bytes before its range")
        done += sent


def _send_buffers(sock: socket.socket, head: bytes, body: memoryview) -> None:
    sent = sock.sendmsg([head, body])
    if sent < len(head):
        sock.sendall(memoryview(head)[sent:])
        sent = len(head)
    if sent - len(head) < body.nbytes:
        sock.sendall(body[sent - len(head) :])
