"""The nemesis: meets one member or the whole group with a fault, and undoes it after a while.

Each fault that took place is counted, and so is its cell (kind × role of the member × phase of the group), because a
long run that never cut a witness' power while a data member lagged has not tested that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace

from blockyard.metaserver.raft import MemberKind, Refused, Role

from tests.simulator.cluster import Cluster
from tests.simulator.member import Member
from tests.simulator.plan import GROUP_FAULTS, MEMBER_FAULTS, Fault
from tests.simulator.world import TICK

ROLES = ("leader", "follower", "witness")
PHASES = ("in step", "lagging", "leaderless", "changing")
LAGGING_ENTRIES = 3  # a data member this far behind the commit index lags

Cell = tuple[Fault, str, str]

LONG_RUN_CELLS: frozenset[Cell] = frozenset(
    [(fault, role, phase) for fault in MEMBER_FAULTS for role in ROLES for phase in PHASES]
    + [(fault, "group", phase) for fault in GROUP_FAULTS for phase in PHASES]
) - frozenset(
    # What cannot be: nobody leads a group without a leader; leadership is moved by a leader, to a data member that
    # does not have it; disks are lost and members replaced one at a time; who needs a snapshot lags or joins.
    [(fault, "leader", "leaderless") for fault in MEMBER_FAULTS]
    + [(Fault.CUT_AT_SNAPSHOT, role, phase) for role in ("leader", "witness") for phase in PHASES]
    + [(Fault.CUT_AT_SNAPSHOT, "follower", "in step")]
    + [(Fault.LEADERS_FALL, role, phase) for role in ("follower", "witness") for phase in PHASES]
    + [
        (Fault.TRANSFER, role, phase)
        for role in ROLES
        for phase in PHASES
        if role != "follower" or phase == "leaderless"
    ]
    + [(fault, role, "changing") for fault in (Fault.DISK_LOST, Fault.DISK_ROTS, Fault.REPLACE) for role in ROLES]
)


class Nemesis:
    """Draws and injects; `stop` ends the drawing, `heal` undoes everything that can be undone."""

    def __init__(self, cluster: Cluster, without: Collection[Fault] = ()) -> None:
        self.cluster, self.world = cluster, cluster.world
        self.without = frozenset(without)
        self.kinds = [fault for fault in Fault if fault in cluster.plan.faults]
        self.happened: Counter[Fault] = Counter()
        self.cells: Counter[Cell] = Counter()
        self.active = True
        self.leaders_to_fall = 0
        cluster.restart_delay_ticks = cluster.plan.fault_duration_ticks

    def start(self) -> None:
        """Begin early: a short run is to meet a fault as well."""
        self.world.after(self._wait(self.cluster.plan.fault_interval_ticks / 4), self._turn)

    def _wait(self, mean_ticks: float) -> int:
        return 1 + int(self.world.chance.expovariate(1 / mean_ticks) * TICK)

    def _turn(self) -> None:
        if not self.active or not self.kinds:
            return
        self.world.after(self._wait(self.cluster.plan.fault_interval_ticks), self._turn)
        chance = self.world.chance
        fault = chance.choice(self.kinds)
        member = self.cluster.leader() if chance.random() < self.cluster.plan.leader_bias else None
        if member is None or member.id not in self.cluster.membership.ids:
            member = self.cluster.members[chance.choice(self.cluster.membership.ids)]
        self.inject(fault, member)

    # -- what is going on

    def role_of(self, member: Member) -> str:
        if member.witness:
            return "witness"
        return "leader" if member.core is not None and member.core.role is Role.LEADER else "follower"

    def phase(self) -> str:
        cluster = self.cluster
        leader = cluster.leader()
        if leader is None or leader.core is None:
            return "leaderless"
        if cluster.operator.replacing:
            return "changing"
        commit = cluster.checker.reference_applied
        if any(data.disk.last_index() <= commit - LAGGING_ENTRIES for data in cluster.data_members()):
            return "lagging"
        return "in step"

    # -- injecting

    def inject(self, fault: Fault, member: Member) -> bool:
        """Try the fault on this member (group faults ignore it); return whether it took place."""
        if fault in self.without:
            return False
        cell = self._cell(fault, member)
        if not _INJECTIONS[fault](self, member):
            return False
        self._count(cell, member)
        return True

    def _cell(self, fault: Fault, member: Member) -> Cell:
        return fault, "group" if fault in GROUP_FAULTS else self.role_of(member), self.phase()

    def _count(self, cell: Cell, member: Member) -> None:
        fault = cell[0]
        self.happened[fault] += 1
        self.cells[cell] += 1
        self.world.note(f"fault {fault.name.lower()}", fault, member.id)

    def _later(self, undo: Callable[..., None], *arguments: object) -> None:
        self.world.after(self._wait(self.cluster.plan.fault_duration_ticks), undo, *arguments)

    def _stop(self, member: Member, power_lost: bool, tear: bool = False) -> bool:
        if member.core is None:
            return False
        member.stop(power_lost, tear)
        self.cluster.restart_later(member)
        return True

    def _kill(self, member: Member) -> bool:
        return self._stop(member, power_lost=False)

    def _cut_power(self, member: Member) -> bool:
        return self._stop(member, power_lost=True)

    def _tear(self, member: Member) -> bool:
        """Wait for the next log write, and cut the power while it is under way."""
        member.on_write = self._cut_during_write
        return False  # counted when it strikes

    def _cut_during_write(self, member: Member, duration: int) -> None:
        member.on_write = None
        self._strike_within(duration, Fault.TORN_WRITE, member)

    def _cut_at_snapshot(self, _: Member) -> bool:
        self.cluster.on_switch = self._cut_during_switch
        return False

    def _cut_during_switch(self, member: Member, duration: int) -> None:
        self.cluster.on_switch = None
        self._strike_within(duration, Fault.CUT_AT_SNAPSHOT, member)

    def _leaders_fall(self, _: Member) -> bool:
        self.leaders_to_fall = self.world.chance.randint(1, 4)
        self.cluster.on_election = self._leader_elected
        return False

    def _leader_elected(self, leader: Member) -> None:
        self.leaders_to_fall -= 1
        if self.leaders_to_fall == 0:
            self.cluster.on_election = None
        reign = self.world.chance.choice([TICK, 4 * TICK, (self.cluster.plan.suspect_ticks + 4) * TICK])
        self._strike_within(reign, Fault.LEADERS_FALL, leader)

    def _strike_within(self, duration: int, fault: Fault, member: Member) -> None:
        self.world.after(self.world.chance.randrange(duration + 1), self._strike, fault, member, member.epoch)

    def _strike(self, fault: Fault, member: Member, epoch: int) -> None:
        if self.active and member.epoch == epoch:
            cell = self._cell(fault, member)
            if self._stop(member, power_lost=True, tear=fault is Fault.TORN_WRITE):
                self._count(cell, member)

    def _cut_power_of_all(self, _: Member) -> bool:
        stopped = [self._cut_power(member) for member in self.cluster.living()]
        return any(stopped)

    def _fail_sync(self, member: Member) -> bool:
        if member.core is None or member.fail_next_sync:
            return False
        member.fail_next_sync = True
        return True

    def _lose_disk(self, member: Member) -> bool:
        if not self.cluster.disk_may_be_lost:
            return False
        if member.core is not None:
            member.stop(power_lost=True)
        self.cluster.disk_lost(member)
        return True

    def _rot_disk(self, member: Member) -> bool:
        if not self.cluster.disk_may_be_lost:
            return False
        member.disk.rotten = True  # found at its next start
        return self._kill(member) or True

    def _slow_disk(self, member: Member) -> bool:
        return self._set_sync_factor(member, 20)

    def _hang_disk(self, member: Member) -> bool:
        return self._set_sync_factor(member, 2_000)

    def _set_sync_factor(self, member: Member, factor: int) -> bool:
        if member.sync_factor != 1 or member.core is None:
            return False
        member.sync_factor = factor
        self._later(self._mend_disk, member)
        return True

    def _mend_disk(self, member: Member) -> None:
        member.sync_factor = 1

    def _pause(self, member: Member) -> bool:
        if member.core is None or member.paused:
            return False
        member.pause()
        self._later(member.resume)
        return True

    def _cut_links(self, links: list[tuple[int, int]]) -> bool:
        for source, target in links:
            self.cluster.network.cut(source, target)
        self._later(self._mend_links, links)
        return True

    def _mend_links(self, links: list[tuple[int, int]]) -> None:
        for source, target in links:
            self.cluster.network.mend(source, target)

    def _others(self, member: Member) -> list[int]:
        clients = [-client.id for client in self.cluster.clients]
        with_clients = clients if self.world.chance.random() < 0.5 else []
        return [id for id in self.cluster.members if id != member.id] + with_clients

    def _isolate(self, member: Member) -> bool:
        others = self._others(member)
        return self._cut_links([(member.id, other) for other in others] + [(other, member.id) for other in others])

    def _deafen(self, member: Member) -> bool:
        return self._cut_links([(other, member.id) for other in self._others(member)])

    def _mute(self, member: Member) -> bool:
        return self._cut_links([(member.id, other) for other in self._others(member)])

    def _cut_pair(self, member: Member) -> bool:
        other = self._one_other(member)
        return self._cut_links([(member.id, other), (other, member.id)])

    def _cut_one_way(self, member: Member) -> bool:
        return self._cut_links([(member.id, self._one_other(member))])

    def _one_other(self, member: Member) -> int:
        return self.world.chance.choice([id for id in self.cluster.membership.ids if id != member.id])

    def _storm(self, _: Member) -> bool:
        network, calm = self.cluster.network, self.cluster.plan.quality
        if network.quality is not calm:
            return False
        chance = self.world.chance
        network.quality = replace(
            calm,
            loss=chance.choice([0.1, 0.3, 0.6]),
            duplication=chance.choice([0.0, 0.3]),
            reordering=chance.random() < 0.7,
            delay_max=chance.choice([10, 2 * TICK, 10 * TICK]),
        )
        self._later(self._calm)
        return True

    def _calm(self) -> None:
        if self.active:
            self.cluster.network.quality = self.cluster.plan.quality

    def _skew(self, member: Member) -> bool:
        member.tick_period = self.world.chance.choice([TICK // 2, TICK * 4 // 5, TICK * 5 // 4, TICK * 2])
        self._later(self._set_clock_right, member)
        return True

    def _set_clock_right(self, member: Member) -> None:
        member.tick_period = self.cluster.plan.clocks[0]

    def _transfer(self, member: Member) -> bool:
        leader = self.cluster.leader()
        if leader is None or leader is member or member.witness or leader.core is None or leader.paused:
            return False
        try:
            leader.core.transfer_leadership(member.id)
        except Refused:
            return False
        leader.pump()
        return True

    def _replace(self, member: Member) -> bool:
        if not self.cluster.disk_may_be_lost or self.cluster.membership.kind(member.id) is MemberKind.LEARNER:
            return False
        self.cluster.operator.replace(member.id)
        return True

    # -- healing

    def heal(self, stays_dead: Member | None) -> None:
        """End every fault; start what can start, but for one member that stays dead."""
        self.active = False
        self._calm()
        network = self.cluster.network
        network.quality = replace(
            network.quality, loss=0.0, spike=0.0, delay_max=min(network.quality.delay_max, TICK // 2)
        )
        network.mend_all()
        self.cluster.on_switch = self.cluster.on_election = None
        for member in list(self.cluster.members.values()):
            member.sync_factor, member.tick_period = 1, TICK
            member.fail_next_sync, member.on_write = False, None
            if member.core is not None and member.disk.busy_until > self.world.now + 4 * TICK:
                member.stop(power_lost=False)  # a sync hangs in it; this is what an operator would do
            if member is stays_dead:
                member.lost = True
                if member.core is not None:
                    member.stop(power_lost=True)
                self.world.note("stays dead", member.id)
                continue
            member.resume()
            self.cluster.restart(member)


_INJECTIONS: dict[Fault, Callable[[Nemesis, Member], bool]] = {
    Fault.KILL: Nemesis._kill,
    Fault.POWER_CUT: Nemesis._cut_power,
    Fault.TORN_WRITE: Nemesis._tear,
    Fault.POWER_CUT_ALL: Nemesis._cut_power_of_all,
    Fault.FSYNC_FAILS: Nemesis._fail_sync,
    Fault.DISK_LOST: Nemesis._lose_disk,
    Fault.DISK_ROTS: Nemesis._rot_disk,
    Fault.SLOW_DISK: Nemesis._slow_disk,
    Fault.HUNG_DISK: Nemesis._hang_disk,
    Fault.PAUSE: Nemesis._pause,
    Fault.ISOLATE: Nemesis._isolate,
    Fault.DEAF: Nemesis._deafen,
    Fault.MUTE: Nemesis._mute,
    Fault.CUT_PAIR: Nemesis._cut_pair,
    Fault.CUT_ONE_WAY: Nemesis._cut_one_way,
    Fault.STORM: Nemesis._storm,
    Fault.CLOCK_SKEW: Nemesis._skew,
    Fault.TRANSFER: Nemesis._transfer,
    Fault.REPLACE: Nemesis._replace,
    Fault.CUT_AT_SNAPSHOT: Nemesis._cut_at_snapshot,
    Fault.LEADERS_FALL: Nemesis._leaders_fall,
}
