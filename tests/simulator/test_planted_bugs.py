"""The simulator finds bugs that are put into the core on purpose, each within a bounded number of seeds.

Every mutant is a bug that somebody shipped, or one that the paper warns of. Some are caught at once, because a member
asks its own disk before it acknowledges; those are tried a second time with that question left out, so that the checks
of what clients and logs can see have to find them too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from blockyard.metaserver.raft import (
    AppendReply,
    HardState,
    Heartbeat,
    LogIndex,
    MemberId,
    RaftCore,
    ReadConfirmed,
    Ready,
    election,
    following,
    read_index,
    replication,
)
from blockyard.metaserver.raft.progress import ProgressState
from blockyard.metaserver.raft.state import RaftState

from tests.simulator.disk import Disk, LogBatch
from tests.simulator.member import Member
from tests.simulator.network import LinkQuality
from tests.simulator.plan import Fault, Plan
from tests.simulator.run import RunResult, run_seed
from tests.simulator.shrink import shrink
from tests.simulator.state_machine import APPLIED

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


def _change_ready(patch: Patch, change: Callable[[Ready], Ready]) -> None:
    real = RaftCore._make_ready

    def mutant(self: RaftCore, committed: Any, *, persist: bool) -> Ready:
        ready = change(real(self, committed, persist=persist))
        if ready.hard_state is not None:
            self._outstanding = ready
        return ready

    patch.setattr(RaftCore, "_make_ready", mutant)


def acknowledges_before_the_write(patch: Patch) -> None:
    def early(ready: Ready) -> Ready:
        acks = [m for m in ready.messages_after_persist if isinstance(m, AppendReply)]
        rest = [m for m in ready.messages_after_persist if not isinstance(m, AppendReply)]
        return replace(ready, messages=[*ready.messages, *acks], messages_after_persist=rest)

    _change_ready(patch, early)


def forgets_its_vote(patch: Patch) -> None:
    def voteless(ready: Ready) -> Ready:
        hard = ready.hard_state
        return replace(ready, hard_state=HardState(hard.term, MemberId(0), hard.commit)) if hard else ready

    real = RaftCore.persisted

    def persisted(self: RaftCore, ready: Ready) -> None:
        real(self, ready)
        if ready.hard_state is not None:
            self._state.durable_vote = self._state.vote if self._state.term == ready.hard_state.term else MemberId(0)
            election.own_vote_is_durable(self._state)

    _change_ready(patch, voteless)
    patch.setattr(RaftCore, "persisted", persisted)


def commits_earlier_terms_by_counting(patch: Patch) -> None:
    """The paper, figure 8."""

    def advance_commit(state: RaftState) -> bool:
        members = state.members
        matches = sorted([state.voter_match(id) for id in members.voters])
        return state.commit_to(matches[len(matches) - members.quorum])

    patch.setattr(replication, "advance_commit", advance_commit)


def counts_itself_before_its_own_disk(patch: Patch) -> None:
    def voter_match(self: RaftState, id: MemberId) -> LogIndex:
        return self.log.last_index if id == self.id else self.progress[id].match

    patch.setattr(RaftState, "voter_match", voter_match)


def acknowledges_its_last_index(patch: Patch) -> None:
    """Instead of previous + count: the tail beyond may contradict the leader's."""
    real = following._acknowledge
    patch.setattr(following, "_acknowledge", lambda state, message, reached: real(state, message, state.log.last_index))


def truncates_on_late_appends(patch: Patch) -> None:
    """A reordered append, shorter than the log, removes an acknowledged tail."""

    def on_append(state: RaftState, message: Any) -> None:
        log, end = state.log, message.previous_index + len(message.entries)
        if (
            message.entries
            and state.commit <= end < log.last_index
            and log.matches(message.previous_index, message.previous_term)
        ):
            following._replace_tail(state, LogIndex(end + 1))
        real(state, message)

    real = following.on_append
    _patch_handler(patch, "AppendEntries", on_append)


def _patch_handler(patch: Patch, name: str, handler: Callable[[RaftState, Any], None]) -> None:
    from blockyard.metaserver.raft import core

    kind = next(kind for kind in core._HANDLERS if kind.__name__ == name)
    patch.setitem(core._HANDLERS, kind, handler)


def drops_witness_log_past_the_slower_member(patch: Patch) -> None:
    """What braft documents as the loss of its witness."""

    def send_heartbeat(state: RaftState, id: MemberId, read_round: int) -> None:
        peer = state.progress[id]
        commit = min(peer.match, state.commit)
        parked = peer.state is ProgressState.PARKED
        state.lead(Heartbeat(state.id, id, state.term, commit, read_round, parked, commit))

    patch.setattr(replication, "send_heartbeat", send_heartbeat)
    patch.setattr(read_index, "send_heartbeat", send_heartbeat)


def installs_the_witness_base_past_the_commit_index(patch: Patch) -> None:
    """ "Both had quorum with a dummy": the witness claims what only the leader has."""
    patch.setattr(replication, "base_index", lambda state: state.log.stable)


def serves_reads_without_asking_anybody(patch: Patch) -> None:
    def begin_round(state: RaftState) -> None:
        if state.committed_own_term:
            begun = state.reads.begin_round(state.commit)
            read_index._finish(state, state.reads.confirm(state.id, begun.number, 1))

    patch.setattr(read_index, "_begin_round", begin_round)


def serves_reads_before_its_terms_first_commit(patch: Patch) -> None:
    patch.setattr(RaftState, "committed_own_term", property(lambda self: True))


def serves_follower_reads_at_once(patch: Patch) -> None:
    def ask(state: RaftState, context: int) -> None:
        real(state, context)
        if not state.is_leader:
            state.reads.contexts.clear()
            state.confirmed_reads.append(ReadConfirmed(context, state.commit))

    real = read_index.ask
    patch.setattr(read_index, "ask", ask)


def votes_for_older_logs(patch: Patch) -> None:
    patch.setattr(election, "_is_new_enough", lambda state, message: message.last_index >= state.log.last_index)


def votes_twice_in_a_term(patch: Patch) -> None:
    real = election.on_request_vote

    def on_request_vote(state: RaftState, message: Any) -> None:
        if not message.pre_vote and not state.is_leader:
            state.vote, state.leader = MemberId(0), MemberId(0)
        real(state, message)

    _patch_handler(patch, "RequestVote", on_request_vote)


def writes_the_applied_index_apart_from_the_state(patch: Patch) -> None:
    """A driver's bug: two writes, and a power cut between them."""
    real = Disk.lose_power

    def lose_power(self: Disk, chance: Any, tear: bool) -> None:
        unsynced = len(self.state_file.unsynced)
        real(self, chance, tear)
        if unsynced and self.rows[APPLIED] < self.base.index + len(self.entries_stored):
            self.rows[APPLIED] += 1

    patch.setattr(Disk, "lose_power", lose_power)


def answers_a_bad_checksum_by_truncation(patch: Patch) -> None:
    """A driver's bug: a rotten record is taken for a torn one, and what follows it is dropped."""
    real = Disk.open

    def open_(self: Disk) -> Any:
        if self.rotten:
            self.rotten = False
            keep = max(self.rows[APPLIED] - self.base.index, 0)
            del self.entries_stored[max(keep, len(self.entries_stored) // 2) :]
            commit = min(self.hard_state.commit, self.last_index())
            self.hard_state = HardState(self.hard_state.term, self.hard_state.vote, commit)
        return real(self)

    patch.setattr(Disk, "open", open_)


def switches_to_a_snapshot_in_two_writes(patch: Patch) -> None:
    real = Disk.write_log

    def write_log(self: Disk, batch: LogBatch) -> int:
        if batch.state is not None:
            real(self, replace(batch, state=None))
            batch = LogBatch(state=batch.state)
        return real(self, batch)

    patch.setattr(Disk, "write_log", write_log)


def _trusting(plant: Plant) -> Plant:
    def both(patch: Patch) -> None:
        plant(patch)
        patch.setattr(Member, "_require_stored", lambda self, index: None)

    both.__name__ = plant.__name__ + "_and_no_disk_is_asked"
    return both


FALLING_LEADERS = Plan(
    faults=(Fault.LEADERS_FALL,),
    fault_interval_ticks=10,
    clients=5,
    think_ticks=0.1,
    max_append_bytes=1,
    quality=LinkQuality(loss=0.3),
    suspect_ticks=3,
    election_ticks=8,
)
PAUSED_LEADERS = Plan(
    faults=(Fault.PAUSE,),
    leader_bias=0.8,
    fault_interval_ticks=60,
    fault_duration_ticks=50,
    read_anywhere=0.5,
    clients=5,
)

PLANTS: list[tuple[Plant, int, Plan | None]] = [  # a bug, within how many seeds it must be found, of which plan
    (acknowledges_before_the_write, 3, None),
    (_trusting(acknowledges_before_the_write), 60, None),
    (forgets_its_vote, 3, None),
    (commits_earlier_terms_by_counting, 300, FALLING_LEADERS),
    (counts_itself_before_its_own_disk, 30, None),
    (acknowledges_its_last_index, 200, None),
    (truncates_on_late_appends, 60, None),
    (drops_witness_log_past_the_slower_member, 30, None),
    (installs_the_witness_base_past_the_commit_index, 60, None),
    (serves_reads_without_asking_anybody, 60, PAUSED_LEADERS),
    (serves_reads_before_its_terms_first_commit, 200, None),
    (serves_follower_reads_at_once, 30, None),
    (votes_for_older_logs, 300, FALLING_LEADERS),
    (votes_twice_in_a_term, 60, None),
    (writes_the_applied_index_apart_from_the_state, 60, None),
    (answers_a_bad_checksum_by_truncation, 300, None),
    (switches_to_a_snapshot_in_two_writes, 300, None),
]


def first_failure(seeds: int, plan: Plan | None, events: int = 3_000) -> RunResult | None:
    for seed in range(seeds):
        result = run_seed(seed, events, plan=plan)
        if result.violation:
            return result
    return None


@pytest.mark.parametrize(("plant", "seeds", "plan"), PLANTS, ids=[plant.__name__ for plant, _, _ in PLANTS])
def test_the_simulator_finds_it(plant: Plant, seeds: int, plan: Plan | None, monkeypatch: Patch) -> None:
    plant(monkeypatch)
    assert first_failure(seeds, plan) is not None, f"{seeds} seeds did not find it"


@pytest.mark.parametrize("plan", [FALLING_LEADERS, PAUSED_LEADERS], ids=["falling leaders", "paused leaders"])
def test_the_core_as_it_is_passes_where_mutants_fail(plan: Plan) -> None:
    failure = first_failure(40, plan)
    assert failure is None, failure.violation


def test_a_failing_seed_is_made_smaller(monkeypatch: Patch) -> None:
    drops_witness_log_past_the_slower_member(monkeypatch)
    failing = first_failure(30, None)
    assert failing is not None
    smaller = shrink(failing)
    assert smaller.violation
    assert smaller.events < failing.events
    assert run_seed(smaller.seed, smaller.events, smaller.without).violation == smaller.violation
