"""What members say to each other: one frozen record per kind, each with sender, receiver and term.

Nothing here decides anything. A message may be lost, repeated, delayed or overtaken by any other; the core is right
under all of that. A message of an older term is refused, one of a newer term is obeyed or ignored by the rules of
`election`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockyard.metaserver.raft.types import BaseRecord, Entry, LogIndex, MemberId, Snapshot, Term


@dataclass(frozen=True, slots=True)
class RequestVote:
    """Asks for a vote (the paper, section 5.2).

    With `pre_vote` it only asks whether a vote *would* be given in `term`, the sender's next one (the thesis, 9.6).
    With `leader_transfer` the old leader has ordered this election, so loyalty to it is no reason to refuse (3.10).
    """

    sender: MemberId
    to: MemberId
    term: Term
    last_index: LogIndex
    last_term: Term
    pre_vote: bool
    leader_transfer: bool


@dataclass(frozen=True, slots=True)
class VoteReply:
    """`term` is the term asked about when granted, else the voter's own. Last index and term are the voter's."""

    sender: MemberId
    to: MemberId
    term: Term
    granted: bool
    pre_vote: bool
    last_index: LogIndex
    last_term: Term


@dataclass(frozen=True, slots=True)
class AppendEntries:
    """Entries that follow the one at `previous_index` (the paper, section 5.3); `commit` is the leader's."""

    sender: MemberId
    to: MemberId
    term: Term
    previous_index: LogIndex
    previous_term: Term
    entries: Sequence[Entry]
    commit: LogIndex


@dataclass(frozen=True, slots=True)
class AppendReply:
    """Accepted: the log equals the leader's up to `index` = previous + count, durably; never "my last index".

    Rejected: `index` is the refused previous_index, and (hint_index, hint_term) is the last place at or before it
    where the logs may still agree, so that the leader skips a whole term in one step (the paper, section 5.3).
    The hint is (0, 0) in an acceptance, and in the answer to a leader of an older term.
    """

    sender: MemberId
    to: MemberId
    term: Term
    rejected: bool
    index: LogIndex
    hint_index: LogIndex
    hint_term: Term


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The leader lives. `commit` is never past what the receiver is known to hold.

    `read_round` above 0 asks for confirmation of leadership for the reads of that round (the thesis, 6.4).
    `parked` and `witness_floor` are for the witness: entries up to the floor are durable on all data members.
    """

    sender: MemberId
    to: MemberId
    term: Term
    commit: LogIndex
    read_round: int
    parked: bool
    witness_floor: LogIndex


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    sender: MemberId
    to: MemberId
    term: Term
    read_round: int


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """A snapshot's state has arrived whole and is durable in the receiver's staging area (the paper, section 7).

    Made by the leader's driver as the last frame of the stream it sends on `Ready.send_snapshots`, with the term
    given there. The receiver's driver steps it into its core only when the state is complete and fsynced beside the
    living one; the core answers with `Ready.snapshot` when it is to be switched to.
    """

    sender: MemberId
    to: MemberId
    term: Term
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class SnapshotReply:
    """The receiver's log and state reach at least `index`, durably."""

    sender: MemberId
    to: MemberId
    term: Term
    index: LogIndex


@dataclass(frozen=True, slots=True)
class InstallBase:
    """To the witness: begin your log at `base`, which is committed and durable on all data members."""

    sender: MemberId
    to: MemberId
    term: Term
    base: BaseRecord


@dataclass(frozen=True, slots=True)
class BaseReply:
    """The witness claims the log up to `index`, durably."""

    sender: MemberId
    to: MemberId
    term: Term
    index: LogIndex


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """Stand for election at once, without a pre-vote (the thesis, section 3.10)."""

    sender: MemberId
    to: MemberId
    term: Term


@dataclass(frozen=True, slots=True)
class ReadIndexRequest:
    """A follower asks for a read index for all its reads of `round` (the thesis, section 6.4)."""

    sender: MemberId
    to: MemberId
    term: Term
    round: int


@dataclass(frozen=True, slots=True)
class ReadIndexReply:
    """Reads of `round` may be served once `index` is applied; not at all when `refused`."""

    sender: MemberId
    to: MemberId
    term: Term
    round: int
    index: LogIndex
    refused: bool


Message = (
    RequestVote
    | VoteReply
    | AppendEntries
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | InstallSnapshot
    | SnapshotReply
    | InstallBase
    | BaseReply
    | TimeoutNow
    | ReadIndexRequest
    | ReadIndexReply
)
