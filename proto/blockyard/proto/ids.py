"""Ids and counters: what each is made of, and its one form as text.

Every id is an integer under its own name, so that the type checker refuses a node where a member is wanted. Inodes and
blocks are pairs packed into 64 bits; the upper 16 say who is responsible (a slot of the namespace, a placement group)
and are read without a request.

| id             | as text            | from          |
|----------------|--------------------|---------------|
| inode          | `i0.1`             | slot.sequence |
| block          | `b17.42`           | group.sequence |
| node           | `n3`               |               |
| member         | `m2`               |               |
| placement group | `g17`             |               |
| session        | `s00c0ffee00c0ffee` | 64 random bits |
| incarnation    | `x00c0ffee00c0ffee` | 64 random bits |
| cluster        | `c` and 32 hexadecimal digits | 128 random bits |
| epoch, term, log index | `e12`, `t5`, `l1999` |  |

Invariants: each form is unique per value and parses to that value only (`n03` is refused); all are safe in file names,
logs and command lines. Nothing here draws random bits: callers give them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, NewType, TypeVar

InodeId = NewType("InodeId", int)
BlockId = NewType("BlockId", int)
NodeId = NewType("NodeId", int)
MemberId = NewType("MemberId", int)
SessionId = NewType("SessionId", int)
PlacementGroup = NewType("PlacementGroup", int)
Slot = NewType("Slot", int)
Epoch = NewType("Epoch", int)
Incarnation = NewType("Incarnation", int)
Term = NewType("Term", int)
LogIndex = NewType("LogIndex", int)
ClusterId = NewType("ClusterId", str)

Id = TypeVar("Id", bound=int)
Upper = TypeVar("Upper", bound=int)

SEQUENCE_BITS: Final = 48
SEQUENCE_LIMIT: Final = 1 << SEQUENCE_BITS
"""Sequences are below this; one slot or group gives out 2.8e14 of them and never starts again."""

UPPER_LIMIT: Final = 1 << 16
ROOT_INODE: Final = InodeId(1)
"""The root directory: slot 0, sequence 1."""


@dataclass(frozen=True, slots=True)
class Counter(Generic[Id]):
    """The text form of an id that counts: a letter and a decimal number without leading zeros."""

    noun: str
    letter: str
    first: int
    limit: int
    new: Callable[[int], Id]

    def check(self, value: int) -> Id:
        """Return `value` as this id. Raises ValueError when it is out of range."""
        if not self.first <= value < self.limit:
            raise ValueError(f"{self.noun} {value}: must be {self.first} to {self.limit - 1}")
        return self.new(value)

    def text(self, value: Id) -> str:
        """Return the text form."""
        return f"{self.letter}{value:d}"

    def parse(self, text: str) -> Id:
        """Return the id that `text` names. Raises ValueError when it is not exactly a text form."""
        digits = text[1:]
        if text[:1] != self.letter or not _is_decimal(digits):
            raise ValueError(f"{self.noun} {text!r}: expected {self.letter!r} and a number, as in {self.letter}3")
        return self.check(int(digits))


@dataclass(frozen=True, slots=True)
class Hexadecimal(Generic[Id]):
    """The text form of an id of 64 random bits: a letter and 16 lower-case hexadecimal digits."""

    noun: str
    letter: str
    new: Callable[[int], Id]

    def check(self, value: int) -> Id:
        """Return `value` as this id. Raises ValueError when it is 0 (which means none) or does not fit 64 bits."""
        if not 0 < value < 1 << 64:
            raise ValueError(f"{self.noun} {value}: must be 1 to {(1 << 64) - 1}")
        return self.new(value)

    def text(self, value: Id) -> str:
        """Return the text form."""
        return f"{self.letter}{value:016x}"

    def parse(self, text: str) -> Id:
        """Return the id that `text` names. Raises ValueError when it is not exactly a text form."""
        digits = text[1:]
        if text[:1] != self.letter or not _is_hexadecimal(digits, 16):
            raise ValueError(f"{self.noun} {text!r}: expected {self.letter!r} and 16 hexadecimal digits (0-9, a-f)")
        return self.check(int(digits, 16))


@dataclass(frozen=True, slots=True)
class Pair(Generic[Id, Upper]):
    """An id of 64 bits made of 16 and 48: `upper` says who is responsible, the sequence counts from 1."""

    noun: str
    letter: str
    upper_noun: str
    new: Callable[[int], Id]
    new_upper: Callable[[int], Upper]

    def join(self, upper: Upper, sequence: int) -> Id:
        """Return the id of `sequence` (1 to 2^48 - 1) under `upper` (0 to 65535). Raises ValueError out of range."""
        if not 0 <= upper < UPPER_LIMIT:
            raise ValueError(f"{self.noun}: {self.upper_noun} {upper} must be 0 to {UPPER_LIMIT - 1}")
        if not 0 < sequence < SEQUENCE_LIMIT:
            raise ValueError(f"{self.noun}: sequence {sequence} must be 1 to {SEQUENCE_LIMIT - 1}")
        return self.new(upper << SEQUENCE_BITS | sequence)

    def upper(self, value: Id) -> Upper:
        """Return the upper 16 bits."""
        return self.new_upper(value >> SEQUENCE_BITS)

    def split(self, value: Id) -> tuple[Upper, int]:
        """Return the upper 16 bits and the sequence."""
        return self.new_upper(value >> SEQUENCE_BITS), value & SEQUENCE_LIMIT - 1

    def check(self, value: int) -> Id:
        """Return `value`, as a message carried it, as this id. Raises ValueError when it cannot be one."""
        if not 0 <= value < 1 << 64:
            raise ValueError(f"{self.noun} {value}: must fit 64 bits")
        return self.join(*self.split(self.new(value)))

    def text(self, value: Id) -> str:
        """Return the text form."""
        return f"{self.letter}{value >> SEQUENCE_BITS:d}.{value & SEQUENCE_LIMIT - 1:d}"

    def parse(self, text: str) -> Id:
        """Return the id that `text` names. Raises ValueError when it is not exactly a text form."""
        upper, dot, sequence = text[1:].partition(".")
        if text[:1] != self.letter or not dot or not _is_decimal(upper) or not _is_decimal(sequence):
            form = f"{self.upper_noun}.sequence, as in {self.letter}0.1"
            raise ValueError(f"{self.noun} {text!r}: expected {self.letter!r} and {form}")
        return self.join(self.new_upper(int(upper)), int(sequence))


INODE: Final = Pair("inode", "i", "slot", InodeId, Slot)
BLOCK: Final = Pair("block", "b", "placement group", BlockId, PlacementGroup)
NODE: Final = Counter("node", "n", 1, 1 << 32, NodeId)
MEMBER: Final = Counter("member", "m", 1, 1 << 64, MemberId)
GROUP: Final = Counter("placement group", "g", 0, UPPER_LIMIT, PlacementGroup)
EPOCH: Final = Counter("epoch", "e", 0, 1 << 64, Epoch)
TERM: Final = Counter("term", "t", 0, 1 << 64, Term)
LOG_INDEX: Final = Counter("log index", "l", 0, 1 << 64, LogIndex)
SESSION: Final = Hexadecimal("session", "s", SessionId)
INCARNATION: Final = Hexadecimal("incarnation", "x", Incarnation)


def cluster_id(random_bits: bytes) -> ClusterId:
    """Return the cluster id made of 16 random bytes. Raises ValueError for another length."""
    if len(random_bits) != 16:
        raise ValueError(f"cluster id: expected 16 random bytes, found {len(random_bits)}")
    return ClusterId(f"c{random_bits.hex()}")


def parse_cluster_id(text: str) -> ClusterId:
    """Return `text` as a cluster id. Raises ValueError when it is not exactly one."""
    if text[:1] != "c" or not _is_hexadecimal(text[1:], 32):
        raise ValueError(f"cluster {text!r}: expected 'c' and 32 hexadecimal digits (0-9, a-f)")
    return ClusterId(text)


def _is_decimal(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) <= 20 and (digits[0] != "0" or digits == "0")


def _is_hexadecimal(digits: str, length: int) -> bool:
    return len(digits) == length and not digits.strip("0123456789abcdef")
