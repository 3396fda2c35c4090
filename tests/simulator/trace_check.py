"""What must be true of every run, checked fact by fact as the run goes.

Pure: facts go in, and the first broken promise raises `Violation`; nothing here knows a disk, a network or a core.
A run may be checked as it happens or from a recorded trace. Checked are: one leader per term, one vote per term and
disk, log matching, leader completeness (every committed entry in every later leader), commit never goes back, state
machine safety, commits on a majority of disks, state equal at equal index, exactly-once answers, linearizable reads.
Source: the Raft paper, figure 3 and section 8; the thesis, sections 6.3 and 6.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from tests.simulator.state_machine import APPLIED, DIGEST, Answer, Command, StateMachine
from tests.simulator.world import Violation


class LoggedEntry(Protocol):
    @property
    def index(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def data(self) -> bytes: ...


class _Stored(NamedTuple):
    kind: int
    data: bytes
    previous_term: int


def require(holds: bool, message: str, *details: object) -> None:
    if not holds:
        raise Violation(message.format(*details))


class TraceChecker:
    """Collects the facts of one run. Members are named by id, which is also the identity of their disk."""

    def __init__(self, first_index: int, decode: Callable[[LoggedEntry], Command | None]) -> None:
        """`first_index` is the first entry that is not part of the group's common beginning."""
        self.decode = decode
        self.leaders: dict[int, int] = {}  # term → member
        self.votes: dict[tuple[int, int], int] = {}  # (member, term) → candidate
        self.stored: dict[tuple[int, int], _Stored] = {}  # (index, term) → the one entry that may be there
        self.committed: list[LoggedEntry] = []  # from first_index on
        self.committed_in: list[int] = []  # the term, at the latest, in which each of them was committed
        self.first_index = first_index
        self.commits: dict[int, int] = {}  # member → highest commit index since its start
        self.applied: dict[int, int] = {}  # member → applied index since its start
        # The reference: every committed entry applied once, in order.
        self.reference = StateMachine(StateMachine.empty(first_index - 1))
        self.digests: list[int] = []  # after each index from first_index on
        self.answers: dict[tuple[int, int], Answer] = {}  # request id → the answer of its one effect
        self.histories: dict[int, tuple[list[int], list[int]]] = {}  # register → (indexes, values)
        self.acknowledged: dict[tuple[int, int], Answer] = {}
        self.seen_index = 0  # the newest log index any client has learned of from an answer

    # -- elections

    def voted(self, member: int, term: int, candidate: int) -> None:
        """A vote left the member (a candidate's request carries its own)."""
        given = self.votes.setdefault((member, term), candidate)
        require(given == candidate, "member {} voted in term {} for {} and for {}", member, term, given, candidate)

    def became_leader(self, member: int, term: int, holds: Callable[[int, int], bool]) -> None:
        """`holds(index, term)` says whether the leader's log has this entry, or begins after it."""
        known = self.leaders.setdefault(term, member)
        require(known == member, "members {} and {} both lead term {}", known, member, term)
        self.leader_holds_commits(member, term, holds)

    def leader_holds_commits(self, member: int, term: int, holds: Callable[[int, int], bool]) -> None:
        """By log matching, holding the newest entry that was committed in an earlier term means holding all before it.

        What counts is the term of the commit, not that of the entry: an entry of term 2 that a leader of term 4 commits
        may be unknown to a leader of term 3 (the paper, figure 8).
        """
        for entry, committed_in in zip(reversed(self.committed), reversed(self.committed_in), strict=True):
            if committed_in < term:
                require(
                    holds(entry.index, entry.term),
                    "member {} leads term {} without committed entry {} of term {}",
                    member, term, entry.index, entry.term,
                )  # fmt: skip
                return

    # -- logs

    def entries_stored(self, member: int, previous_term: int, entries: Iterable[LoggedEntry]) -> None:
        """Log matching, by induction: an index and a term name one entry, and one term before it."""
        stored = self.stored
        for entry in entries:
            fact = _Stored(entry.kind, entry.data, previous_term)
            known = stored.setdefault((entry.index, entry.term), fact)
            if known is not fact and known != fact:
                raise Violation(f"logs differ: member {member} stores {entry} after term {previous_term}, not {known}")
            previous_term = entry.term

    def commit_moved(self, member: int, commit: int) -> None:
        before = self.commits.get(member, 0)
        require(commit >= before, "commit of member {} went back from {} to {}", member, before, commit)
        self.commits[member] = commit

    def restarted(self, member: int, applied: int) -> None:
        """Commit is volatile and begins anew; the applied index is what the disk said."""
        self.commits.pop(member, None)
        self.applied[member] = applied

    def entries_committed(self, member: int, entries: Sequence[LoggedEntry], term: int) -> bool:
        """State machine safety: one entry per index, for all members and for ever. Return whether any was new.

        `term` is the member's own: nobody learns of a commit before the term it was made in.
        """
        committed, new = self.committed, False
        for entry in entries:
            offset = entry.index - self.first_index
            if offset < len(committed):
                known = committed[offset]
                if known is not entry and known != entry:
                    raise Violation(f"member {member} commits {entry}, but {known} was committed there")
            else:
                require(
                    offset == len(committed), "member {} commits entry {} before those before it", member, entry.index
                )
                committed.append(entry)
                self.committed_in.append(term)
                self._apply_to_reference(entry)
                new = True
        return new

    def durable_on(self, entry: LoggedEntry, holders: Sequence[int], quorums: Sequence[Sequence[int]]) -> None:
        """A committed entry is on the disks of a majority of the voters of one of the memberships around it."""
        held = set(holders)
        if not any(2 * len(held.intersection(voters)) > len(voters) for voters in quorums):
            raise Violation(
                f"entry {entry.index} of term {entry.term} is committed, but only on {holders} of {quorums}"
            )

    # -- state

    def _apply_to_reference(self, entry: LoggedEntry) -> None:
        command = self.decode(entry)
        changes, answer = self.reference.apply(entry.index, command)
        self.digests.append(changes[DIGEST])
        if command is not None and answer is not None and answer.at_index == entry.index:
            self.answers[command.client, command.sequence] = answer
            if command.key in changes:
                indexes, values = self.histories.setdefault(command.key, ([0], [0]))
                indexes.append(entry.index)
                values.append(changes[command.key])

    def entry_applied(self, member: int, index: int, digest: int) -> None:
        """Applied in order, each once, with the same effects as everywhere else."""
        before = self.applied.get(member, self.first_index - 1)
        require(index == before + 1, "member {} applied entry {} after {}", member, index, before)
        self.applied[member] = index
        self.state_is(member, index, digest)

    def snapshot_installed(self, member: int, index: int, digest: int) -> None:
        before = self.applied.get(member, 0)
        require(index > before, "member {} went back from {} to a snapshot of {}", member, before, index)
        self.applied[member] = index
        self.state_is(member, index, digest)

    def state_is(self, member: int, index: int, digest: int) -> None:
        offset = index - self.first_index
        require(offset < len(self.digests), "member {} has a state of entry {}, which nobody committed", member, index)
        expected = self.digests[offset] if offset >= 0 else 0
        require(digest == expected, "the state of member {} at entry {} differs from the others'", member, index)

    # -- clients

    def write_acknowledged(self, command: Command, answer: Answer) -> None:
        """The answer is that of the command's one effect; a retry got the same."""
        request = command.client, command.sequence
        expected = self.answers.get(request)
        require(expected is not None, "{} was acknowledged, but nobody committed it", command)
        require(answer == expected, "{} was answered {}, its effect says {}", command, answer, expected)
        self.acknowledged[request] = answer
        self.seen_index = max(self.seen_index, answer.at_index)

    def read_answered(self, key: int, value: int, at_index: int, seen_at_start: int) -> None:
        """A read shows the state of one index, no older than anything a client had been told when it began."""
        require(
            at_index >= seen_at_start,
            "stale read: register {} at entry {}, but entry {} had been answered before it began",
            key, at_index, seen_at_start,
        )  # fmt: skip
        expected = self.value_at(key, at_index)
        require(
            value == expected, "register {} read as {} at entry {}, where it was {}", key, value, at_index, expected
        )
        self.seen_index = max(self.seen_index, at_index)

    def value_at(self, key: int, index: int) -> int:
        """Return the register's value after entry `index`."""
        indexes, values = self.histories.get(key, ([0], [0]))
        position = len(indexes) - 1
        while indexes[position] > index:  # nearly always the newest or the one before
            position -= 1
        return values[position]

    def acknowledged_survive(self, member: int, applied: int, digest: int) -> None:
        """At the end: the member's state has every acknowledged write in it, once."""
        newest = max((answer.at_index for answer in self.acknowledged.values()), default=0)
        require(applied >= newest, "member {} ends at entry {}, before acknowledged entry {}", member, applied, newest)
        self.state_is(member, applied, digest)

    def nothing_was_at_risk(self, faults: int) -> bool:
        """Return whether the run proves nothing: no fault happened, or nothing was acknowledged."""
        return faults == 0 or not self.acknowledged

    @property
    def reference_applied(self) -> int:
        return int(self.reference.rows[APPLIED])
