"""What a leader is asked to append: commands, and changes of the group; and to whom it is asked to hand over.

A witness that leads takes nothing. The uncommitted log is bounded, so that a leader that cannot commit says so at
once instead of filling its memory; a single proposal of any size is taken when nothing else waits.
"""

from __future__ import annotations

from collections.abc import Sequence

from blockyard.metaserver.raft.config import Busy, ChangeRefused, NotLeader
from blockyard.metaserver.raft.election import alive_members
from blockyard.metaserver.raft.membership import MembershipChange, next_membership
from blockyard.metaserver.raft.roles import track_members
from blockyard.metaserver.raft.state import RaftState, Role
from blockyard.metaserver.raft.types import NOBODY, Entry, EntryKind, LogIndex, MemberId


def append_commands(state: RaftState, commands: Sequence[bytes]) -> LogIndex:
    """Append one entry per command; return the index of the last."""
    assert commands, "nothing was proposed"
    _admit(state, len(commands), sum([len(command) for command in commands]))
    first, term = state.log.last_index + 1, state.term
    state.log.append(
        [Entry(LogIndex(first + i), term, EntryKind.COMMAND, command) for i, command in enumerate(commands)]
    )
    return state.log.last_index


def _require_leader(state: RaftState) -> None:
    if state.role is not Role.LEADER or state.is_witness:
        raise NotLeader(state.leader if state.leader != state.id else NOBODY)


def _admit(state: RaftState, count: int, size: int) -> None:
    """Note a proposal of so many entries and bytes, or refuse it."""
    _require_leader(state)
    if state.transfer_to != NOBODY:
        raise Busy(f"leadership is being handed over to {state.transfer_to}")
    config = state.config
    waiting = state.log.last_index - max(state.commit, state.term_start)
    if waiting > 0 and (
        waiting + count > config.max_uncommitted_entries
        or state.uncommitted_bytes + size > config.max_uncommitted_bytes
    ):
        raise Busy(f"{waiting} entries of {state.uncommitted_bytes} bytes are not committed yet")
    state.uncommitted_bytes += size


def append_membership(state: RaftState, change: MembershipChange) -> LogIndex:
    """Append a membership, in force at once; return its index."""
    _require_leader(state)
    if not state.committed_own_term:
        raise Busy("no entry of this term is committed yet")
    if state.members.changed_at > state.commit:
        raise Busy(f"the change at {state.members.changed_at} is not committed yet")
    patience = state.config.suspect_after_ticks
    in_step = [id for id, peer in state.progress.items() if peer.in_step(state.commit, patience)]
    after = next_membership(
        state.members.current, change, state.id, frozenset([*in_step, state.id]), alive_members(state)
    )
    data = after.encode()
    _admit(state, 1, len(data))
    entry = Entry(LogIndex(state.log.last_index + 1), state.term, EntryKind.MEMBERSHIP, data)
    state.log.append([entry])
    state.note_memberships([entry])
    track_members(state)
    return entry.index


def hand_over_to(state: RaftState, to: MemberId) -> None:
    """Begin to hand leadership to another data member (the thesis, section 3.10)."""
    _require_leader(state)
    if to == state.id or to not in state.members.data_members:
        raise ChangeRefused(f"member {to} is not another data member")
    state.transfer_to, state.transfer_sent = to, False
    state.elapsed_ticks, state.timeout_ticks = 0, state.config.election_timeout_ticks
