"""Reads that wait for a read index, in rounds. How rounds are confirmed is in `read_index`.

Invariants: a read is in one place at a time; rounds are confirmed in their order; whatever waits when a role or term
ends is refused.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from blockyard.metaserver.raft.types import LogIndex, MemberId


@dataclass(slots=True)
class ReadRound:
    """Reads that share one round: contexts of this member, and (follower, its round) of others."""

    number: int
    index: LogIndex
    contexts: list[int]
    remote: list[tuple[MemberId, int]]
    confirmed_by: list[MemberId] = field(default_factory=list)


class ReadQueue:
    """Reads of one member: waiting to be asked about, and asked about.

    `first_number` makes the rounds of a follower differ from those of its earlier life in the same term, whose late
    answers would be too old.
    """

    __slots__ = ("_asked", "_number", "contexts", "remote", "rounds")

    def __init__(self, first_number: int) -> None:
        self.contexts: list[int] = []
        self.remote: list[tuple[MemberId, int]] = []
        self.rounds: deque[ReadRound] = deque()
        self._asked: dict[int, list[int]] = {}
        self._number = first_number

    @property
    def waiting(self) -> bool:
        return bool(self.contexts or self.remote)

    @property
    def asked(self) -> tuple[int, ...]:
        """A follower's rounds that the leader has not answered."""
        return tuple(self._asked)

    @property
    def newest_round(self) -> int:
        """The number of a leader's newest unconfirmed round, 0 when there is none."""
        return self.rounds[-1].number if self.rounds else 0

    def begin_round(self, index: LogIndex) -> ReadRound:
        """As leader: let everything that waits share a round."""
        self._number += 1
        begun = ReadRound(self._number, index, self.contexts, self.remote)
        self.contexts, self.remote = [], []
        self.rounds.append(begun)
        return begun

    def confirm(self, member: MemberId, number: int, quorum: int) -> list[ReadRound]:
        """As leader: note a voter's answer; return the rounds that a majority, leader included, has confirmed."""
        for round in self.rounds:
            if round.number > number:
                break
            if member not in round.confirmed_by:
                round.confirmed_by.append(member)
        done = []
        while self.rounds and len(self.rounds[0].confirmed_by) + 1 >= quorum:
            done.append(self.rounds.popleft())
        return done

    def ask(self) -> int:
        """As follower: let everything that waits be asked about together; return the round."""
        self._number += 1
        self._asked[self._number] = self.contexts
        self.contexts = []
        return self._number

    def answer(self, number: int) -> list[int]:
        """As follower: return the contexts of a round, which is over."""
        return self._asked.pop(number, [])

    def refuse_all(self) -> list[int]:
        """Forget everything; return the contexts of this member that were waiting, oldest first."""
        refused = [context for round in self.rounds for context in round.contexts]
        refused += [context for contexts in self._asked.values() for context in contexts]
        refused += self.contexts
        self.rounds.clear()
        self._asked.clear()
        self.contexts, self.remote = [], []
        return refused
