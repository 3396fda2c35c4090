"""Which blocks are here, and where: the index, what it does not know yet, and the counters of both.

A change that is not synced yet is *shown*: readers find it, the index does not have it. *Applied* changes are synced,
and go to the index in one batch with all counters they touch. So the index is never ahead of the disk.

Every method wants `lock` held. Invariant: for every pack, `live` is the sum of the record bytes of the rows that point
into it; the counters of groups likewise.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from blockyard.storagenode.store.index import GroupCount, Index, PackCount, Position
from blockyard.storagenode.store.pack import Pack
from blockyard.storagenode.store.row import Row

_HOT_ROWS: Final = 16_384
_ZERO: Final = GroupCount(0, 0, 0)

Change = tuple[int, Row | None]
"""A block and its new row; None: it is gone."""


def group_of(block: int) -> int:
    return block >> 48


class Catalogue:
    """The rows of all sealed blocks and the table of packs."""

    def __init__(self, index: Index) -> None:
        """Take over what the index knows. Raises CorruptIndex."""
        self.lock = threading.RLock()
        self.index = index
        self.packs: dict[int, Pack] = {}
        self._shown: dict[int, Row | None] = {}
        self._hot: OrderedDict[int, Row] = OrderedDict()
        self._groups = index.groups()
        self._shown_groups: dict[int, GroupCount] = {}

    # ------------------------------------------------------------------------------------------------- reading

    def get(self, block: int) -> Row | None:
        """Return the row of a sealed block. Raises CorruptIndex."""
        if block in self._shown:
            return self._shown[block]
        hot = self._hot.get(block)
        if hot is not None:
            return hot
        return self._load(block)

    def hot(self, block: int) -> Row | None:
        """Return the row as `get`, and keep it at hand for the next readers."""
        row = self._hot.get(block)
        if row is not None:
            self._hot.move_to_end(block)
            return row
        row = self.get(block)
        if row is not None and block not in self._shown:
            self._hot[block] = row
            if len(self._hot) > _HOT_ROWS:
                self._hot.popitem(last=False)
        return row

    def rows(self, first: int, end: int, limit: int) -> list[tuple[int, Row]]:
        """Return the first `limit` rows with first <= block < end, rising. Raises CorruptIndex."""
        shown = sorted(block for block in self._shown if first <= block < end)
        found: list[tuple[int, Row]] = []
        stored = self.index.rows(first, end)
        at = 0
        for block, value in stored:
            while at < len(shown) and shown[at] < block and len(found) < limit:
                self._take_shown(found, shown[at])
                at += 1
            if len(found) >= limit:
                return found
            if at < len(shown) and shown[at] == block:
                self._take_shown(found, block)
                at += 1
            else:
                found.append((block, Row.decode(value)))
            if len(found) >= limit:
                return found
        for block in shown[at:]:
            if len(found) >= limit:
                break
            self._take_shown(found, block)
        return found

    def groups(self) -> list[int]:
        """Return the groups with at least one block, rising."""
        numbers = self._groups.keys() | self._shown_groups.keys()
        return sorted(number for number in numbers if self._group(number).blocks > 0)

    def total(self) -> GroupCount:
        """Return blocks, bytes and bytes in own files of all groups together."""
        counts = [*self._groups.values(), *self._shown_groups.values()]
        return GroupCount(*(sum(column) for column in zip(*counts, strict=True))) if counts else _ZERO

    def shown(self) -> Mapping[int, Row | None]:
        """Return the changes that the index does not know."""
        return self._shown

    # ------------------------------------------------------------------------------------------------- changing

    def show(self, changes: Iterable[Change]) -> None:
        """Let readers find changes that are not synced."""
        for block, row in changes:
            old = self.get(block)
            self._hot.pop(block, None)
            self._shown[block] = row  # over what may have been shown before
            _count(self._shown_groups, block, old, row)

    def hide(self, blocks: Iterable[int]) -> None:
        """Take back what was shown: the index decides again."""
        for block in blocks:
            if block in self._shown:
                row = self._shown.pop(block)
                _count(self._shown_groups, block, row, self._load(block))

    def apply(self, changes: Iterable[Change], position: Position | None, touched: Iterable[int] = ()) -> None:
        """Write synced changes to the index, in their order; `touched` packs have changed beside that.

        `position`: everything before it is in the index now. Raises CorruptIndex and StorageFailed.
        """
        groups: set[int] = set()
        numbers = set(touched)
        latest: dict[int, Row | None] = {}
        for block, row in changes:
            if block in self._shown:
                self.hide((block,))
            old = latest[block] if block in latest else self.get(block)
            self._hot.pop(block, None)
            latest[block] = row
            _count(self._groups, block, old, row)
            groups.add(group_of(block))
            for each, sign in ((old, -1), (row, 1)):
                if each is not None and each.pack in self.packs:
                    pack = self.packs[each.pack]
                    pack.live += sign * each.record_bytes
                    pack.live_records += sign
                    numbers.add(each.pack)
        self.index.write(
            ((block, row.encode() if row else None) for block, row in latest.items()),
            ((group, self._groups[group]) for group in groups),
            ((number, self._pack_count(number)) for number in numbers),
            position,
        )

    def rewrite(self, rows: Iterable[Change], number: int) -> None:
        """Write rows whose pack was rewritten, or that were scrubbed: content and counters stay as they are."""
        encoded = []
        for block, row in rows:
            self._hot.pop(block, None)
            encoded.append((block, row.encode() if row else None))
        self.index.write(encoded, (), [(number, self._pack_count(number))] if number else (), None)

    # ------------------------------------------------------------------------------------------------- inside

    def _load(self, block: int) -> Row | None:
        value = self.index.get(block)
        return None if value is None else Row.decode(value)

    def _group(self, number: int) -> GroupCount:
        stored, shown = self._groups.get(number, _ZERO), self._shown_groups.get(number, _ZERO)
        return GroupCount(*(a + b for a, b in zip(stored, shown, strict=True)))

    def _take_shown(self, found: list[tuple[int, Row]], block: int) -> None:
        row = self._shown[block]
        if row is not None:
            found.append((block, row))

    def _pack_count(self, number: int) -> PackCount | None:
        pack = self.packs.get(number)
        return PackCount(pack.generation, pack.end, pack.live, pack.live_records, pack.held) if pack else None


def _count(counts: dict[int, GroupCount], block: int, old: Row | None, new: Row | None) -> None:
    blocks, size, file_size = counts.get(group_of(block), _ZERO)
    if old is not None:
        blocks, size, file_size = blocks - 1, size - old.length, file_size - old.length * old.own_file
    if new is not None:
        blocks, size, file_size = blocks + 1, size + new.length, file_size + new.length * new.own_file
    counts[group_of(block)] = GroupCount(blocks, size, file_size)
