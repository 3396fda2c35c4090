"""A checkpoint as a stream of `SnapshotPart`s, and back.

    first part   base, cluster, context; no file
    file parts   file, offset, crc32c of data, data: each file in order from offset 0; an empty file is one empty part
    last part    last = true; crc32c of all that the parts before it said, so none can be missing, added or changed

A received snapshot is believed when the last part's checksum is right, RocksDB opens it with every row readable, and
its applied index is the announced one. Until then it stands under a name that the next start deletes.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import crc32c
from blockyard.metaserver.raft.types import BaseRecord
from blockyard.metaserver.storage.checkpoint import Checkpoint
from blockyard.metaserver.storage.failures import CorruptSnapshot, CorruptState
from blockyard.metaserver.storage.record import decode_base, encode_base
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto import failpoints
from blockyard.proto import raft_pb2 as pb
from blockyard.proto.ids import ClusterId

PART_BYTES: Final = 1 << 20

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


class _Digest:
    """CRC32C over what the parts say, data by its own CRC."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, part: pb.SnapshotPart) -> None:
        base = part.base.SerializeToString(deterministic=True) if part.HasField("base") else b""
        said = b"%b\0%b\0%b\0%d\0%d\0" % (base, part.cluster.encode(), part.file.encode(), part.offset, part.crc32c)
        self.value = crc32c.crc32c(said, self.value)


def send(
    checkpoint: Checkpoint, cluster: ClusterId, context: int = 0, part_bytes: int = PART_BYTES
) -> Iterator[tuple[pb.SnapshotPart, memoryview]]:
    """Yield the parts, each with its bytes beside it (`part.data` is left empty, for transports that carry payload).

    Raises OSError when a file cannot be read.
    """
    digest = _Digest()
    first = pb.SnapshotPart(base=encode_base(checkpoint.base), cluster=cluster, context=context)
    digest.add(first)
    yield first, memoryview(b"")
    for file in checkpoint.files():
        with open(file, "rb") as opened:
            offset = 0
            while (data := opened.read(part_bytes)) or offset == 0:
                crc = crc32c.crc32c(data)
                part = pb.SnapshotPart(file=file.name, offset=offset, crc32c=crc, context=context)
                digest.add(part)
                yield part, memoryview(data)
                offset += len(data)
                if not data:
                    break
    yield pb.SnapshotPart(last=True, crc32c=digest.value, context=context), memoryview(b"")


class SnapshotReceiver:
    """Receives one snapshot into a directory of its own. Every error is final: drop the receiver and start again."""

    def __init__(self, staging: Path, cluster: ClusterId | None) -> None:
        """Receive into the new directory `staging`; what is there is removed. `cluster` None takes any cluster's."""
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
        self.path = staging
        self.base: BaseRecord | None = None
        self.cluster = cluster
        self.received_bytes = 0
        self._digest = _Digest()
        self._sizes: dict[str, int] = {}
        self._complete = False

    def take(self, part: pb.SnapshotPart, data: bytes | memoryview) -> bool:
        """Take the next part, with its bytes; return True after the last one. Raises CorruptSnapshot and OSError."""
        self._demand(not self._complete, "a part came after the last one")
        if self.base is None:
            self._begin(part)
        elif part.last:
            self._demand(
                part.crc32c == self._digest.value, "the stream's checksum is wrong: parts are missing or changed"
            )
            self._complete = True
        else:
            self._write(part, data)
        self._digest.add(part)
        return self._complete

    def finish(self) -> Checkpoint:
        """Check the whole and make it durable; return it, complete. Raises CorruptSnapshot and OSError."""
        self._demand(self._complete, "the stream ended before its last part")
        assert self.base is not None
        try:
            store = StateStore(self.path, read_only=True)
            applied, _ = store.applied_index(), store.verify()
            store.close()
        except CorruptState as error:
            raise CorruptSnapshot(f"The received snapshot {self.path} cannot be read: {error}") from error
        self._demand(applied == self.base.index, f"it holds applied index {applied} and claims {self.base.index}")
        checkpoint = Checkpoint(self.path, self.base)
        checkpoint.seal()
        failpoints.hit("snapshot.staged")
        return checkpoint

    def abandon(self) -> None:
        """Remove what was received."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _begin(self, part: pb.SnapshotPart) -> None:
        self._demand(part.HasField("base"), "its first part has no base record")
        cluster = self.cluster or part.cluster
        self._demand(part.cluster == cluster, f"it is of cluster {part.cluster}, this one is {cluster}")
        try:
            self.base = decode_base(part.base)
        except ValueError as error:
            raise CorruptSnapshot(f"The snapshot for {self.path} has a bad base record: {error}") from error
        self.cluster = ClusterId(cluster)

    def _write(self, part: pb.SnapshotPart, data: bytes | memoryview) -> None:
        name = part.file
        self._demand(_FILE_NAME.match(name) is not None, f"{name!r} is not a file name")
        size = self._sizes.get(name, 0)
        self._demand(part.offset == size, f"{name} goes on at byte {part.offset}, {size} are here")
        self._demand(crc32c.crc32c(data) == part.crc32c, f"{name} at byte {part.offset} fails its checksum")
        with open(self.path / name, "ab") as file:
            file.write(data)
        self._sizes[name] = size + len(data)
        self.received_bytes += len(data)
        failpoints.hit("snapshot.part.written")

    def _demand(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise CorruptSnapshot(f"The snapshot for {self.path} is refused: {otherwise}. Send it again.")


def join(part: pb.SnapshotPart, data: memoryview) -> pb.SnapshotPart:
    """Return the part with its bytes in it, for transports without payload and for backups."""
    if data:
        part.data = bytes(data)
    return part
