"""Up to where a data member's log may be dropped, and what is kept of it: a base record.

The driver decides when; a witness is compacted by its leader (see `following.compact_witness`).
"""

from __future__ import annotations

from blockyard.metaserver.raft.state import RaftState
from blockyard.metaserver.raft.types import LogIndex, Snapshot


def limit(state: RaftState) -> LogIndex:
    """Return up to where nobody who is alive needs the log; 0 while a snapshot is being installed."""
    if state.applied < state.log.base.index:
        return LogIndex(0)
    found = min(state.applied, state.log.stable)
    alive = state.config.election_timeout_ticks
    for id, peer in state.progress.items():
        if id != state.members.witness and peer.silent_ticks < alive:
            found = LogIndex(min(found, max(peer.match, peer.snapshot_index)))
    return max(found, state.log.base.index)


def metadata(state: RaftState, index: LogIndex) -> Snapshot:
    """Return what a snapshot of the state at `index` is to be called."""
    assert state.log.base.index <= index <= state.applied, (
        f"no snapshot at {index}: log begins at {state.log.base.index}, applied is {state.applied}"
    )
    return Snapshot(index, state.log.term(index), state.members.at(index))


def compacted(state: RaftState, index: LogIndex) -> None:
    """Forget the log up to `index`."""
    base = metadata(state, index).base
    state.log.compact(base)
    state.members.compact(base.index)
