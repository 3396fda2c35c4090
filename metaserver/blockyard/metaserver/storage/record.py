"""The records of Raft's log as bytes: one record is one atomic write.

    header   magic, CRC, segment number, sequence, flags, lengths
    hard     HardStateRecord, when it changed
    base     BaseRecordMessage, when it changed
    table    per entry: its length and its CRC
    entries  LogEntry, one after the other

The header's CRC covers all but the entries, each entry's CRC covers its message, which holds index, term and data; so
a record is valid whole or not at all, and an entry can be read and checked by itself. Records begin at multiples of
`ALIGNMENT`, so a write never touches a sector of an older record. A record names its segment and has a sequence number
that counts on over all segments: what an earlier use of the same disk blocks left behind is never taken for a record.

Nothing here does I/O. Numbers of the contract's enums are those of `raft.types` less one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, cast

import crc32c
from blockyard.metaserver.raft.types import (
    BaseRecord,
    Entry,
    EntryKind,
    HardState,
    LogIndex,
    Member,
    MemberId,
    MemberKind,
    Membership,
    Term,
)
from blockyard.proto import raft_pb2 as pb
from google.protobuf.message import DecodeError

MAGIC: Final = b"BYL1"
ALIGNMENT: Final = 512
RESETS: Final = 1
"""Flag: the record's base drops every entry before the record's own."""

_HEADER: Final = Struct("<4sIQQIIIII")
_ROW: Final = Struct("<II")
_CHECKED_FROM: Final = 8


@dataclass(frozen=True, slots=True)
class Span:
    """Where an entry's message is: bytes from the start of the file (or of the record, before it has a place)."""

    offset: int
    length: int
    crc: int


@dataclass(frozen=True, slots=True)
class Record:
    segment: int
    sequence: int
    hard_state: HardState | None
    base: BaseRecord | None
    resets: bool
    entries: Sequence[Entry]
    spans: Sequence[Span]
    end: int  # offset of the next record


def encode(
    segment: int,
    sequence: int,
    entries: Sequence[Entry],
    hard_state: HardState | None,
    base: BaseRecord | None,
    resets: bool,
) -> tuple[bytes, list[Span]]:
    """Return the record, padded to `ALIGNMENT`, and where its entries are in it."""
    hard = b"" if hard_state is None else encode_hard_state(hard_state)
    start = b"" if base is None else encode_base(base).SerializeToString(deterministic=True)
    messages = [
        pb.LogEntry(index=e.index, term=e.term, kind=_kind_sent(e.kind), data=e.data).SerializeToString()
        for e in entries
    ]
    offset = _HEADER.size + len(hard) + len(start) + _ROW.size * len(messages)
    spans = []
    for message in messages:
        spans.append(Span(offset, len(message), crc32c.crc32c(message)))
        offset += len(message)
    table = b"".join([_ROW.pack(span.length, span.crc) for span in spans])
    flags = RESETS if resets else 0
    fields = (segment, sequence, flags, len(hard), len(start), len(messages), offset - _HEADER.size)
    checked = b"".join((_HEADER.pack(MAGIC, 0, *fields)[_CHECKED_FROM:], hard, start, table))
    head = Struct("<4sI").pack(MAGIC, crc32c.crc32c(checked))
    return b"".join((head, checked, *messages, bytes(-offset % ALIGNMENT))), spans


def decode(data: memoryview, offset: int, segment: int) -> Record | None:
    """Return the record of `segment` at `offset`; None when there is no whole and valid one."""
    if len(data) - offset < _HEADER.size:
        return None
    magic, crc, found_segment, sequence, flags, hard, start, count, length = _HEADER.unpack_from(data, offset)
    if magic != MAGIC or found_segment != segment or length > len(data) - offset - _HEADER.size:
        return None
    position = offset + _HEADER.size
    table = position + hard + start
    first = table + _ROW.size * count
    if first > position + length or crc32c.crc32c(data[offset + _CHECKED_FROM : first]) != crc:
        return None
    spans, entries, at = [], [], first
    try:
        for row in range(count):
            span = Span(at, *_ROW.unpack_from(data, table + row * _ROW.size))
            at += span.length
            entries.append(decode_entry(data[span.offset : at], span.crc))
            spans.append(span)
        hard_state = decode_hard_state(bytes(data[position : position + hard])) if hard else None
        base = decode_base(pb.BaseRecordMessage.FromString(bytes(data[position + hard : table]))) if start else None
    except (BadEntry, DecodeError, ValueError):
        return None
    if at != position + length:
        return None
    return Record(
        segment, sequence, hard_state, base, bool(flags & RESETS), entries, spans, at + (offset - at) % ALIGNMENT
    )


class BadEntry(ValueError):
    """The bytes are not the entry that was written."""


def decode_entry(data: memoryview | bytes, crc: int) -> Entry:
    """Return the entry whose message is `data`. Raises BadEntry."""
    if crc32c.crc32c(data) != crc:
        raise BadEntry("checksum mismatch")
    try:
        found = pb.LogEntry.FromString(bytes(data))
        return Entry(LogIndex(found.index), Term(found.term), EntryKind(found.kind + 1), found.data)
    except (DecodeError, ValueError) as error:
        raise BadEntry(f"not a log entry: {error}") from error


def encode_hard_state(state: HardState) -> bytes:
    """Return the HardStateRecord as bytes, never empty."""
    message = pb.HardStateRecord(term=state.term, vote=state.vote, commit=state.commit).SerializeToString()
    return message or b"\x08\x00"  # all zeros: the term, spelled out


def decode_hard_state(data: bytes) -> HardState:
    """Undo `encode_hard_state`. Raises DecodeError."""
    found = pb.HardStateRecord.FromString(data)
    return HardState(Term(found.term), MemberId(found.vote), LogIndex(found.commit))


def encode_base(base: BaseRecord) -> pb.BaseRecordMessage:
    """Return the contract's form of a base record; it always has a membership, so it is never empty."""
    members = [pb.GroupMember(id=m.id, kind=_member_kind_sent(m.kind)) for m in base.membership.members]
    return pb.BaseRecordMessage(index=base.index, term=base.term, membership=pb.Membership(members=members))


def decode_base(message: pb.BaseRecordMessage) -> BaseRecord:
    """Undo `encode_base`. Raises InvalidMembership and ValueError."""
    members = [Member(MemberId(m.id), MemberKind(m.kind + 1)) for m in message.membership.members]
    return BaseRecord(LogIndex(message.index), Term(message.term), Membership(tuple(members)))


def _kind_sent(kind: EntryKind) -> pb.EntryKind:
    return cast(pb.EntryKind, kind - 1)


def _member_kind_sent(kind: MemberKind) -> pb.MemberKind:
    return cast(pb.MemberKind, kind - 1)
