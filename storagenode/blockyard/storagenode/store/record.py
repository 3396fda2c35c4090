"""The records of a pack as bytes.

    header    magic, CRC, kind, flags, page count, length, block, time, synced, aim
    table     CRC32C of each page of the block
    padding   to a multiple of `ALIGNMENT`
    payload   the block's bytes, padded likewise; only with kind BLOCK

The header's CRC covers header and table and starts from the pack's salt, its number and the record's offset: a record
is valid only where it was written, in the pack it was written to, and bytes that a user stored never pass for one.
`synced` says up to which offset the pack was known to be on the disk when the record was made: what is bad below it
has rotted; what is bad above may be the torn end of a write that nobody was told of.

Pure: nothing here does I/O.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

import crc32c

MAGIC: Final = b"BYP1"
ALIGNMENT: Final = 64
"""Records begin at multiples of this. With one page a header fills exactly one such unit."""

_HEADER: Final = Struct("<4sIBBHIQQIII")
_CHECKED: Final = Struct("<BBHIQQIII")
_CHECKED_FROM: Final = 8
_SEED: Final = Struct("<QIQ")
_TABLES: Final = tuple(Struct(f"<{count}I") for count in range(1025))


class Kind(IntEnum):
    """What a record says of its block."""

    BLOCK = 1  # its bytes follow
    FILE = 2  # it is sealed in a file of its own
    DROP = 3  # it is gone; `aim_pack` and `aim_generation` say where the record is that this one ends
    FILLER = 4  # nothing: `length` bytes from here on, this header included, were records of dropped blocks


UNSYNCED: Final = 1
"""Flag of FILE: the file itself was not synced when this was written. A later record without the flag follows."""

QUARANTINED: Final = 2
"""Flag of DROP: the replica was bad."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `offset` is of its header, `payload` of the block's bytes; `end` is where the next may begin."""

    kind: Kind
    flags: int
    block: int
    length: int
    time_ns: int
    checksums: tuple[int, ...]
    synced: int
    aim_pack: int
    aim_generation: int
    offset: int
    payload: int
    end: int


def header_bytes(pages: int) -> int:
    """Return the bytes before the payload of a block of that many pages."""
    return _aligned(_HEADER.size + 4 * pages)


def record_bytes(kind: Kind, pages: int, length: int) -> int:
    """Return the bytes that a record takes."""
    return header_bytes(pages) + (_aligned(length) if kind is Kind.BLOCK else 0)


def padding_bytes(length: int) -> int:
    """Return the bytes after a payload of that length."""
    return -length % ALIGNMENT


def encode(
    salt: int,
    pack: int,
    offset: int,
    *,
    kind: Kind,
    flags: int,
    block: int,
    length: int,
    time_ns: int,
    checksums: tuple[int, ...],
    synced: int,
    aim_pack: int = 0,
    aim_generation: int = 0,
) -> bytes:
    """Return header, table and padding of the record that will stand at `offset` of that pack."""
    pages = len(checksums)
    checked = _CHECKED.pack(
        kind, flags, pages, length, block, time_ns, synced // ALIGNMENT, aim_pack, aim_generation
    ) + _TABLES[pages].pack(*checksums)
    crc = crc32c.crc32c(checked, crc32c.crc32c(_SEED.pack(salt, pack, offset)))
    return b"".join((MAGIC, crc.to_bytes(4, "little"), checked, bytes(-(_CHECKED_FROM + len(checked)) % ALIGNMENT)))


def decode(data: memoryview | bytes, at: int, salt: int, pack: int, offset: int) -> Record | None:
    """Return the record whose header is at `at` of `data` and at `offset` of the pack; None when there is none.

    The payload is not looked at, and need not be in `data`.
    """
    if len(data) - at < _HEADER.size:
        return None
    magic, crc, kind, flags, pages, length, block, time_ns, synced, aim_pack, aim_generation = _HEADER.unpack_from(
        data, at
    )
    if magic != MAGIC or pages >= len(_TABLES):
        return None
    table = at + _HEADER.size
    if len(data) < table + 4 * pages:
        return None
    seed = crc32c.crc32c(_SEED.pack(salt, pack, offset))
    if crc32c.crc32c(data[at + _CHECKED_FROM : table + 4 * pages], seed) != crc or kind not in _KINDS:
        return None
    payload = offset + header_bytes(pages)
    end = offset + length if kind == Kind.FILLER else payload + (_aligned(length) if kind == Kind.BLOCK else 0)
    return Record(
        _KINDS[kind],
        flags,
        block,
        length,
        time_ns,
        _TABLES[pages].unpack_from(data, table),
        synced * ALIGNMENT,
        aim_pack,
        aim_generation,
        offset,
        payload,
        end,
    )


LARGEST_HEADER_BYTES: Final = (_HEADER.size + 4 * (len(_TABLES) - 1) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
_KINDS: Final = {int(kind): kind for kind in Kind}


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT
