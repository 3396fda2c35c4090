"""The records of Raft: ids, log entries, hard state, membership, and where a log begins.

Only immutable values live here; nothing in this module decides anything. Logs count from 1, as in the paper.
A `Membership` is written whole into its log entry, never as a difference, so one entry is enough to know the group.
Source: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", USENIX ATC 2014 ("the paper");
Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014 ("the thesis").
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType, Protocol

MemberId = NewType("MemberId", int)
"""A member's identity since its disk was last empty, above 0; a wiped member comes back under a new one."""
Term = NewType("Term", int)
LogIndex = NewType("LogIndex", int)

NOBODY = MemberId(0)
"""No vote given; no leader known."""


class EntryKind(IntEnum):
    COMMAND = 1  # bytes of the state machine
    NOOP = 2  # a new leader's first entry (the paper, section 8)
    MEMBERSHIP = 3  # an encoded Membership, in force from the moment it is appended (the thesis, section 4.1)


@dataclass(frozen=True, slots=True)
class Entry:
    index: LogIndex
    term: Term
    kind: EntryKind
    data: bytes


@dataclass(frozen=True, slots=True)
class HardState:
    """What must be on stable storage before anything that depends on it is said (the paper, figure 2).

    `term` and `vote` are one record. `commit` is a hint that saves work after a restart; it may be stale.
    """

    term: Term
    vote: MemberId
    commit: LogIndex


class MemberKind(IntEnum):
    DATA = 1  # votes, keeps log and state
    WITNESS = 2  # votes, keeps log and no state
    LEARNER = 3  # keeps log and state, does not vote yet


@dataclass(frozen=True, slots=True, order=True)
class Member:
    id: MemberId
    kind: MemberKind


class InvalidMembership(ValueError):
    """The group could not keep the promises of this module in that form."""


_MEMBER = struct.Struct(">QB")


@dataclass(frozen=True, slots=True)
class Membership:
    """Who is in the group: members by ascending id.

    With a witness there are two or three data members. Then a majority that lacks the witness holds *all* data
    members, which is what lets a parked witness lag (see `witness`).
    """

    members: tuple[Member, ...] = ()

    def __post_init__(self) -> None:
        ids = [member.id for member in self.members]
        if ids != sorted(set(ids)) or any(id <= 0 for id in ids):
            raise InvalidMembership(f"member ids must be above 0, ascending and each once: {ids}")
        witnesses = sum(member.kind is MemberKind.WITNESS for member in self.members)
        if witnesses > 1 or (witnesses == 1 and len(self.data_members) not in (2, 3)):
            raise InvalidMembership(f"a witness stands beside two or three data members, not beside {self.members}")

    @staticmethod
    def of(data: Sequence[int], witness: int | None = None, learners: Sequence[int] = ()) -> Membership:
        """Make a membership from plain numbers."""
        members = [Member(MemberId(id), MemberKind.DATA) for id in data]
        members += [Member(MemberId(id), MemberKind.LEARNER) for id in learners]
        if witness is not None:
            members.append(Member(MemberId(witness), MemberKind.WITNESS))
        return Membership(tuple(sorted(members)))

    @property
    def ids(self) -> tuple[MemberId, ...]:
        return tuple(member.id for member in self.members)

    @property
    def voters(self) -> tuple[MemberId, ...]:
        return tuple(member.id for member in self.members if member.kind is not MemberKind.LEARNER)

    @property
    def data_members(self) -> tuple[MemberId, ...]:
        return tuple(member.id for member in self.members if member.kind is MemberKind.DATA)

    @property
    def learners(self) -> tuple[MemberId, ...]:
        return tuple(member.id for member in self.members if member.kind is MemberKind.LEARNER)

    @property
    def witness(self) -> MemberId | None:
        return next((member.id for member in self.members if member.kind is MemberKind.WITNESS), None)

    @property
    def quorum(self) -> int:
        """How many voters make a majority."""
        return len(self.voters) // 2 + 1

    def kind(self, id: MemberId) -> MemberKind | None:
        """Return what this member is, None when it is not one."""
        return next((member.kind for member in self.members if member.id == id), None)

    def with_member(self, id: MemberId, kind: MemberKind) -> Membership:
        """Return this membership with one member added or changed. Raises InvalidMembership."""
        others = [member for member in self.members if member.id != id]
        return Membership(tuple(sorted([*others, Member(id, kind)])))

    def without(self, id: MemberId) -> Membership:
        """Return this membership with one member fewer. Raises InvalidMembership."""
        return Membership(tuple(member for member in self.members if member.id != id))

    def encode(self) -> bytes:
        """Return the same bytes for the same membership, everywhere and always: 9 bytes a member."""
        return b"".join(_MEMBER.pack(member.id, member.kind) for member in self.members)

    @staticmethod
    def decode(data: bytes) -> Membership:
        """Undo `encode`. Raises InvalidMembership."""
        try:
            return Membership(tuple(Member(MemberId(i), MemberKind(k)) for i, k in _MEMBER.iter_unpack(data)))
        except (struct.error, ValueError) as error:
            raise InvalidMembership(f"not an encoded membership: {data!r}") from error


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """Where a log begins: the entry at `index` had `term`, and `membership` was in force there.

    It claims the log up to `index`, and so takes part in the comparison of logs when votes are asked for.
    """

    index: LogIndex
    term: Term
    membership: Membership

    @staticmethod
    def bootstrap(membership: Membership) -> BaseRecord:
        """Return the common beginning of a new group: as if entry 1, of term 1, had been its membership.

        Every first member starts from it; one that joins later starts from `BaseRecord.unknown()` and so needs a
        snapshot (the witness: a base record) before any entry, and with it learns who the group is.
        """
        return BaseRecord(LogIndex(1), Term(1), membership)

    @staticmethod
    def unknown() -> BaseRecord:
        """Return the beginning of a member's log that joins an existing group."""
        return BaseRecord(LogIndex(0), Term(0), Membership())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which state a snapshot holds: everything up to `index`. The state itself is streamed by the driver."""

    index: LogIndex
    term: Term
    membership: Membership

    @property
    def base(self) -> BaseRecord:
        return BaseRecord(self.index, self.term, self.membership)


@dataclass(frozen=True, slots=True)
class DurableState:
    """What a member finds on its disk when it starts.

    `applied` is the index up to which the state machine is durable (0 for a witness); never below `base.index` for
    a member with state.
    """

    hard_state: HardState
    base: BaseRecord
    applied: LogIndex

    @staticmethod
    def bootstrap(membership: Membership) -> DurableState:
        """Return the start of a first member of a new group; the driver makes it durable before it makes a core."""
        base = BaseRecord.bootstrap(membership)
        return DurableState(HardState(base.term, NOBODY, base.index), base, base.index)

    @staticmethod
    def joining() -> DurableState:
        """Return the start of a member that an existing group is going to add."""
        return DurableState(HardState(Term(0), NOBODY, LogIndex(0)), BaseRecord.unknown(), LogIndex(0))


class LogReader(Protocol):
    """A read-only view of the stable log. The core asks only for what it was told is `persisted`."""

    def first_index(self) -> LogIndex:
        """Return the index after the base record's."""

    def last_index(self) -> LogIndex:
        """Return the index of the last stable entry, or of the base record when there is none."""

    def term(self, index: LogIndex) -> Term:
        """Return the term of a stable entry, first_index() <= index <= last_index()."""

    def entries(self, low: LogIndex, high: LogIndex, max_bytes: int) -> Sequence[Entry]:
        """Return stable entries low..high-1 in order: at least the first, then as many as fit in max_bytes of data."""
