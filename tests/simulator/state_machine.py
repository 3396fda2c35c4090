"""The replicated state: registers, compare-and-set, append lists and exactly-once answers in one table of rows.

`apply` returns the rows it changed, applied index and digest among them, so that a driver can write them as one batch:
a state machine that is loaded from any prefix of those batches is right. Rows hold numbers and tuples of numbers only.
The digest chains every effect, so equal digests at one index mean equal histories of effects.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

REGISTERS = 8
LISTS = 4
LIST_TAIL = 24  # a list keeps its length and this many last values, so that long runs stay quick

APPLIED = -1
DIGEST = -2
_LIST_ROW = 1_000
_SESSION_ROW = 10_000

Rows = dict[int, Any]


class CommandKind(IntEnum):
    WRITE = 0  # answers 0
    COMPARE_AND_SET = 1  # answers whether the register had the expected value
    APPEND = 2  # answers the position that the value got


class Command(NamedTuple):
    """A client's change. (`client`, `sequence`) is the request id, the same on every retry."""

    client: int
    sequence: int
    kind: int
    key: int
    value: int
    expected: int = 0


class Answer(NamedTuple):
    """What a client is told: at which log index its command took effect, and the outcome."""

    at_index: int
    outcome: int


_COMMAND = struct.Struct(">6q")


def encode(command: Command) -> bytes:
    return _COMMAND.pack(*command)


def decode(data: bytes) -> Command:
    return Command(*_COMMAND.unpack(data))


class StateMachine:
    """Rows by number; every member with state has one, loaded from its disk."""

    __slots__ = ("rows",)

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    @staticmethod
    def empty(applied: int) -> Rows:
        """Return the rows of a group that begins after log index `applied`."""
        return {APPLIED: applied, DIGEST: 0}

    @property
    def applied(self) -> int:
        return int(self.rows[APPLIED])

    @property
    def digest(self) -> int:
        return int(self.rows[DIGEST])

    def apply(self, index: int, command: Command | None) -> tuple[Rows, Answer | None]:
        """Apply the entry at `index` (None: an entry without a command) and return the changed rows and the answer.

        A command that was applied before has no effect and gets the answer of then; one older than its client's
        newest is void. Raises AssertionError when an index is left out or applied twice.
        """
        rows = self.rows
        assert index == rows[APPLIED] + 1, f"entry {index} applied on top of {rows[APPLIED]}"
        if command is None:
            changes: Rows = {APPLIED: index, DIGEST: hash((rows[DIGEST], index))}
            rows.update(changes)
            return changes, None
        session_row = _SESSION_ROW + command.client
        newest, answer = rows.get(session_row, (0, None))
        if command.sequence <= newest:
            changes = {APPLIED: index, DIGEST: hash((rows[DIGEST], index))}
            rows.update(changes)
            return changes, answer if command.sequence == newest else None
        changes, outcome = self._effect(command)
        answer = Answer(index, outcome)
        changes[session_row] = (command.sequence, answer)
        changes[APPLIED] = index
        changes[DIGEST] = hash((rows[DIGEST], index, command, outcome))
        rows.update(changes)
        return changes, answer

    def _effect(self, command: Command) -> tuple[Rows, int]:
        if command.kind == CommandKind.WRITE:
            return {command.key: command.value}, 0
        if command.kind == CommandKind.COMPARE_AND_SET:
            if self.rows.get(command.key, 0) != command.expected:
                return {}, 0
            return {command.key: command.value}, 1
        length, values = self.rows.get(_LIST_ROW + command.key, (0, ()))
        return {_LIST_ROW + command.key: (length + 1, (*values[1 - LIST_TAIL :], command.value))}, length

    def read(self, key: int) -> int:
        """Return a register's value, 0 when it was never written."""
        return int(self.rows.get(key, 0))


def differing_rows(one: Mapping[int, Any], other: Mapping[int, Any]) -> list[int]:
    """Return the numbers of the rows that differ, ascending."""
    return sorted(row for row in one.keys() | other.keys() if one.get(row) != other.get(row))
