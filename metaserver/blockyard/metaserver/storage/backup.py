"""A backup: one file that holds the namespace as it was at one applied index.

The file is the parts of a snapshot stream (see `snapshot_stream`), each with its data in it and each preceded by its
length as a varint: protobuf's usual delimited form, which any language reads. A client that stores the parts of
`MetaAdmin.Backup` one after the other in that form has the same file. Restoring makes the data directory of a new
cluster's first member; the old cluster's members and their votes are not in it.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from blockyard.metaserver.raft.types import NOBODY, BaseRecord, DurableState, HardState, Membership
from blockyard.metaserver.storage.checkpoint import Checkpoint
from blockyard.metaserver.storage.failures import CorruptSnapshot
from blockyard.metaserver.storage.snapshot_stream import PART_BYTES, SnapshotReceiver
from blockyard.proto import raft_pb2 as pb
from blockyard.proto.disk.sync import sync_directory
from google.protobuf.message import DecodeError

UNFINISHED: Final = ".unfinished"

_LARGEST_PART: Final = PART_BYTES + 4096
_VARINT_BYTES: Final = 5


def write(path: Path, parts: Iterable[pb.SnapshotPart]) -> int:
    """Write a backup file from parts that hold their data; return its size in bytes. The file appears only whole.

    Raises OSError.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    with open(unfinished, "wb") as file:
        for part in parts:
            message = part.SerializeToString()
            file.write(_varint(len(message)) + message)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    os.rename(unfinished, path)
    sync_directory(path.parent)
    return size


def read(file: BinaryIO) -> Iterator[pb.SnapshotPart]:
    """Yield the parts of a backup. Raises CorruptSnapshot when the file is not one, or ends early."""
    while (length := _read_varint(file)) is not None:
        message = file.read(length) if length <= _LARGEST_PART else b""
        if len(message) != length:
            raise CorruptSnapshot("The backup ends early or is damaged: restore from another copy of it.")
        try:
            yield pb.SnapshotPart.FromString(message)
        except DecodeError as error:
            raise CorruptSnapshot(f"The backup is damaged ({error}): restore from another copy of it.") from error


def restore(path: Path, staging: Path) -> tuple[Checkpoint, str]:
    """Unpack and check the backup `path` into directory `staging`; return the checkpoint and its cluster's id.

    Raises CorruptSnapshot and OSError.
    """
    receiver = SnapshotReceiver(staging, None)
    with open(path, "rb") as file:
        for part in read(file):
            receiver.take(part, part.data)
    return receiver.finish(), receiver.cluster or ""


def restored_state(base: BaseRecord, membership: Membership) -> DurableState:
    """Return the start of a new group's first member whose state is the backup of `base`."""
    begin = BaseRecord(base.index, base.term, membership)
    return DurableState(HardState(base.term, NOBODY, base.index), begin, base.index)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(file: BinaryIO) -> int | None:
    """Return the number, None at the end of the file."""
    number = 0
    for position in range(_VARINT_BYTES):
        byte = file.read(1)
        if not byte:
            if position:
                raise CorruptSnapshot("The backup ends early: restore from another copy of it.")
            return None
        number |= (byte[0] & 0x7F) << 7 * position
        if byte[0] < 0x80:
            return number
    raise CorruptSnapshot("This is not a backup, or it is damaged: restore from another copy of it.")
