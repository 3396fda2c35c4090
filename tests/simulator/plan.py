"""What one run is like: the settings of the group, the quality of its links and disks, and which faults it may meet.

Swarm testing: each run draws its own subset of fault kinds and its own rates, because a run with every fault at once
rarely gets far enough to be interesting. Source: Groce et al., "Swarm Testing", ISSTA 2012.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import IntEnum

from blockyard.metaserver.raft import MemberId, RaftConfig

from tests.simulator.network import LinkQuality
from tests.simulator.world import TICK


class Fault(IntEnum):
    KILL = 1
    POWER_CUT = 2
    TORN_WRITE = 3  # a power cut in the middle of its next log write, which leaves half a record
    POWER_CUT_ALL = 4
    FSYNC_FAILS = 5
    DISK_LOST = 6
    DISK_ROTS = 7
    SLOW_DISK = 8
    HUNG_DISK = 9
    PAUSE = 10
    ISOLATE = 11
    DEAF = 12  # nothing arrives at it
    MUTE = 13  # nothing it sends arrives
    CUT_PAIR = 14  # it and one other, both ways
    CUT_ONE_WAY = 15  # one directed link
    STORM = 16  # loss, duplication, reordering and delay on every link
    CLOCK_SKEW = 17
    TRANSFER = 18  # of leadership to this member
    REPLACE = 19  # this member, healthy, by a new one
    CUT_AT_SNAPSHOT = 20  # a power cut of whoever switches to a snapshot next, while it does
    LEADERS_FALL = 21  # a power cut of each of the next few leaders, soon after its election (the paper, figure 8)


MEMBER_FAULTS = tuple(fault for fault in Fault if fault not in (Fault.POWER_CUT_ALL, Fault.STORM))
GROUP_FAULTS = (Fault.POWER_CUT_ALL, Fault.STORM)


@dataclass(frozen=True, slots=True)
class Plan:
    """Drawn once per run, or written by hand for a scripted one. Times in ticks unless the name says units."""

    faults: tuple[Fault, ...] = ()
    fault_interval_ticks: float = 30.0  # mean time between faults
    fault_duration_ticks: float = 25.0  # mean time until a fault is undone
    leader_bias: float = 0.0  # chance that a fault is for the leader, else for anybody
    clocks: tuple[int, ...] = (TICK,)  # tick periods in units, one drawn for each process
    quality: LinkQuality = field(default_factory=LinkQuality)
    one_file: bool = True  # Raft log and state in one write-ahead log, or in two
    sync_min: int = 1  # units
    sync_max: int = 10  # units
    batch_delay: int = 0  # units from the first input to the look for a Ready; 0: after each input
    apply_lag: int = 0  # units; 0: applied at once
    compact_after: int = 64  # entries
    snapshot_ticks: int = 6
    clients: int = 3
    think_ticks: float = 2.0
    read_share: float = 0.4
    client_timeout_ticks: int = 12
    give_up: float = 0.02
    wrong_door: float = 0.05  # chance that a client asks a member at random, the witness included
    read_anywhere: float = 0.0  # chance that a read does
    heartbeat_ticks: int = 2
    suspect_ticks: int = 6
    election_ticks: int = 12
    max_append_bytes: int = 1 << 20
    max_inflight_appends: int = 64
    max_uncommitted_entries: int = 16_384
    witness_compact_entries: int = 64
    heal_all: bool = False

    def raft_config(self, id: MemberId, witness: bool) -> RaftConfig:
        return RaftConfig(
            id=id,
            witness=witness,
            heartbeat_interval_ticks=self.heartbeat_ticks,
            suspect_after_ticks=self.suspect_ticks,
            election_timeout_ticks=self.election_ticks,
            max_append_bytes=self.max_append_bytes,
            max_inflight_appends=self.max_inflight_appends,
            max_uncommitted_entries=self.max_uncommitted_entries,
            witness_compact_entries=self.witness_compact_entries,
        )


def _draw_quality(chance: random.Random) -> LinkQuality:
    lossy, jittery = chance.random() < 0.4, chance.random() < 0.4
    return LinkQuality(
        delay_min=1,
        delay_max=chance.choice([5, 10, 50, TICK, 3 * TICK]) if jittery else 10,
        loss=chance.choice([0.001, 0.01, 0.05, 0.15]) if lossy else 0.0,
        duplication=chance.choice([0.0, 0.0, 0.01, 0.1]),
        reordering=chance.random() < 0.4,
        spike=chance.choice([0.0, 0.0, 0.01, 0.03]),
        spike_delay=chance.choice([5, 20, 60]) * TICK,
    )


def draw_plan(chance: random.Random, without: Collection[Fault] = ()) -> Plan:
    """Draw a run's plan. `without` takes fault kinds away afterwards, so the rest of the draw stays the same."""
    share = chance.choice([0.15, 0.3, 0.5, 0.8])
    faults = [fault for fault in Fault if chance.random() < share]
    if not faults or chance.random() < 0.35:  # some bugs need one kind again and again, with nothing else in its way
        faults = chance.sample(list(Fault), chance.randint(1, 3))
    # Never one small append at a time: such a group falls behind its clients and is right to.
    window = chance.choice([(1, 64), (100, 4), (100, 64), (1 << 20, 1), (1 << 20, 64)])
    plan = Plan(
        faults=tuple(faults),
        fault_interval_ticks=chance.choice([6, 15, 30, 60, 120]),
        fault_duration_ticks=chance.choice([4, 12, 30, 80]),
        leader_bias=chance.choice([0.0, 0.3, 0.6]),
        clocks=chance.choice([(TICK,), (TICK,), (TICK * 4 // 5, TICK, TICK * 5 // 4), (TICK // 2, TICK, TICK * 2)]),
        quality=_draw_quality(chance),
        one_file=chance.random() < 0.5,
        sync_min=chance.choice([1, 5]),
        sync_max=chance.choice([5, 10, 40, 2 * TICK]),
        batch_delay=chance.choice([0, 0, 2, 20]),
        apply_lag=chance.choice([0, 0, 20, 3 * TICK]),
        compact_after=chance.choice([8, 24, 100]),
        snapshot_ticks=chance.choice([3, 6, 20]),
        clients=chance.choice([2, 3, 5, 12]),
        think_ticks=chance.choice([0.1, 0.5, 2.0]),
        read_share=chance.choice([0.2, 0.5]),
        read_anywhere=chance.choice([0.0, 0.5]),
        client_timeout_ticks=chance.choice([6, 12, 40]),
        heartbeat_ticks=chance.choice([1, 2]),
        suspect_ticks=chance.choice([3, 6]),
        election_ticks=chance.choice([8, 12, 20]),
        max_append_bytes=window[0],
        max_inflight_appends=window[1],
        max_uncommitted_entries=chance.choice([4, 64, 16_384]),
        witness_compact_entries=chance.choice([1, 8, 64]),
        heal_all=chance.random() < 0.3,
    )
    return replace(plan, faults=tuple(fault for fault in plan.faults if fault not in without))
