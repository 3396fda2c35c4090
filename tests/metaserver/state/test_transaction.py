"""Transactions and tables: against a dict, under random commands, scans and batches."""

from blockyard.metaserver.state.transaction import MemoryStore, Table, Transaction, end_of_prefix
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

raw_keys = st.binary(min_size=1, max_size=2).map(lambda key: b"r" + key)
values = st.binary(max_size=3)
numbers = st.integers(0, 9)


class Transactions(RuleBasedStateMachine):
    """One transaction with a table. The model: a dict of what the command sees, and one of what is committed."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.open()
        self.kept: dict[bytes, bytes] = {}
        self.seen: dict[bytes, bytes] = {}

    def open(self) -> None:
        self.tx = Transaction(self.store)
        self.table: Table[int, int] = Table(
            self.tx, lambda number: b"t%d" % number, int, lambda value: b"%d" % value, limit=3
        )

    @rule(key=raw_keys, value=values)
    def put(self, key: bytes, value: bytes) -> None:
        self.tx.put(key, value)
        self.seen[key] = value

    @rule(key=raw_keys)
    def delete(self, key: bytes) -> None:
        self.tx.delete(key)
        self.seen.pop(key, None)

    @rule(number=numbers, value=st.integers(0, 99))
    def put_record(self, number: int, value: int) -> None:
        self.table.put(number, value)
        self.seen[b"t%d" % number] = b"%d" % value

    @rule(number=numbers)
    def delete_record(self, number: int) -> None:
        self.table.delete(number)
        self.seen.pop(b"t%d" % number, None)

    @rule()
    def commit(self) -> None:
        self.tx.commit()
        self.kept = dict(self.seen)

    @rule()
    def roll_back(self) -> None:
        self.tx.rollback()
        self.seen = dict(self.kept)

    @rule(reopen=st.booleans())
    def write(self, reopen: bool) -> None:
        self.roll_back()
        batch = self.tx.changes()
        assert not {key for key, _ in batch.puts} & set(batch.deletes)
        self.store.write(batch)
        self.tx.written()
        assert self.store.rows == self.kept
        if reopen:
            self.open()

    @rule(key=raw_keys)
    def get(self, key: bytes) -> None:
        assert self.tx.get(key) == self.seen.get(key)

    @rule(number=numbers)
    def get_record(self, number: int) -> None:
        found = self.table.get(number)
        assert (None if found is None else b"%d" % found) == self.seen.get(b"t%d" % number)

    @rule(start=raw_keys, end=raw_keys)
    def scan(self, start: bytes, end: bytes) -> None:
        expected = sorted((key, value) for key, value in self.seen.items() if start <= key < end)
        assert list(self.tx.scan(start, end)) == expected

    @invariant()
    def a_scan_of_everything_sees_everything(self) -> None:
        expected = sorted((key, value) for key, value in self.seen.items() if key[:1] == b"r")
        assert list(self.tx.scan_prefix(b"r")) == expected


Transactions.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestTransactions = Transactions.TestCase


def test_the_end_of_a_prefix_is_above_every_key_with_it() -> None:
    assert end_of_prefix(b"a") == b"b"
    assert end_of_prefix(b"a\xff\xff") == b"b"
    assert end_of_prefix(b"a\xff") > b"a\xff" + b"\xff" * 9


def test_a_record_is_encoded_once_per_batch_and_cached_within_its_limit() -> None:
    tx = Transaction(MemoryStore())
    encoded: list[int] = []

    def encode(value: int) -> bytes:
        encoded.append(value)
        return b"%d" % value

    table: Table[int, int] = Table(tx, lambda number: b"t%04d" % number, int, encode, limit=10)
    for value in range(5):
        table.put(1, value)
        tx.commit()
    tx.store.write(tx.changes())
    tx.written()
    assert encoded == [4]
    for number in range(100):
        table.put(number, 7)
        tx.commit()
    tx.store.write(tx.changes())
    tx.written()
    assert len(table.known) <= 10
    assert table.get(3) == 7


def test_reads_alone_do_not_fill_the_memory() -> None:
    tx = Transaction(MemoryStore())
    table: Table[int, int] = Table(tx, lambda number: b"t%04d" % number, int, lambda value: b"%d" % value, limit=10)
    for number in range(1000):
        table.put(number, number)
    tx.commit()
    assert [table.get(number) for number in range(1000)] == list(range(1000))
    tx.store.write(tx.changes())
    tx.written()
    for number in range(1000):
        assert table.get(number) == number
        assert table.peek(999 - number) == 999 - number
        assert table.get(5000 + number) is None
        assert len(table.known) <= 20
