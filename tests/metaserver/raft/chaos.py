"""A group under random loss, repetition, reordering, cuts, crashes, slow disks and compaction, from one seed.

Not the simulator: no time, no storage faults. It is small enough to run hundreds of seeds with the unit tests. A run
counts only if something was at risk in it (`crashes`, `reordered`, `elections`).
"""

from __future__ import annotations

import random
from typing import Any

from blockyard.metaserver.raft import Busy, NotLeader, Ready, Role

from tests.metaserver.raft.harness import Group, Member


class ChaosGroup(Group):
    """Delivers in random order, and checks what was acknowledged and what was read."""

    def __init__(self, seed: int, data: tuple[int, ...] = (1, 2), witness: int | None = 3) -> None:
        small: dict[str, Any] = {
            "max_append_bytes": 40,
            "max_inflight_appends": 4,
            "max_apply_bytes": 30,
            "max_window_bytes": 400,
        }
        quick: dict[str, Any] = {"election_timeout_ticks": 10, "suspect_after_ticks": 4, "witness_compact_entries": 5}
        super().__init__(data, witness, **small, **quick)
        self.rng = random.Random(seed)
        self.loss = self.rng.choice([0.0, 0.02, 0.1, 0.3])
        self.repeats = self.rng.choice([0.0, 0.1])
        self.reorders = self.rng.choice([0.0, 0.3, 1.0])
        self.crash_rate = self.rng.choice([0.0, 0.05, 0.2])
        self.hold_rate = self.rng.choice([0.0, 0.1, 0.5])
        self.crashes = self.reordered = self.served_reads = 0
        self.acknowledged = 1  # the highest index that a leader applied, thus answered
        self.read_floor: dict[int, tuple[int, int]] = {}
        self.contexts = 0

    def step(self) -> None:
        """Let one random thing happen."""
        action = self.rng.random()
        member = self.rng.choice(list(self.members.values()))
        if action < 0.4:
            self._deliver_some()
        elif action < 0.7:
            self._work(member)
        elif action < 0.93:
            if member.alive:
                member.core.tick()
        elif action < 0.98:
            self._ask(member)
        else:
            self._trouble(member)
        self._check()

    def _deliver_some(self) -> None:
        for _ in range(min(len(self.wire), 3)):
            at = self.rng.randrange(len(self.wire)) if self.rng.random() < self.reorders else 0
            self.reordered += at > 0
            message, staged = self.wire[at]
            del self.wire[at]
            if self.rng.random() < self.repeats:
                self.wire.append((message, staged))
            if self.rng.random() >= self.loss:
                self._deliver(message, staged)
            else:
                self._stream_ended(message, delivered=False)

    def _work(self, member: Member) -> None:
        if not member.alive:
            return
        if member.held is not None and self.rng.random() > self.hold_rate:
            ready, member.held = member.held, None
            self._persist(member, ready)
        new = member.core.ready()
        if new is not None:
            member.holds_writes = self.rng.random() < self.hold_rate
            self._drive(member, new)
            self._note(member, new)

    def _note(self, member: Member, ready: Ready) -> None:
        if member.core.role is Role.LEADER and ready.committed:
            self.acknowledged = max(self.acknowledged, ready.committed[-1].index)
        for read in ready.reads:
            floor = self.read_floor[read.context][1]
            assert read.index >= floor, f"stale read: {read} began when {floor} was acknowledged; {self.describe()}"
            self.served_reads += 1

    def _ask(self, member: Member) -> None:
        if not member.alive:
            return
        try:
            if self.rng.random() < 0.5:
                self.contexts += 1
                self.read_floor[self.contexts] = (member.core.id, self.acknowledged)
                member.core.read_index(self.contexts)
            else:
                member.core.propose([b"%d" % self.rng.randrange(10**6) for _ in range(self.rng.randrange(1, 4))])
        except (NotLeader, Busy):
            pass

    def _trouble(self, member: Member) -> None:
        which = self.rng.random()
        if not member.alive:
            if which < 0.7:
                self.restart(member.core.id)
        elif which < self.crash_rate:
            self.crash(member.core.id)
            self.crashes += 1
        elif which < 0.4:
            self.cut.add((member.core.id, self.rng.choice(list(self.members))))
        elif which < 0.7:
            self.cut.clear()
        elif member.core.is_witness or member.held is not None:
            return
        elif which < 0.9:
            limit = member.core.compaction_limit()
            if limit > member.disk.base.index or (limit and self.rng.random() < 0.1):
                self.compact(member.core.id)
        elif member.core.role is Role.LEADER:
            others = [id for id in member.core.membership.data_members if id != member.core.id]
            member.core.transfer_leadership(self.rng.choice(others))

    def heal_and_finish(self) -> None:
        """Mend everything; the group must elect, commit and agree."""
        self.loss = self.repeats = 0.0
        self.cut.clear()
        for id, member in self.members.items():
            if not member.alive:
                self.restart(id)
            self.release(id)
            member.holds_writes = False

        def in_service() -> bool:
            leader = self.leader()
            if leader is None or self.core(leader).is_witness:
                return False
            try:
                index = self.propose(leader, b"last")
            except Busy:
                return False
            return self.core(leader).commit >= index

        self.until(in_service, limit=300)
        data = [self.members[id] for id in self.core(1).membership.data_members]
        self.until(lambda: len({tuple(m.disk.commands) for m in data}) == 1, limit=100)
        self.until(lambda: all(m.disk.applied >= self.acknowledged for m in data), limit=100)
