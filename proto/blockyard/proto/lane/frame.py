"""Frames: how calls, messages and payload lie on a byte stream. Pure: bytes in, frames out.

A frame is a header of 32 bytes, little-endian, then the message, then the payload:

    magic 'BY' 2 | version 1 | kind 1 | method 4 | call 8 | value 4 | message length 4 | payload length 8

`method` is the id of a method (`CALL` only), `call` numbers the calls of a connection from 1, `value` is what the kind
says. One call goes

    unary request:   CALL(message)                          value = deadline in ms from now, 0 for none
    stream request:  CALL  MESSAGE*  END
    unary answer:    REPLY(message)                         value = file descriptors that come with it, 0 or 1
    stream answer:   MESSAGE*  END
    any time:        ERROR(ErrorDetail)  the call is over    CANCEL  the caller has given up
                     WINDOW  value = messages the other end may send in addition

and between calls PING (answered by PONG), GOAWAY (no new calls, please; the message is an ErrorDetail) and first of all
HELLO. Lengths are checked against the limits before anything is allocated. A HELLO is framed as version 1 for ever, so
that processes of any age can agree.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

MAGIC: Final = b"BY"
OLDEST_VERSION: Final = 1
NEWEST_VERSION: Final = 1
HEADER: Final = struct.Struct("<2sBBIQIIQ")
HEADER_BYTES: Final = HEADER.size
MAX_CALL: Final = 2**64 - 1
MAX_VALUE: Final = 2**32 - 1


class Kind(IntEnum):
    """What a frame is for."""

    HELLO = 1
    CALL = 2
    MESSAGE = 3
    END = 4
    REPLY = 5
    ERROR = 6
    CANCEL = 7
    WINDOW = 8
    PING = 9
    PONG = 10
    GOAWAY = 11


# Plain integers for the hot paths: comparing an IntEnum member costs several times as much.
HELLO, CALL, MESSAGE, END, REPLY, ERROR, CANCEL, WINDOW, PING, PONG, GOAWAY = map(int, Kind)
_CARRIES_PAYLOAD: Final = frozenset((CALL, MESSAGE, REPLY))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one end of a connection accepts."""

    max_message_bytes: int = 16 << 20
    """Longest message of a frame."""
    max_payload_bytes: int = 256 << 20
    """Longest payload of a frame."""
    stream_window: int = 64
    """Messages of one stream before more are granted."""
    max_calls: int = 4096
    """Calls at once on one connection."""


class FrameError(Exception):
    """The bytes are no frame, or one that is refused; the connection cannot go on.

    `reason` is a word for the metric; `call` is the call the frame belongs to, 0 when unknown.
    """

    def __init__(self, reason: str, message: str, call: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.call = call


class Header(NamedTuple):
    """A checked header."""

    kind: int
    method: int
    call: int
    value: int
    message_bytes: int
    payload_bytes: int


class Frame(NamedTuple):
    """A whole frame."""

    kind: int
    method: int
    call: int
    value: int
    message: bytes
    payload: bytes

    @property
    def payload_bytes(self) -> int:
        """Length of the payload in bytes."""
        return len(self.payload)


def encode(
    kind: int, call: int, message: bytes = b"", payload_bytes: int = 0, method: int = 0, value: int = 0
) -> bytes:
    """Return header and message of a frame; the caller sends `payload_bytes` of payload right behind it."""
    return HEADER.pack(MAGIC, NEWEST_VERSION, kind, method, call, value, len(message), payload_bytes) + message


def decode_header(data: bytes | bytearray | memoryview, offset: int, limits: Limits) -> Header:
    """Return the header that starts at `offset`; raises FrameError where it is not acceptable under `limits`."""
    magic, version, kind, method, call, value, message_bytes, payload_bytes = HEADER.unpack_from(data, offset)
    if magic != MAGIC:
        raise FrameError("magic", f"found {magic!r} where a frame must begin with {MAGIC!r}: is this a lane port?")
    if version != NEWEST_VERSION:
        raise FrameError("version", f"frame version {version}; {OLDEST_VERSION} to {NEWEST_VERSION} are spoken here")
    if not HELLO <= kind <= GOAWAY:
        raise FrameError("kind", f"unknown frame kind {kind}", call)
    if message_bytes > limits.max_message_bytes:
        raise FrameError(
            "message_length", f"a message of {message_bytes:,} bytes; {limits.max_message_bytes:,} are accepted", call
        )
    if payload_bytes and (payload_bytes > limits.max_payload_bytes or kind not in _CARRIES_PAYLOAD):
        allowed = limits.max_payload_bytes if kind in _CARRIES_PAYLOAD else 0
        raise FrameError("payload_length", f"a payload of {payload_bytes:,} bytes; {allowed:,} are accepted", call)
    return Header(kind, method, call, value, message_bytes, payload_bytes)


class FrameDecoder:
    """Cuts a byte stream into frames.

    Holds at most one unfinished frame, whose lengths were within the limits before a byte of it was kept.
    """

    __slots__ = ("_buffer", "_limits", "_needed", "error")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._needed = HEADER_BYTES
        self.error: FrameError | None = None
        """Set once unacceptable bytes came; nothing after them is read."""

    @property
    def unfinished(self) -> bool:
        """Whether bytes of an unfinished frame are held."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes, in order; look at `error` afterwards."""
        if self.error is not None:
            return []
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        frames: list[Frame] = []
        rest = self._cut(data, frames)
        if rest < len(data) and self.error is None:
            self._buffer += memoryview(data)[rest:]
        return frames

    def _cut(self, data: bytes, frames: list[Frame]) -> int:
        """Append the whole frames of `data` to `frames`; return where the unfinished one begins."""
        offset, end = 0, len(data)
        self._needed = HEADER_BYTES
        while end - offset >= HEADER_BYTES:
            try:
                kind, method, call, value, message_bytes, payload_bytes = decode_header(data, offset, self._limits)
            except FrameError as error:
                self.error = error
                break
            body = offset + HEADER_BYTES
            split = body + message_bytes
            stop = split + payload_bytes
            if stop > end:
                self._needed = stop - offset
                break
            payload = data[split:stop] if payload_bytes else b""
            frames.append(Frame(kind, method, call, value, data[body:split], payload))
            offset = stop
        return offset
