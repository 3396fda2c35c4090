"""How payload travels through gRPC: in the field `data` of a message, in pieces where the method is a stream.

A message and its data are joined as bytes: in Protocol Buffers' encoding a field may simply follow the others, so the
payload is copied once, into the message that leaves, and never through a message object.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from blockyard.proto.call import FileRange, Payload, Reply, payload_length
from blockyard.proto.lane.payload import read_all
from google.protobuf.message import Message

PIECE_BYTES: Final = 1 << 20
"""Most payload in one message of a stream."""

Blocking = Callable[[FileRange], Any]
"""Reads a file range where waiting for a disk is allowed; gives an awaitable of its bytes."""


def with_data(message: Message, data: bytes | memoryview) -> bytes:
    """Return `message`, serialized, with `data` as its field `data`."""
    number = message.DESCRIPTOR.fields_by_name["data"].number
    view = memoryview(data).cast("B")
    return b"".join((message.SerializeToString(), _varint(number << 3 | 2), _varint(view.nbytes), view))


def continuation(message: Message) -> Message:
    """Return what the second and later pieces of a reply repeat: its plain fields, but no lists and no messages."""
    shorter = type(message)()
    shorter.CopyFrom(message)
    for field, _ in message.ListFields():
        if field.is_repeated or field.message_type is not None:
            shorter.ClearField(field.name)
    return shorter


async def whole(reply: Reply, read: Blocking) -> bytes:
    """Return a reply that travels as one message, serialized."""
    source = reply.payload
    return with_data(reply.message, await read(source) if isinstance(source, FileRange) else _view(source))


async def pieces(reply: Reply, read: Blocking) -> AsyncIterator[bytes]:
    """Yield the messages of a stream that carry one reply's payload, serialized; at least one."""
    message = reply.message
    for part in _parts(reply.payload):
        yield with_data(message, await read(part) if isinstance(part, FileRange) else part)
        if message is reply.message:
            message = continuation(message)


def pieces_here(reply: Reply) -> Iterator[bytes]:
    """Yield what `pieces` does, reading files in the calling thread."""
    message = reply.message
    for part in _parts(reply.payload):
        yield with_data(message, read_all(part) if isinstance(part, FileRange) else part)
        if message is reply.message:
            message = continuation(message)


def _parts(source: Payload) -> Iterator[memoryview | FileRange]:
    length = payload_length(source)
    for start in range(0, max(length, 1), PIECE_BYTES):
        size = min(PIECE_BYTES, length - start)
        if isinstance(source, FileRange):
            yield FileRange(source.fd, source.offset + start, size)
        else:
            yield _view(source)[start : start + size]


def _view(source: Any) -> memoryview:
    return memoryview(source).cast("B")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
