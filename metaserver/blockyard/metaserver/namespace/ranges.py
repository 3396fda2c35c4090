"""Ranges of files: what they are made of, reserved, punched, zeroed, and copied by sharing blocks."""

import itertools
from collections.abc import Iterator
from typing import Final

from blockyard.metaserver.namespace import content
from blockyard.metaserver.namespace.commits import writable
from blockyard.metaserver.namespace.content import FILE_BYTES_MAX
from blockyard.metaserver.namespace.permissions import APPEND_ONLY, READ, mode_without_privileges, require
from blockyard.metaserver.namespace.slices import CHUNK_BYTES, CROWDED_PIECES, Piece
from blockyard.metaserver.namespace.state import State, is_regular
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import BadHandle, FileTooBig, InvalidArgument, IsDirectory, NotPermitted
from blockyard.proto.metadata_pb2 import (
    ALLOCATE_KEEP_SIZE,
    ALLOCATE_PUNCH_HOLE,
    ALLOCATE_RESERVE,
    ALLOCATE_ZERO_KEEP_SIZE,
    ALLOCATE_ZERO_RANGE,
    FILE_TYPE_DIRECTORY,
    AllocateRequest,
    Attributes,
    CopyRangeReply,
    CopyRangeRequest,
    EntryReply,
    ReadSlicesReply,
    ReadSlicesRequest,
    Slice,
)

PIECES_PER_REPLY: Final = 10_000
PIECES_PER_COPY: Final = 2_048

_KEEPS_SIZE: Final = (ALLOCATE_KEEP_SIZE, ALLOCATE_PUNCH_HOLE, ALLOCATE_ZERO_KEEP_SIZE)
_ZEROES: Final = (ALLOCATE_PUNCH_HOLE, ALLOCATE_ZERO_RANGE, ALLOCATE_ZERO_KEEP_SIZE)


def read_slices(state: State, who: Caller, request: ReadSlicesRequest) -> ReadSlicesReply:
    """Return what a range of a file is made of, or that nothing changed since the version the client knows."""
    inode = _readable(state, who, request.inode, request.handle)
    if request.known_version == inode.version:
        return ReadSlicesReply(attributes=inode, unchanged=True)
    start = request.offset
    end = min(start + request.length, inode.size) if request.length else inode.size
    reply = ReadSlicesReply(attributes=inode)
    if inode.allocated == 0 or start >= end:
        return reply
    count = 0
    for index, stored in content.chunk_rows(state, inode.inode, start, end):
        base = index * CHUNK_BYTES
        if len(stored) > CROWDED_PIECES:
            reply.crowded_chunks.append(index)
        for first, length, block, offset, whole in stored:
            position = first + base
            low, high = max(position, start), min(position + length, end)
            if low >= high:
                continue
            if count == PIECES_PER_REPLY:
                reply.next_offset = low
                return reply
            count += 1
            reply.slices.add(
                position=low, length=high - low, block=block, block_offset=offset + low - position, block_length=whole
            )
    return reply


def _readable(state: State, who: Caller, number: int, handle: int, session: int = 0) -> Attributes:
    """Return a regular file that the handle, or without one the caller, may read from."""
    inode = state.inode(number)
    if handle and not state.open_files.held(handle, number, session).reads:
        raise BadHandle(f"handle {handle} was not opened for reading")
    if inode.type == FILE_TYPE_DIRECTORY:
        raise IsDirectory(f"inode {number} is a directory")
    if not is_regular(inode):
        raise InvalidArgument(f"inode {number} is no regular file")
    if not handle:
        require(inode, who, READ)
    return inode


def allocate(state: State, who: Caller, request: AllocateRequest) -> EntryReply:
    """fallocate(2). Blocks are immutable, so nothing is reserved; ranges are zeroed by cutting pieces out."""
    start, end, mode = request.offset, request.offset + request.length, request.mode
    if end > FILE_BYTES_MAX:
        raise FileTooBig(f"the range ends at {end}; a file holds at most {FILE_BYTES_MAX} bytes")
    inode = writable(state, who, request.inode, request.handle)
    if inode.flags & APPEND_ONLY and mode not in (ALLOCATE_RESERVE, ALLOCATE_KEEP_SIZE):
        raise NotPermitted(f"inode {inode.inode} is append-only")
    record = state.touch(inode.inode)
    record.mtime_ns = state.now
    record.mode = mode_without_privileges(inode, who)
    if mode in _ZEROES:
        content.clear(state, record, start, min(end, inode.size))
    if mode not in _KEEPS_SIZE and end > inode.size:
        content.resize(state, record, end)
    return EntryReply(attributes=record)


def copy_range(state: State, who: Caller, request: CopyRangeRequest) -> CopyRangeReply:
    """copy_file_range(2): the target's range refers to the source's blocks. Less is copied where the source ends, or
    after 2,048 pieces."""
    source = _readable(state, who, request.source, request.source_handle, state.session)
    target = writable(state, who, request.target, request.target_handle)
    if target.flags & APPEND_ONLY:
        raise NotPermitted(f"inode {target.inode} is append-only")
    start, into = request.source_offset, request.target_offset
    length = min(request.length, max(source.size - start, 0))
    if source.inode == target.inode and start < into + request.length and into < start + request.length:
        raise InvalidArgument("the ranges overlap in one file")
    state.subject = target.inode
    if length == 0:
        return CopyRangeReply(attributes=target)
    content.check_size(into + length)
    found = list(itertools.islice(content.pieces(state, source.inode, start, start + length), PIECES_PER_COPY + 1))
    if len(found) > PIECES_PER_COPY:
        length = found.pop()[0] - start
    record = state.touch(target.inode)
    record.mtime_ns = state.now
    record.mode = mode_without_privileges(target, who)
    _paste(state, record, into, length, [(piece[0] - start, *piece[1:]) for piece in found])
    return CopyRangeReply(copied=length, attributes=record)


def _paste(state: State, record: Attributes, into: int, length: int, found: list[Piece]) -> None:
    """Let [into, into + length) consist of the pieces, whose positions count from `into`, and of holes between."""
    content.clear(state, record, into, min(into + length, record.size))
    for position, size, block, offset, whole in found:
        content.write(state, record, into + position, size, block, offset, whole)
    record.size = max(record.size, into + length)


def visible(state: State, number: int, start: int, end: int) -> Iterator[Slice]:
    """Yield a file's slices in a range of bytes, for tools."""
    for position, length, block, offset, whole in content.pieces(state, number, start, end):
        yield Slice(position=position, length=length, block=block, block_offset=offset, block_length=whole)
