"""A batch of changes over a key-value store, visible to itself before the store has them.

The state machine applies a batch of commands into one `Transaction`: `get`, `scan` and the typed tables see what was
written before them in the same batch. Each command is all or nothing: `commit()` keeps what it did, `rollback()` drops
it. `changes()` hands everything kept so far to the driver, which writes it together with the applied index in one
write batch and then says `written()`.

Invariants: the store is never written here; between commands nothing is uncommitted; a record that a table gave out by
`get` is never changed, only replaced, so a refused command leaves nothing behind.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

Key = TypeVar("Key")
Record = TypeVar("Record")

_FREED_AT_ONCE: Final = 1_000


@dataclass(slots=True)
class WriteBatch:
    """Rows to write and to delete, all or none of them. No key is in both."""

    puts: list[tuple[bytes, bytes]] = field(default_factory=list)
    deletes: list[bytes] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.puts or self.deletes)


class KeyValueStore(Protocol):
    """What keeps the rows: RocksDB in production, `MemoryStore` in tests and in the simulator."""

    def get(self, key: bytes) -> bytes | None:
        """Return the row's value, or None."""
        ...

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows with start <= key < end in rising order of key; lazily. Nobody writes meanwhile."""
        ...

    def write(self, batch: WriteBatch) -> None:
        """Make all changes of the batch, or none."""
        ...


class MemoryStore:
    """A `KeyValueStore` in a dict, for tests and the simulator."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self._order: list[bytes] | None = []  # keys in order; None once a key came or went

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        if self._order is None:
            self._order = sorted(self.rows)
        order, rows = self._order, self.rows
        for place in range(bisect_left(order, start), bisect_left(order, end)):
            yield order[place], rows[order[place]]

    def write(self, batch: WriteBatch) -> None:
        for key, value in batch.puts:
            if key not in self.rows:
                self._order = None
            self.rows[key] = value
        for key in batch.deletes:
            if self.rows.pop(key, None) is not None:
                self._order = None


def end_of_prefix(prefix: bytes) -> bytes:
    """Return the smallest key above every key that starts with `prefix` (which must not be all 0xff)."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1])


class Transaction:
    """An overlay of puts and deletes over a store."""

    __slots__ = ("_batch", "_command", "_order", "_ordered", "_tables", "store")

    def __init__(self, store: KeyValueStore) -> None:
        self.store = store
        self._command: dict[bytes, bytes | None] = {}  # this command; None marks a delete
        self._batch: dict[bytes, bytes | None] = {}  # commands kept since the last written()
        self._order: list[bytes] = []  # the first `_ordered` keys of `_batch`, sorted, for scans
        self._ordered = 0
        self._tables: list[Table[object, object]] = []

    # ------------------------------------------------------------------------------------------------- rows

    def get(self, key: bytes) -> bytes | None:
        """Return the row's value as this batch sees it, or None."""
        if key in self._command:
            return self._command[key]
        if key in self._batch:
            return self._batch[key]
        return self.store.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a row."""
        self._command[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a row; no harm when there is none."""
        self._command[key] = None

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows with start <= key < end in rising order, as they are at this call; own writes included.

        Rows that a table keeps are seen as of the last `changes()`: such tables are scanned through the table.
        """
        mine = self._overlaid(start, end)
        rows = self.store.scan(start, end)
        return _merge(mine, rows) if mine else rows

    def scan_prefix(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows whose key starts with `prefix`, in rising order."""
        return self.scan(prefix, end_of_prefix(prefix))

    def _overlaid(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes | None]]:
        batch, command, order = self._batch, self._command, self._order
        if len(batch) > self._ordered:
            order.extend(islice(batch, self._ordered, None))
            order.sort()
            self._ordered = len(batch)
        mine = {key: batch[key] for key in order[bisect_left(order, start) : bisect_left(order, end)]}
        mine.update((key, value) for key, value in command.items() if start <= key < end)
        return sorted(mine.items())

    # ------------------------------------------------------------------------------------------------- commands

    def attach(self, table: "Table[Key, Record]") -> None:
        """Make `table` commit, roll back and flush with this transaction."""
        self._tables.append(table)  # type: ignore[arg-type]

    def commit(self) -> None:
        """Keep what the command did; the next write belongs to the next command."""
        if self._command:
            self._batch.update(self._command)
            self._command.clear()
        for table in self._tables:
            if table.pending:
                table.commit()

    def rollback(self) -> None:
        """Drop what the command did."""
        self._command.clear()
        for table in self._tables:
            table.rollback()

    # ------------------------------------------------------------------------------------------------- the batch

    def changes(self) -> WriteBatch:
        """Return everything kept since the last `written()`. The caller writes it before anything else is applied."""
        if self._command or any(table.pending for table in self._tables):
            raise AssertionError("changes() in the middle of a command")
        for table in self._tables:
            if table.dirty:
                table.flush(self._batch)
        batch = WriteBatch()
        for key, value in self._batch.items():
            if value is None:
                batch.deletes.append(key)
            else:
                batch.puts.append((key, value))
        return batch

    def written(self) -> None:
        """Forget the overlay: the store has it now."""
        self._batch.clear()
        self._order.clear()
        self._ordered = 0
        for table in self._tables:
            table.dirty.clear()
            table.shrink()


def _merge(
    mine: list[tuple[bytes, bytes | None]], rows: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes]]:
    """Merge the overlay (None deletes) with the store's rows; the overlay wins."""
    position, count = 0, len(mine)
    for row in rows:
        key = row[0]
        while position < count and mine[position][0] < key:
            name, value = mine[position]
            position += 1
            if value is not None:
                yield name, value
        if position < count and mine[position][0] == key:
            value = mine[position][1]
            position += 1
            if value is not None:
                yield key, value
        else:
            yield row
    for name, value in mine[position:]:
        if value is not None:
            yield name, value


class Table(Generic[Key, Record]):
    """Rows of one kind as parsed records: a bounded cache over the transaction, keyed as the code thinks of them.

    `key` makes the row's key, `parse` and `encode` turn values to records and back. A record is encoded once per batch,
    however often it changed. None is remembered too: that a row is absent is as useful to know.
    """

    __slots__ = ("dirty", "encode", "key", "known", "leaving", "limit", "parse", "pending", "tx")

    def __init__(
        self,
        tx: Transaction,
        key: Callable[[Key], bytes],
        parse: Callable[[bytes], Record],
        encode: Callable[[Record], bytes],
        limit: int,
    ) -> None:
        """`limit` is how many records stay cached between batches."""
        self.tx = tx
        self.key = key
        self.parse = parse
        self.encode = encode
        self.limit = limit
        self.known: dict[Key, Record | None] = {}  # committed, or read from the store
        self.pending: dict[Key, Record | None] = {}  # this command
        self.dirty: dict[Key, Record | None] = {}  # its keys changed since the last written(), in order
        self.leaving: list[Key] = []  # oldest of `known`, on their way out
        tx.attach(self)

    def get(self, key: Key) -> Record | None:
        """Return the record as this batch sees it, or None. It must not be changed."""
        if self.pending and key in self.pending:
            return self.pending[key]
        value = self.known.get(key)
        if value is None and key not in self.known:
            if len(self.known) >= 2 * self.limit and not self.dirty:  # many reads since anything was written
                self.shrink()
            self.known[key] = value = self.load(key)
        return value

    def peek(self, key: Key) -> Record | None:
        """Return the record as `get` does, without a place in the cache: for those who pass many records once."""
        if key in self.pending:
            return self.pending[key]
        if key in self.known:
            return self.known[key]
        return self.load(key)

    def load(self, key: Key) -> Record | None:
        """Read a record that is not cached."""
        row = self.tx.get(self.key(key))
        return None if row is None else self.parse(row)

    def put(self, key: Key, record: Record) -> None:
        """Set a record; from now on it must not be changed once the command ends."""
        self.pending[key] = record

    def delete(self, key: Key) -> None:
        """Remove a record."""
        self.pending[key] = None

    def commit(self) -> None:
        """Keep this command's records."""
        self.known.update(self.pending)
        self.dirty.update(self.pending)
        self.pending.clear()

    def rollback(self) -> None:
        """Drop this command's records."""
        self.pending.clear()

    def flush(self, rows: dict[bytes, bytes | None]) -> None:
        """Encode what changed into `rows`."""
        key, encode, known = self.key, self.encode, self.known
        for name in self.dirty:
            record = known[name]
            rows[key(name)] = None if record is None else encode(record)

    def shrink(self) -> None:
        """Drop some of the oldest records while there are more than the limit. Only after everything was written.

        A few at a time: to free a large part of a cache at once would hold everything up for a tenth of a second.
        """
        known, leaving = self.known, self.leaving
        excess = len(known) - self.limit
        if excess > 0 and not leaving:
            leaving.extend(islice(known, self.limit // 4 + excess))
        if leaving:
            count = max(_FREED_AT_ONCE, excess)
            for name in leaving[-count:]:
                known.pop(name, None)
            del leaving[-count:]
