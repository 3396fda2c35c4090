"""Getting the space of dropped small blocks back: by punching holes into packs, and by rewriting packs.

A hole is punched where records of dropped blocks lie side by side: first a filler record that spans them takes the
place of the first one's header and is synced, so the pack stays readable from record to record; then the pages go.

A pack with too little alive is copied under its number and the next generation: blocks that are here and pass their
checksums, and tombstones whose target may still be on the disk. The rename publishes it; a crash before leaves the old
pack, after it the new one, and the next start learns the new places from it. For that the index must be on disk up to
behind the pack before the rename. Readers that have the old file open keep it.
"""

import errno
import os
import threading
from collections.abc import Callable
from typing import Final

from blockyard.proto import failpoints, logs
from blockyard.proto.disk.failures import StorageFailed
from blockyard.proto.disk.stop import stop
from blockyard.proto.disk.sync import sync_directory
from blockyard.storagenode.store import checksums, media, record
from blockyard.storagenode.store.catalogue import Catalogue
from blockyard.storagenode.store.dead_runs import DeadRuns, Run, whole_pages
from blockyard.storagenode.store.descriptors import Descriptors
from blockyard.storagenode.store.layout import Layout
from blockyard.storagenode.store.log import Log
from blockyard.storagenode.store.pack import FIRST_RECORD, Pack, PackWriter, pack_name
from blockyard.storagenode.store.record import Kind, Record
from blockyard.storagenode.store.row import Row
from blockyard.storagenode.store.scan import Gap, PackReader

log = logs.get(__name__)

_FILLER_BYTES: Final = record.header_bytes(0)
_COPY_BYTES: Final = 4 << 20
_SLICE_ROWS: Final = 500
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Rewriter:
    """Works on packs that are no longer appended to; one call at a time."""

    def __init__(
        self,
        layout: Layout,
        catalogue: Catalogue,
        log_: Log,
        descriptors: Descriptors,
        live_percent: int,
        settle: Callable[[], None],
        quarantine: Callable[[int, str], None],
        give_up_ballast: Callable[[], bool],
    ) -> None:
        """`settle` makes everything durable that is not; `quarantine` puts a bad block aside."""
        self._layout = layout
        self._catalogue = catalogue
        self._log = log_
        self._descriptors = descriptors
        self._live_percent = live_percent
        self._settle = settle
        self._quarantine = quarantine
        self._give_up_ballast = give_up_ballast
        self._limit = 0  # packs below this number are finished, and the index on disk has all of them
        self._running = threading.Lock()
        self._runs: dict[int, DeadRuns] = {}

    def dropped(self, block: int, row: Row) -> None:
        """Take note of a small block that was dropped; under the catalogue's lock."""
        if block in self._catalogue.packs[row.pack].unmoved:
            return  # the row's place is one in the file that goes
        self._runs.setdefault(row.pack, DeadRuns()).add(row.offset, row.offset + row.record_bytes)

    def run(self, budget_bytes: int) -> int:
        """Punch what can be punched, and rewrite packs until about `budget_bytes` were copied, at least one if due.

        Returns the bytes of disk space that came back.
        """
        with self._running:
            self._settle_behind_packs()
            before = self._disk_bytes()
            with self._catalogue.lock:
                numbers = [number for number in self._runs if number < self._limit]
            for number in numbers:
                self._punch(number)
            copied = 0
            for pack in self._due():
                if copied and copied + pack.live > budget_bytes:
                    break
                copied += pack.live or 1
                self._rewrite(pack)
            return before - self._disk_bytes()

    # ------------------------------------------------------------------------------------------------- which

    def _due(self) -> list[Pack]:
        """Return the packs below the live share, those with the least to copy first."""
        with self._catalogue.lock:
            packs = [pack for pack in self._catalogue.packs.values() if pack.number < self._limit]
        due = [pack for pack in packs if self._is_due(pack)]
        return sorted(due, key=lambda pack: pack.live)

    def _is_due(self, pack: Pack) -> bool:
        size = pack.end - FIRST_RECORD
        if not pack.live_records and size > pack.held:
            return True
        return (pack.live + pack.held) * 100 < self._live_percent * size

    def _settle_behind_packs(self) -> None:
        """Have the index on disk up to behind every pack but the active one."""
        self._settle()
        with self._catalogue.lock:
            position = min(self._log.applied, self._log.position())
            self._catalogue.apply((), position)
        self._catalogue.index.flush()
        self._limit = position.pack

    def _disk_bytes(self) -> int:
        with self._catalogue.lock:
            packs = [pack for pack in self._catalogue.packs.values() if pack.number < self._limit]
            return sum(pack.take_disk_bytes(growing=False) for pack in packs)

    # ------------------------------------------------------------------------------------------------- holes

    def _punch(self, number: int) -> None:
        with self._catalogue.lock:
            pack = self._catalogue.packs.get(number)
            if pack is None or self._is_due(pack):
                self._runs.pop(number, None)
                return
            if self._descriptors.in_use((pack.number, pack.generation)):
                return  # somebody may still read what was dropped
            grown = self._runs[number].take_grown(_FILLER_BYTES)
        if not grown:
            return
        fd = os.open(pack.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for run in grown:
                os.pwrite(fd, _filler(pack, run), run[0])
            os.fdatasync(fd)
            failpoints.hit("store.punch.filled")
            for run in grown:
                low, high = whole_pages(run, _FILLER_BYTES)
                media.punch(fd, low, high - low)
            pack.disk_bytes = 0
        except OSError as error:
            stop(_failed(f"punch holes into {pack.path}", error))
        finally:
            os.close(fd)

    # ------------------------------------------------------------------------------------------------- rewriting

    def _rewrite(self, pack: Pack) -> None:
        with self._catalogue.lock:
            pack.rewriting = True
        try:
            copy = self._copy(pack)
            if copy is None:
                log.warning("pack_not_rewritten", pack=pack.path.name, why="the disk is full")
                return
            for block, why in copy.rotten:
                self._quarantine(block, why)
            failpoints.hit("store.rewrite.copied")
            if copy.places or copy.held:
                self._publish(pack, copy)
            else:
                copy.discard()
                self._remove(pack)
        finally:
            pack.rewriting = False

    def _copy(self, pack: Pack) -> "_Copy | None":
        while True:
            try:
                return _Copy(self._catalogue, pack, self._layout)
            except OSError as error:
                if error.errno not in _FULL:
                    stop(_failed(f"rewrite {pack.path}", error))
                if not self._give_up_ballast():
                    return None

    def _remove(self, pack: Pack) -> None:
        """Remove a pack in which nothing is alive."""
        self._catalogue.index.flush()  # an index that has blocks in a pack that is gone would be made anew
        with self._catalogue.lock:
            assert not pack.live_records, f"{pack.path} has {pack.live_records} blocks and none was found"
            del self._catalogue.packs[pack.number]
            self._catalogue.apply((), None, (pack.number,))
            self._descriptors.forget((pack.number, pack.generation))
            os.unlink(pack.path)

    def _publish(self, pack: Pack, copy: "_Copy") -> None:
        old_path, old_generation = pack.path, pack.generation
        with self._catalogue.lock:
            new_path = self._layout.packs / pack_name(pack.number, copy.writer.header.generation)
            os.rename(copy.writer.path, new_path)
            try:
                sync_directory(self._layout.packs)
            except OSError as error:
                stop(_failed(f"sync {self._layout.packs}", error))
            failpoints.hit("store.rewrite.renamed")
            self._runs.pop(pack.number, None)  # places in the old file
            pack.unmoved, pack.unmoved_path, pack.unmoved_generation = set(copy.places), old_path, old_generation
            pack.path, pack.header, pack.end, pack.held = new_path, copy.writer.header, copy.writer.end, copy.held
            pack.disk_bytes = 0
        copy.writer.close()
        self._move_rows(pack, copy)
        failpoints.hit("store.rewrite.switched")
        with self._catalogue.lock:
            self._descriptors.forget((pack.number, old_generation))
            os.unlink(old_path)

    def _move_rows(self, pack: Pack, copy: "_Copy") -> None:
        """Give the rows their new places, a slice at a time so that nobody waits long."""
        blocks = list(copy.places)
        for start in range(0, len(blocks), _SLICE_ROWS):
            with self._catalogue.lock:
                moved = []
                for block in blocks[start : start + _SLICE_ROWS]:
                    row = self._catalogue.get(block)
                    old, new = copy.places[block]
                    if row is not None and (row.pack, row.offset) == (pack.number, old) and block in pack.unmoved:
                        moved.append((block, row._replace(offset=new)))
                    pack.unmoved.discard(block)
                self._catalogue.rewrite(moved, 0)
        with self._catalogue.lock:
            self._catalogue.rewrite((), pack.number)


class _Copy:
    """The next generation of a pack, complete and synced under a temporary name."""

    def __init__(self, catalogue: Catalogue, pack: Pack, layout: Layout) -> None:
        """Copy. Raises OSError; then nothing is left of it."""
        self.places: dict[int, tuple[int, int]] = {}
        """Block → (offset in the old file, offset in the new one)."""
        self.held = 0
        self.rotten: list[tuple[int, str]] = []
        self._catalogue = catalogue
        self._pack = pack
        self._buffers: list[bytes] = []
        self._size = 0
        self.writer = PackWriter.create(layout.packs, pack.number, pack.generation + 1, publish=False)
        reader = PackReader(pack.path, pack.header)
        try:
            for found in reader.records():
                if isinstance(found, Gap):
                    log.error("rotten", what=f"{pack.path} bytes {found.start} to {found.end} are no records")
                elif found.kind is Kind.DROP:
                    if self._is_needed(found):
                        self.held += self._copy(found, b"")
                elif found.kind is not Kind.FILLER and self._is_alive(found):
                    self._copy_block(reader, found)
            self._write()
            self.writer.finish()
            self._find_unread()
        except OSError:
            self.discard()
            raise
        finally:
            reader.close()

    def discard(self) -> None:
        """Remove the new file."""
        self.writer.close()
        os.unlink(self.writer.path)

    def _is_alive(self, found: Record) -> bool:
        with self._catalogue.lock:
            row = self._catalogue.get(found.block)
        return row is not None and (row.pack, row.offset) == (self._pack.number, found.offset)

    def _is_needed(self, tombstone: Record) -> bool:
        """Say whether the record that a tombstone ends may still be on the disk."""
        if tombstone.aim_pack == self._pack.number:
            return False
        with self._catalogue.lock:
            target = self._catalogue.packs.get(tombstone.aim_pack)
            return target is not None and target.generation <= tombstone.aim_generation

    def _copy_block(self, reader: PackReader, found: Record) -> None:
        data = reader.payload(found)
        if found.kind is Kind.BLOCK and (len(data) < found.length or checksums.bad_pages(data, found.checksums)):
            self.rotten.append((found.block, f"its record in {self._pack.path.name} fails its checksum"))
            return
        self.places[found.block] = (found.offset, self.writer.end + self._size)
        self._copy(found, bytes(data))

    def _copy(self, found: Record, payload: bytes) -> int:
        header, offset = self.writer.header, self.writer.end + self._size
        head = record.encode(
            header.salt,
            header.number,
            offset,
            kind=found.kind,
            flags=found.flags,
            block=found.block,
            length=found.length,
            time_ns=found.time_ns,
            checksums=found.checksums,
            synced=offset,  # all of it is synced before it has its name
            aim_pack=found.aim_pack,
            aim_generation=found.aim_generation,
        )
        size = record.record_bytes(found.kind, len(found.checksums), found.length)
        self._buffers += [head, payload, bytes(size - len(head) - len(payload))]
        self._size += size
        if self._size >= _COPY_BYTES:
            self._write()
        return size

    def _write(self) -> None:
        if not self.writer.allocate(self._size, self._pack.end, 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.writer.append(self._buffers, self._size)
        self._buffers, self._size = [], 0

    def _find_unread(self) -> None:
        """Find blocks that should be in the pack and whose records could not be read."""
        known = self.places.keys() | {block for block, _ in self.rotten}
        if len(known) >= self._pack.live_records:
            return
        for block, value in self._catalogue.index.rows(0, 1 << 64):
            if Row.decode(value).pack == self._pack.number and block not in known:
                self.rotten.append((block, f"its record in {self._pack.path.name} cannot be read"))


def _filler(pack: Pack, run: Run) -> bytes:
    return record.encode(
        pack.header.salt,
        pack.number,
        run[0],
        kind=Kind.FILLER,
        flags=0,
        block=0,
        length=run[1] - run[0],
        time_ns=0,
        checksums=(),
        synced=run[0],
    )


def _failed(doing: str, error: OSError) -> StorageFailed:
    return StorageFailed(f"Could not {doing}: {error}. This process must end; check the disk (`dmesg`).")
