"""A row of the index: where a sealed block is and what it must read as. Pure."""

from struct import Struct
from typing import Final, NamedTuple

from blockyard.storagenode.store.record import ALIGNMENT, Kind, Record, header_bytes, record_bytes
from blockyard.storagenode.store.replica import StoredReplica

_ROW: Final = Struct("<IIIQQ")
_TABLES: Final = tuple(Struct(f"<{count}I") for count in range(1025))
_OWN_FILE: Final = 1 << 31


class Row(NamedTuple):
    """`offset` is that of the record in pack `pack`; a block with `own_file` has its bytes elsewhere."""

    pack: int
    offset: int
    length: int
    own_file: bool
    sealed_ns: int
    scrubbed_ns: int
    checksums: tuple[int, ...]

    @property
    def payload(self) -> int:
        """Offset of the block's bytes in the pack."""
        return self.offset + header_bytes(len(self.checksums))

    @property
    def record_bytes(self) -> int:
        return record_bytes(Kind.FILE if self.own_file else Kind.BLOCK, len(self.checksums), self.length)

    def encode(self) -> bytes:
        length = self.length | _OWN_FILE if self.own_file else self.length
        fixed = _ROW.pack(self.pack, self.offset // ALIGNMENT, length, self.sealed_ns, self.scrubbed_ns)
        return fixed + _TABLES[len(self.checksums)].pack(*self.checksums)

    @staticmethod
    def decode(data: bytes) -> "Row":
        pack, offset, length, sealed_ns, scrubbed_ns = _ROW.unpack_from(data)
        checksums = _TABLES[(len(data) - _ROW.size) // 4].unpack_from(data, _ROW.size)
        own = bool(length & _OWN_FILE)
        return Row(pack, offset * ALIGNMENT, length & ~_OWN_FILE, own, sealed_ns, scrubbed_ns, checksums)

    @staticmethod
    def of(found: Record, pack: int) -> "Row":
        """Return the row of a BLOCK or FILE record of that pack."""
        own_file = found.kind is Kind.FILE
        return Row(pack, found.offset, found.length, own_file, found.time_ns, found.time_ns, found.checksums)

    def replica(self, block: int) -> StoredReplica:
        return StoredReplica(
            block, self.length, self.checksums, self.sealed_ns, self.scrubbed_ns, in_pack=not self.own_file
        )

    def same_content(self, length: int, checksums: tuple[int, ...]) -> bool:
        return self.length == length and self.checksums == checksums
