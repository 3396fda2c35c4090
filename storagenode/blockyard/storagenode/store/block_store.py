"""Blocks on one disk: written once, then only read, copied or dropped.

Large blocks are files of their own, small ones records of packs; the packs are at once the log of all that happens
(`log.py`), and the index is made from them (`catalogue.py`). Thread-safe; every call may block on the disk.

Promises: what was acknowledged as durable survives any crash; what was acknowledged otherwise may vanish with a power
cut, and is never wrong; a dropped block does not rise again; bytes that do not match their checksums are found, not
served as good. An error of a write or a sync ends the process.
"""

import errno
import heapq
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from blockyard.proto import failpoints, logs
from blockyard.proto.disk.directory_lock import DirectoryLock
from blockyard.proto.disk.stop import stop
from blockyard.proto.errors import (
    BlockyardError,
    CorruptBlock,
    Exists,
    InvalidArgument,
    NoSpace,
    TooLarge,
    UnknownBlock,
)
from blockyard.proto.ids import BLOCK, BlockId
from blockyard.storagenode.store import checksums, opening, recovery
from blockyard.storagenode.store.descriptors import Descriptor, Descriptors
from blockyard.storagenode.store.index import CorruptIndex
from blockyard.storagenode.store.keeper import Keeper
from blockyard.storagenode.store.layout import Layout
from blockyard.storagenode.store.log import Append, Log, NewRecord, View
from blockyard.storagenode.store.media import DirectReader
from blockyard.storagenode.store.open_block import OpenBlock
from blockyard.storagenode.store.quarantine import Quarantine
from blockyard.storagenode.store.record import QUARANTINED, Kind
from blockyard.storagenode.store.recovery import RecoveryReport
from blockyard.storagenode.store.replica import (
    LARGEST_BLOCK_BYTES,
    LARGEST_PUT_BYTES,
    PAGE_BYTES,
    NewBlock,
    OpenedReplica,
    StoredReplica,
    StoreSettings,
    Usage,
    Verification,
)
from blockyard.storagenode.store.rewrite import Rewriter
from blockyard.storagenode.store.row import Row
from blockyard.storagenode.store.sealing import Sealing
from blockyard.storagenode.store.space import Space

log = logs.get(__name__)

_SWEEP_ROWS: Final = 10_000
_LAST_BLOCK: Final = 1 << 64


class BlockStore:
    """The blocks of one directory. `open` before anything else, `close` at the end."""

    def __init__(self, directory: Path, settings: StoreSettings | None = None) -> None:
        self.directory = directory
        self.settings = settings or StoreSettings()
        self._layout = Layout(directory)
        self._quarantine = Quarantine(self._layout.quarantine, self.settings.quarantine_bytes)
        self._descriptors = Descriptors(self.settings.open_files)
        self._doomed = 0
        self._scrub_queue: list[int] = []
        self._sweep_due = False

    # ------------------------------------------------------------------------------------------------- life

    def open(self) -> RecoveryReport:
        """Open or make the store; after a crash, bring it in order. Return what was found.

        Raises DirectoryRefused when another process uses it, CorruptStorage with what to do, OSError.
        """
        self._lock = DirectoryLock(self.directory, opening.HOW_TO_MAKE_ONE)
        try:
            self._space = Space(self.directory, self._layout.ballast, self.settings, 0)
            self._space.give_up_when_full()  # the index needs some to be opened
            opened = opening.open_directory(self._layout)
        except BaseException:
            self._lock.release()
            raise
        self._catalogue = opened.catalogue
        self._log = Log(
            self._layout.packs,
            self._catalogue,
            opened.writer,
            self.settings.pack_size_bytes,
            self._space.give_up_ballast,
        )
        self._log.unhardened.update(opened.unhardened)
        self._sweep_due = not opened.was_clean
        self._sealing = Sealing(self._layout, self._catalogue, self._log, self.settings.small_block_limit_bytes)
        self._rewriter = Rewriter(
            self._layout,
            self._catalogue,
            self._log,
            self._descriptors,
            self.settings.pack_live_percent,
            self._settle,
            self.quarantine,
            self._space.give_up_ballast,
        )
        self._catalogue.index.on_failure = self._index_failed
        self._space.observe(self._used_bytes())
        self._space.keep_ballast()
        for block, why in opened.report.lost:
            self.quarantine(block, why)
        self.report = opened.report
        recovery.note(opened.report)
        self._keeper = Keeper(self._keep, self.settings.sync_interval_s)
        return opened.report

    def close(self) -> None:
        """Make everything durable and close; open blocks are given up."""
        self._keeper.stop()
        self._sealing.abort_all()
        self._keep()
        self._log.close()
        self._catalogue.index.flush()
        self._catalogue.index.close()
        self._layout.clean.touch()
        self._descriptors.close()
        self._lock.release()

    @staticmethod
    def rebuild_index(directory: Path) -> RecoveryReport:
        """Make the index anew from packs and files, checking every record and each file's first and last page.

        No process may use the store. Swapped, missing and cut files are reported as lost, and are gone from the
        index afterwards; what is in quarantine stays there. Raises as `open`.
        """
        layout = Layout(directory)
        lock = DirectoryLock(directory, opening.HOW_TO_MAKE_ONE)
        layout.make()
        layout.broken.write_text("asked for by --rebuild-index")
        lock.release()
        store = BlockStore(directory)
        report = store.open()
        store.close()
        return report

    # ------------------------------------------------------------------------------------------------- writing

    def begin(self, block: int, expected_bytes: int = 0, *, reserve: bool = False) -> OpenBlock:
        """Open a block for its one writer; `expected_bytes`, if known, are set aside.

        `reserve` may use the space that users may not (repair). Raises Exists when the block is sealed or open here,
        NoSpace, InvalidArgument.
        """
        _check_id(block)
        if not 0 <= expected_bytes <= LARGEST_BLOCK_BYTES:
            raise InvalidArgument(f"a block is at most {LARGEST_BLOCK_BYTES} bytes, not {expected_bytes}", _name(block))
        self._space.admit(expected_bytes, reserve)
        with _no_space(block):
            return self._sealing.begin(block, expected_bytes)

    def put(
        self, blocks: Sequence[NewBlock], data: memoryview | bytes, durable: bool, *, reserve: bool = False
    ) -> None:
        """Write small blocks whose bytes follow each other in `data`: all of them, or none.

        A block that is here with the same content counts as written. Raises CorruptBlock, Exists for other content,
        NoSpace, InvalidArgument, TooLarge.
        """
        view = memoryview(data).cast("B")
        records = _checked(blocks, view)
        self._space.admit(len(view), reserve)

        def prepare(known: View) -> list[NewRecord]:
            return [new for new in records if not self._is_here(new, known)]

        self._log.submit(Append(prepare, durable))
        if durable and self._log.unhardened and (soft := [n.block for n in blocks if n.block in self._log.unhardened]):
            self._sealing.harden(soft)

    # ------------------------------------------------------------------------------------------------- reading

    def find(self, block: int) -> StoredReplica:
        """Return the block's length, checksums and times. Raises UnknownBlock."""
        with self._catalogue.lock:
            return self._row(block).replica(block)

    def open_range(self, block: int) -> OpenedReplica:
        """Return the descriptor and place of the block's bytes; close it. Raises UnknownBlock.

        Nothing of the bytes is checked here: whoever uses them compares them with `checksums`.
        """
        try:
            with self._catalogue.lock:
                row = self._row(block)
                if row.own_file:
                    taken = self._descriptors.take(block, self._layout.file(block))
                    offset = 0
                else:
                    path, key = self._catalogue.packs[row.pack].file_of(block)
                    taken = self._descriptors.take(key, path)
                    offset = row.payload
        except FileNotFoundError as error:
            self.quarantine(block, f"{error.filename} is missing")
            raise UnknownBlock("its file is missing", _name(block)) from error
        return OpenedReplica(taken.fd, offset, row.length, row.checksums, lambda: self._descriptors.release(taken))

    @contextmanager
    def open_ranges(self, blocks: Iterable[int]) -> Iterator[Mapping[int, OpenedReplica | UnknownBlock]]:
        """Open blocks as `open_range` does, until the context ends; a block that is not here has its error instead.

        Small blocks of one pack share its descriptor, and the index is asked for all of them at once.
        """
        found: dict[int, OpenedReplica | UnknownBlock] = {}
        taken: dict[tuple[int, int], Descriptor] = {}
        alone: list[int] = []
        try:
            with self._catalogue.lock:
                for block in dict.fromkeys(blocks):
                    row = self._catalogue.hot(block)
                    if row is None or row.own_file:
                        alone.append(block)
                        continue
                    path, key = self._catalogue.packs[row.pack].file_of(block)
                    descriptor = taken.get(key)
                    if descriptor is None:
                        try:
                            descriptor = taken[key] = self._descriptors.take(key, path)
                        except FileNotFoundError:
                            alone.append(block)
                            continue
                    found[block] = OpenedReplica(descriptor.fd, row.payload, row.length, row.checksums, None)
            for block in alone:
                try:
                    found[block] = self.open_range(block)
                except UnknownBlock as error:
                    found[block] = error
            yield found
        finally:
            for block in alone:
                if isinstance(replica := found.get(block), OpenedReplica):
                    replica.close()
            for descriptor in taken.values():
                self._descriptors.release(descriptor)

    # ------------------------------------------------------------------------------------------------- inventory

    def list(self, group: int, after: int, limit: int) -> list[tuple[int, int]]:
        """Return (block, length) of the first `limit` sealed blocks of the group with ids above `after`, rising."""
        first = max(after + 1, group << 48)
        with self._catalogue.lock:
            rows = self._catalogue.rows(first, group + 1 << 48, limit)
        return [(block, row.length) for block, row in rows]

    def groups(self) -> Sequence[int]:
        """Return the placement groups with at least one sealed block, rising."""
        with self._catalogue.lock:
            return self._catalogue.groups()

    def drop(self, blocks: Iterable[int]) -> int:
        """Drop blocks, durably; unknown ids are passed over. Return how many were here."""
        return self._drop(list(dict.fromkeys(blocks)), 0, self._doom)

    def usage(self) -> Usage:
        """Return how full the store is and how its disk does."""
        with self._catalogue.lock:
            total = self._catalogue.total()
            times = list(self._log.sync_times_us)
        self._space.observe(self._used_bytes())
        room = self._space.room()
        return Usage(
            blocks=total.blocks,
            live_bytes=total.bytes,
            used_bytes=room.used,
            free_bytes=room.free,
            quarantined=len(self._quarantine.entries()),
            sync_us=int(statistics.median(times)) if times else 0,
            puts=self._log.puts,
            syncs=self._log.syncs,
            read_only=self._space.read_only(room),
        )

    # ------------------------------------------------------------------------------------------------- health

    def verify(self, block: int) -> Verification:
        """Read the whole block from the disk, not from memory, and check it. Raises UnknownBlock.

        The page cache is neither used nor filled.
        """
        with self._catalogue.lock:
            row = self._row(block)
            path = self._layout.file(block) if row.own_file else self._catalogue.packs[row.pack].file_of(block)[0]
            try:
                reader = DirectReader(path)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EIO):
                    raise
                return Verification(False, 0, tuple(range(len(row.checksums))), 0)
        found: list[int] = []
        bad: list[int] = []
        length = 0
        pieces = reader.pieces(0 if row.own_file else row.payload, row.length, PAGE_BYTES)
        for page, data in enumerate(pieces):
            crc = 0 if data is None or not data else checksums.pages_of(data)[0]
            wanted = min(PAGE_BYTES, row.length - page * PAGE_BYTES)
            if data is None or len(data) != wanted or crc != row.checksums[page]:
                bad.append(page)
            found.append(crc)
            length += 0 if data is None else len(data)
        reader.close()
        with self._catalogue.lock:
            self._row(block)  # what was dropped meanwhile may have read as anything
        return Verification(not bad, length, tuple(bad), checksums.whole(found, row.length))

    def quarantine(self, block: int, why: str) -> None:
        """Serve and list the block no longer, because it is bad; its bytes are kept aside for a while."""
        with self._catalogue.lock:
            row = self._catalogue.get(block)
            if row is None:
                return
            aside = self._quarantine.admit(block, why)
            if not row.own_file:
                self._quarantine.copy(self._catalogue.packs[row.pack].file_of(block)[0], row.payload, row.length, aside)

        def keep(lost: int) -> Path | None:
            with suppress(FileNotFoundError):
                os.rename(self._layout.file(lost), aside)
            return None

        self._drop([block], QUARANTINED, keep)
        self._quarantine.shrink()
        log.warning("block_quarantined", block=_name(block), why=why)

    def quarantined(self) -> Sequence[tuple[int, str]]:
        """Return (block, reason) of the bad replicas that are kept, oldest first."""
        return [(entry.block, entry.why) for entry in self._quarantine.entries()]

    def release(self, block: int) -> None:
        """Keep the bad replicas of a block no longer: a good one has taken their place, or nobody wants one."""
        self._quarantine.release(block)

    def mark_scrubbed(self, block: int, when_ns: int) -> None:
        """Note when the block was last read and found good; forgotten by a crash soon after. Unknown ids are fine."""
        with self._catalogue.lock:
            row = self._catalogue.get(block)
            if row is not None and block not in self._catalogue.shown():
                self._catalogue.rewrite([(block, row._replace(scrubbed_ns=when_ns))], 0)

    def oldest_scrubbed(self, limit: int) -> Sequence[int]:
        """Return blocks whose last check is longest ago, the oldest first.

        One pass over the index serves many calls, so the order is that of the time of the pass.
        """
        if not self._scrub_queue:
            with self._catalogue.lock:
                rows = self._catalogue.index.rows(0, _LAST_BLOCK)
            aged = ((Row.decode(value).scrubbed_ns, block) for block, value in rows)
            oldest = heapq.nsmallest(max(limit, _SWEEP_ROWS), aged)
            self._scrub_queue = [block for _, block in reversed(oldest)]
        taken = self._scrub_queue[-limit:][::-1]
        del self._scrub_queue[-limit:]
        return taken

    def rewrite_packs(self, budget_bytes: int) -> int:
        """Give the space of dropped small blocks back; copy about `budget_bytes` at most, but one pack if one is due.

        Returns the bytes of disk space that came back; 0 when nothing is left to do, or the disk is too full for it.
        """
        return self._rewriter.run(budget_bytes)

    # ------------------------------------------------------------------------------------------------- inside

    def _row(self, block: int) -> Row:
        row = self._catalogue.hot(block)
        if row is None:
            raise UnknownBlock("this node does not hold the block", _name(block))
        return row

    def _index_failed(self, error: Exception) -> NoReturn:
        """End this process; when the index is corrupt, the next one makes it anew."""
        if isinstance(error, CorruptIndex):
            self._layout.broken.write_text(str(error))
        stop(error)

    def _is_here(self, new: NewRecord, known: View) -> bool:
        row = known.get(new.block)
        if row is None and new.block not in self._sealing:
            return False
        if row is None or not row.same_content(new.length, new.checksums):
            raise Exists("the block is here with other content", _name(new.block))
        return True

    def _drop(self, blocks: Sequence[int], flags: int, move_file: Callable[[int], Path | None]) -> int:
        rows: dict[int, Row] = {}
        leaving: list[Path] = []

        def prepare(known: View) -> list[NewRecord]:
            rows.update((block, row) for block in blocks if (row := known.get(block)) is not None)
            return [self._tombstone(block, row, flags) for block, row in rows.items()]

        def applied() -> None:
            failpoints.hit("store.drop.logged")
            for block, row in rows.items():
                if not row.own_file:
                    self._rewriter.dropped(block, row)
                else:
                    self._descriptors.forget(block)
                    if (path := move_file(block)) is not None:
                        leaving.append(path)
            failpoints.hit("store.drop.renamed")

        if blocks:
            self._log.submit(Append(prepare, durable=True, vital=True, applied=applied))
        for path in leaving:
            path.unlink()
        return len(rows)

    def _tombstone(self, block: int, row: Row, flags: int) -> NewRecord:
        pack = self._catalogue.packs[row.pack]
        return NewRecord(Kind.DROP, block, flags=flags, aim_pack=pack.number, aim_generation=pack.aim_generation)

    def _doom(self, block: int) -> Path | None:
        """Take a dropped file's name away at once, for the block may come again; its space goes later."""
        self._doomed += 1
        path = self._layout.doomed(self._doomed)
        try:
            os.rename(self._layout.file(block), path)
        except FileNotFoundError:
            return None
        return path

    def _settle(self) -> None:
        """Make durable what is not."""
        if soft := list(self._log.unhardened):
            self._sealing.harden(soft)
        elif self._log.has_unsynced:
            self._log.sync()

    def _keep(self) -> None:
        self._settle()
        if self._sweep_due:
            self._sweep()
        self._space.observe(self._used_bytes())
        if self._catalogue.index.flush_due:
            self._space.give_up_when_full()
            self._catalogue.index.flush()
        self._space.keep_ballast()

    def _sweep(self) -> None:
        """Remove files that a crash left without a block: dropped, and their end not on the disk."""
        self._sweep_due = False
        for shard in self._layout.shards():
            for path in recovery.strays(self._layout, self._catalogue, shard):
                path.unlink()
                log.info("stray_removed", file=path.name)

    def _used_bytes(self) -> int:
        with self._catalogue.lock:
            active = self._log.active
            packs = sum(pack.take_disk_bytes(growing=pack.number >= active) for pack in self._catalogue.packs.values())
            return self._catalogue.total().file_bytes + self._catalogue.index.disk_bytes() + packs


@contextmanager
def _no_space(block: int) -> Iterator[None]:
    """Turn a full disk into NoSpace."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or isinstance(error, BlockyardError):
            raise
        raise NoSpace("the disk is full", _name(block)) from error


def _checked(blocks: Sequence[NewBlock], view: memoryview) -> Sequence[NewRecord]:
    """Return the records of a put, after checking it against its bytes."""
    if len(view) > LARGEST_PUT_BYTES:
        raise TooLarge(f"a put has at most {LARGEST_PUT_BYTES} bytes, not {len(view)}")
    if sum(new.length for new in blocks) != len(view):
        raise InvalidArgument(f"the blocks have {sum(new.length for new in blocks)} bytes, the payload {len(view)}")
    records, at = [], 0
    for new in blocks:
        _check_id(new.block)
        if new.length < 1 or len(new.checksums) != checksums.page_count(new.length):
            raise InvalidArgument(f"{new.length} bytes with {len(new.checksums)} checksums", _name(new.block))
        payload = view[at : at + new.length]
        at += new.length
        if checksums.bad_pages(payload, new.checksums):
            raise CorruptBlock("a page does not match its checksum", _name(new.block))
        records.append(NewRecord(Kind.BLOCK, new.block, new.length, tuple(new.checksums), payload))
    if len({new.block for new in blocks}) != len(blocks):
        raise InvalidArgument("a put names a block twice")
    return records


def _check_id(block: int) -> None:
    try:
        BLOCK.check(block)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def _name(block: int) -> str:
    return BLOCK.text(BlockId(block))
