"""Bringing the index up to the packs: after a crash from its last position on, without an index from the beginning.

Replaying a record makes the index what the record says, whatever it said before; so reading records twice is
harmless, and the order of the log alone decides. What was not synced when the power went may be torn: records that
fail their checksums are passed over, what follows them is kept. Below an offset that a later record knew to be synced,
a bad record has rotted: that is reported.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from blockyard.proto import logs
from blockyard.proto.ids import BLOCK, BlockId
from blockyard.storagenode.store import checksums
from blockyard.storagenode.store.catalogue import Catalogue, Change
from blockyard.storagenode.store.index import CorruptIndex, Position
from blockyard.storagenode.store.layout import Layout, parse_block
from blockyard.storagenode.store.media import DirectReader
from blockyard.storagenode.store.pack import FIRST_RECORD, UNFINISHED, Pack, PackHeader, parse_name, read_header
from blockyard.storagenode.store.quarantine import Quarantine
from blockyard.storagenode.store.record import UNSYNCED, Kind, Record
from blockyard.storagenode.store.replica import PAGE_BYTES
from blockyard.storagenode.store.row import Row
from blockyard.storagenode.store.scan import Gap, PackReader

log = logs.get(__name__)

_BATCH: Final = 2000


@dataclass(slots=True)
class RecoveryReport:
    """What was found. Counts, and texts for people."""

    from_scratch: bool = False
    records: int = 0
    torn: int = 0
    lost: list[tuple[int, str]] = field(default_factory=list)
    """Blocks that should be here and are not, or not as they were; each with the reason."""
    damage: list[str] = field(default_factory=list)
    """Places that have rotted."""
    strays: list[str] = field(default_factory=list)
    """Files that no record speaks of, or that are another block's."""


class Recovery:
    """One run over the packs."""

    def __init__(self, layout: Layout, catalogue: Catalogue, *, deep: bool) -> None:
        """`deep`: check each large file's first and last page too, so that swapped files are found."""
        self.layout = layout
        self.catalogue = catalogue
        self.report = RecoveryReport()
        self.unhardened: dict[int, tuple[Position, Row]] = {}
        self._deep = deep
        self._files: set[int] = set()  # blocks whose files the replay has spoken of
        self._dropped: set[int] = set()
        self._headers: dict[int, tuple[Path, PackHeader]] = {}
        self._rescanned: dict[int, list[int]] = {}

    def run(self) -> Position:
        """Do it; return the end of the log. Raises CorruptIndex when the index must be made anew, BadPack, OSError."""
        self._find_packs()
        position = self._start()
        end = position
        for number in sorted(self._headers):
            if number >= position.pack:
                start = position.offset if number == position.pack else FIRST_RECORD
                end = Position(number, self._replay(number, start))
        self._check_rescanned()
        self._settle_files()
        return end

    # ------------------------------------------------------------------------------------------------- packs

    def _find_packs(self) -> None:
        newest: dict[int, tuple[int, Path]] = {}
        for name in sorted(os.listdir(self.layout.packs)):
            path = self.layout.packs / name
            parsed = parse_name(name)
            if name.endswith(UNFINISHED):
                path.unlink()
            elif parsed is not None:
                number, generation = parsed
                if number in newest:
                    newest[number][1].unlink()  # a rewrite was published, and its original not yet removed
                newest[number] = (generation, path)
        self._headers = {number: (path, read_header(path)) for number, (_, path) in newest.items()}

    def _start(self) -> Position:
        """Fill the table of packs from the index and say where to go on. Raises CorruptIndex."""
        known, position = self.catalogue.index.packs(), self.catalogue.index.position()
        self.report.from_scratch = position is None
        start = position or Position(min(self._headers, default=1), FIRST_RECORD)
        for number, (path, header) in self._headers.items():
            count = known.get(number)
            if count is None:
                if position is not None and number < position.pack:
                    raise CorruptIndex(f"the index has never heard of {path}")
                self.catalogue.packs[number] = Pack(path, header, path.stat().st_size)
                continue
            self.catalogue.packs[number] = Pack(path, header, count.end, count.live, count.live_records, count.held)
            if count.generation != header.generation:
                if number >= start.pack:
                    raise CorruptIndex(f"{path} was rewritten before the index had all of it")
                self._rescan(number)
        for number, count in known.items():
            if number not in self._headers and (count.live_records or number >= start.pack):
                raise CorruptIndex(f"pack {number}, with {count.live_records} blocks, is gone")
        return start

    def _rescan(self, number: int) -> None:
        """Learn the new places of the blocks of a pack that was rewritten since the index was last on disk."""
        path, header = self._headers[number]
        moved: list[Change] = []
        pack = self.catalogue.packs[number]
        reader = PackReader(path, header)
        for found in reader.records():
            if isinstance(found, Gap):
                self.report.damage.append(f"{path} bytes {found.start} to {found.end}")
            elif found.kind in (Kind.BLOCK, Kind.FILE):
                row = self.catalogue.get(found.block)
                if row is not None and row.pack == number:
                    moved.append((found.block, row._replace(offset=found.offset)))
        pack.end = reader.size
        reader.close()
        self._rescanned[number] = [block for block, _ in moved]
        with self.catalogue.lock:
            self.catalogue.rewrite(moved, number)

    def _check_rescanned(self) -> None:
        """Demand that every block of a rewritten pack was found there; those dropped since are gone by now."""
        for number, blocks in self._rescanned.items():
            rows = [self._row(block) for block in blocks]
            found = sum(1 for row in rows if row is not None and row.pack == number)
            if found != self.catalogue.packs[number].live_records:
                raise CorruptIndex(f"pack {number} has {found} of {self.catalogue.packs[number].live_records} blocks")

    # ------------------------------------------------------------------------------------------------- records

    def _replay(self, number: int, start: int) -> int:
        """Read a pack from `start`; return where its last record ends."""
        path, header = self._headers[number]
        pack = self.catalogue.packs[number]
        reader = PackReader(path, header)
        changes: list[Change] = []
        suspect: list[tuple[int, str]] = []  # (offset, what): torn, unless a later record knew it synced
        end, synced, gap = start, 0, None
        for found in reader.records(start):
            if isinstance(found, Gap):
                gap = found
                continue
            if gap is not None:
                suspect.append((gap.start, f"{path} bytes {gap.start} to {gap.end} are no records"))
                gap = None
            end, synced = found.end, max(synced, found.synced)
            self.report.records += 1
            bad = self._changes(reader, found, number, changes)
            if bad:
                suspect.append((found.offset, bad))
            if len(changes) >= _BATCH:
                pack.end = end
                self._apply(changes, Position(number, end))
        reader.close()
        if gap is not None and not gap.blank:
            suspect.append((gap.start, f"{path} from byte {gap.start}"))
        for offset, what in suspect:
            if offset < synced:
                self.report.damage.append(what)
            else:
                self.report.torn += 1
        pack.end = end
        self._apply(changes, Position(number, end))
        return end

    def _changes(self, reader: PackReader, found: Record, number: int, changes: list[Change]) -> str:
        """Note what a record changes; return what is wrong with it."""
        if found.kind is Kind.BLOCK:
            data = reader.payload(found)
            if len(data) < found.length or checksums.bad_pages(data, found.checksums):
                return f"{BLOCK.text(BlockId(found.block))} at byte {found.offset} of pack {number} fails its checksum"
            changes.append((found.block, Row.of(found, number)))
        elif found.kind is Kind.FILE:
            self._files.add(found.block)
            row = Row.of(found, number)
            self.unhardened.pop(found.block, None)
            if found.flags & UNSYNCED:
                self.unhardened[found.block] = Position(number, found.offset), row
            else:
                changes.append((found.block, row))
        elif found.kind is Kind.DROP:
            self._files.discard(found.block)
            self._dropped.add(found.block)
            self.unhardened.pop(found.block, None)
            changes.append((found.block, None))
        return ""

    def _apply(self, changes: list[Change], position: Position) -> None:
        held = min((place for place, _ in self.unhardened.values()), default=position)
        with self.catalogue.lock:
            self.catalogue.apply(changes, min(held, position), (position.pack,))
        changes.clear()

    # ------------------------------------------------------------------------------------------------- files

    def _settle_files(self) -> None:
        """Finish the renames that a crash interrupted, sweep what was left open, and find what is missing."""
        for name in os.listdir(self.layout.writing):
            path = self.layout.writing / name
            block = parse_block(name)
            row = None if block is None else self._row(block)
            if block is not None and row is not None and row.own_file and not self.layout.file(block).exists():
                path.rename(self.layout.file(block))
            else:
                path.unlink()
        for block in self._dropped:
            row = self._row(block)
            if row is None or not row.own_file:
                self.layout.file(block).unlink(missing_ok=True)
        for block, (_, row) in list(self.unhardened.items()):
            if self._whole_file_is_good(block, row):
                with self.catalogue.lock:
                    self.catalogue.show([(block, row)])
            else:
                del self.unhardened[block]
                self.layout.file(block).unlink(missing_ok=True)
        if self._deep:
            self._set_strays_aside()
        for block in sorted(self._files):
            row = self._row(block)
            if row is not None and row.own_file and (why := self._missing(block, row)):
                self.report.lost.append((block, why))

    def _row(self, block: int) -> Row | None:
        if block in self.unhardened:
            return self.unhardened[block][1]
        with self.catalogue.lock:
            return self.catalogue.get(block)

    def _missing(self, block: int, row: Row) -> str:
        """Say what is wrong with a sealed block's file; nothing when it looks right."""
        path = self.layout.file(block)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return f"{path} is missing"
        if size != row.length:
            return f"{path} has {size} bytes, and the block {row.length}"
        last = len(row.checksums) - 1
        if self._deep and any(not _page_is_good(path, row, page) for page in {0, last}):
            return f"{path} is not this block: it was swapped with another, or has rotted"
        return ""

    def _whole_file_is_good(self, block: int, row: Row) -> bool:
        path = self.layout.file(block)
        if not path.exists() or path.stat().st_size != row.length:
            return False
        return all(_page_is_good(path, row, page) for page in range(len(row.checksums)))

    def _set_strays_aside(self) -> None:
        aside = Quarantine(self.layout.quarantine, 0)
        for shard in self.layout.shards():
            for path in strays(self.layout, self.catalogue, shard):
                self.report.strays.append(str(path))
                path.rename(aside.admit(parse_block(path.name) or 0, f"no record speaks of {path}"))


def strays(layout: Layout, catalogue: Catalogue, shard: Path) -> Iterator[Path]:
    """Yield the files of a shard of large blocks that no row speaks of; under the lock each is one still."""
    for name in sorted(os.listdir(shard)):
        block = parse_block(name)
        with catalogue.lock:
            row = None if block is None else catalogue.get(block)
            if row is None or not row.own_file or block is None or layout.file(block) != shard / name:
                yield shard / name


def _page_is_good(path: Path, row: Row, page: int) -> bool:
    reader = DirectReader(path)
    try:
        start = page * PAGE_BYTES
        length = min(PAGE_BYTES, row.length - start)
        pieces = list(reader.pieces(start, length, PAGE_BYTES))
        data = pieces[0]
        return data is not None and len(data) == length and checksums.pages_of(data)[0] == row.checksums[page]
    finally:
        reader.close()


def note(report: RecoveryReport) -> None:
    """Log a report."""
    for what in report.damage:
        log.error("rotten", what=what)
    for block, why in report.lost:
        log.error("block_lost", block=BLOCK.text(BlockId(block)), why=why)
    log.info(
        "store_opened",
        from_scratch=report.from_scratch,
        records=report.records,
        torn=report.torn,
        damage=len(report.damage),
        lost=len(report.lost),
        strays=len(report.strays),
    )
