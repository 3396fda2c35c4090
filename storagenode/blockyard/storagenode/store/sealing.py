"""Large blocks from their opening to their seal, and files of their own that are not synced yet.

A durable seal: sync the file, sync the name it was written under, log the seal durably, then give it its own name; that
last step needs no sync, because the next start repeats it (`recovery.py`). A seal that need not be durable logs and
renames at once; the keeper syncs the file soon after and logs the seal again, this time for good.
"""

import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from blockyard.proto import failpoints
from blockyard.proto.disk.failures import NO_DESCRIPTORS, StorageFailed
from blockyard.proto.disk.stop import stop
from blockyard.proto.disk.sync import sync_directory
from blockyard.proto.errors import Exists, TooManyOpenFiles
from blockyard.proto.ids import BLOCK, BlockId
from blockyard.storagenode.store.catalogue import Catalogue
from blockyard.storagenode.store.layout import Layout
from blockyard.storagenode.store.log import Append, Log, NewRecord, View
from blockyard.storagenode.store.open_block import OpenBlock
from blockyard.storagenode.store.record import UNSYNCED, Kind
from blockyard.storagenode.store.replica import StoredReplica


class SharedSync:
    """Syncs of one directory: one that begins after several callers asked serves them all."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._asked = 0
        self._done = 0

    def __call__(self) -> None:
        self._asked += 1
        mine = self._asked
        with self._lock:
            if self._done < mine:
                covers = self._asked
                self._sync()
                self._done = covers


class Sealing:
    """The open blocks of a store."""

    def __init__(self, layout: Layout, catalogue: Catalogue, log: Log, small_block_limit_bytes: int) -> None:
        self._layout = layout
        self._catalogue = catalogue
        self._log = log
        self._small: Final = small_block_limit_bytes
        self._open: dict[int, OpenBlock] = {}
        self._sync_names = SharedSync(lambda: sync_directory(layout.writing))

    def __contains__(self, block: int) -> bool:
        return block in self._open

    def begin(self, block: int, expected_bytes: int) -> OpenBlock:
        """Open a block. Raises Exists when it is sealed or open here, and OSError."""
        with self._catalogue.lock:
            if block in self._open or self._catalogue.get(block) is not None:
                raise Exists("the block is here already", BLOCK.text(BlockId(block)))
            path = self._layout.unfinished(block)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            opened = self._open[block] = OpenBlock(block, path, fd, self._seal, self._ended)
        if expected_bytes:
            try:
                os.posix_fallocate(fd, 0, expected_bytes)
            except OSError:
                opened.abort()
                raise
        return opened

    def abort_all(self) -> None:
        """Give up every block that is still open."""
        for opened in list(self._open.values()):
            opened.abort()

    def harden(self, blocks: Sequence[int]) -> None:
        """Make sealed files durable that were not, and log it."""
        shards = set()
        for block in blocks:
            path = self._layout.file(block)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # dropped meanwhile
            try:
                os.fsync(fd)
            except OSError as error:
                _fail(path, error)
            finally:
                os.close(fd)
            shards.add(path.parent)
        for shard in shards:
            try:
                sync_directory(shard)
            except OSError as error:
                _fail(shard, error)

        def prepare(view: View) -> list[NewRecord]:
            records = []
            for block in blocks:
                row = view.get(block)
                if block in self._log.unhardened and row is not None and row.own_file:
                    records.append(NewRecord(Kind.FILE, block, row.length, row.checksums))
            return records

        self._log.submit(Append(prepare, durable=True, vital=True))

    def _seal(self, opened: OpenBlock, durable: bool) -> StoredReplica:
        block, length, found = opened.block, opened.length, opened.sealed_checksums()
        in_pack = length < self._small
        payload = b""
        if in_pack:
            payload = os.pread(opened.fd, length, 0)
            record = NewRecord(Kind.BLOCK, block, length, found, payload)
        else:
            self._finish_file(opened, durable)
            record = NewRecord(Kind.FILE, block, length, found, flags=0 if durable else UNSYNCED)
        sealed: list[StoredReplica] = []

        def applied() -> None:
            failpoints.hit("store.seal.logged")
            if in_pack:
                os.unlink(opened.path)
            else:
                os.rename(opened.path, self._layout.file(block))
            row = self._catalogue.get(block)
            assert row is not None, f"block {block} was logged, and has no row"
            sealed.append(row.replica(block))

        self._log.submit(Append(lambda view: (record,), durable, applied=applied))
        failpoints.hit("store.seal.named")
        return sealed[0]

    def _finish_file(self, opened: OpenBlock, durable: bool) -> None:
        try:
            os.ftruncate(opened.fd, opened.length)
            if durable:
                os.fsync(opened.fd)
                self._sync_names()
        except OSError as error:
            _fail(opened.path, error)
        failpoints.hit("store.seal.synced")

    def _ended(self, opened: OpenBlock) -> None:
        with self._catalogue.lock:
            del self._open[opened.block]


def _fail(path: os.PathLike[str], error: OSError) -> None:
    """End the process, unless nothing was asked of the disk yet, for want of descriptors: then raise that."""
    if error.errno in NO_DESCRIPTORS:
        raise TooManyOpenFiles(f"could not open {path} to sync it") from error
    stop(StorageFailed(f"Could not sync {path}: {error}. This process must end; check the disk (`dmesg`)."))
