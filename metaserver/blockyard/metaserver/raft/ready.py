"""What the core asks of its driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockyard.metaserver.raft.messages import Message
from blockyard.metaserver.raft.types import BaseRecord, Entry, HardState, LogIndex, MemberId, Snapshot, Term


@dataclass(frozen=True, slots=True)
class ReadConfirmed:
    """The read may be served from this member's state once it has applied `index`."""

    context: int
    index: LogIndex


@dataclass(frozen=True, slots=True)
class SendSnapshot:
    """Stream a snapshot of `at_least` this index to a member; its last frame is InstallSnapshot of this `term`."""

    to: MemberId
    term: Term
    at_least: LogIndex


@dataclass(frozen=True, slots=True)
class Ready:
    """What RaftCore asks its driver to do, in this order (the loop is in the package's docstring).

    1. send `messages`, any time, also while this or another Ready is being written;
    2. write `snapshot` or `base`, `hard_state` and `entries` in one atomic, fsynced write, when `must_persist`;
    3. `core.persisted(ready)`, then send `messages_after_persist`;
    4. apply `committed`, then `core.applied(index)`; answer `reads` whose index is applied; fail `refused_reads`.

    `entries` replace the stable log from entries[0].index on: what stood there and after is gone.
    `base` begins the log: entries up to base.index are dropped; those after it stay only if the stored entry at
    base.index has base.term, else the whole log is dropped. `snapshot` does the same to the log, and the staged state
    of that index becomes the state, in the same atomic step. Both come before `entries`.
    """

    hard_state: HardState | None
    entries: Sequence[Entry]
    snapshot: Snapshot | None
    base: BaseRecord | None
    messages: Sequence[Message]
    messages_after_persist: Sequence[Message]
    committed: Sequence[Entry]
    reads: Sequence[ReadConfirmed]
    refused_reads: Sequence[int]
    send_snapshots: Sequence[SendSnapshot]

    @property
    def must_persist(self) -> bool:
        """Whether step 2 has anything to write; if not, `messages_after_persist` may be sent at once."""
        return bool(self.entries) or self.hard_state is not None or self.snapshot is not None or self.base is not None
