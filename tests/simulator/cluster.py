"""The group under test: members, links, clients, the operator who replaces members, and the checker that sees all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from blockyard.metaserver.raft import (
    BaseRecord,
    DurableState,
    Entry,
    EntryKind,
    MemberId,
    MemberKind,
    Membership,
    Message,
    Role,
)

from tests.checkers.linearizability import Operation
from tests.simulator.client import Client
from tests.simulator.member import Member
from tests.simulator.network import Network
from tests.simulator.plan import Plan
from tests.simulator.replacement import Operator
from tests.simulator.state_machine import Command, decode
from tests.simulator.trace_check import LoggedEntry, TraceChecker, require
from tests.simulator.world import TICK, World

FIRST_DATA = (MemberId(1), MemberId(2))
FIRST_WITNESS = MemberId(3)


def _command_of(entry: LoggedEntry) -> Command | None:
    return decode(entry.data) if entry.kind == EntryKind.COMMAND else None


class Cluster:
    """Two data members, 1 and 2, and the witness 3; replaced members get the next ids."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.plan = world, plan
        self.membership = Membership.of(FIRST_DATA, FIRST_WITNESS)  # the newest committed one
        durable = DurableState.bootstrap(self.membership)
        self.first_index = durable.base.index + 1
        self.checker = TraceChecker(self.first_index, _command_of)
        self.network = Network(world, plan.quality)
        self.members: dict[int, Member] = {}
        self.last_value = 0
        self.history: list[Operation[Any, Any]] = []  # what clients saw, for the linearizability checker
        self.longest_wait = 0
        self.on_switch: Callable[[Member, int], None] | None = None  # a fault that waits for a snapshot
        self.on_election: Callable[[Member], None] | None = None  # one that waits for a leader
        self.least_think_ticks = 0.0
        self.restart_delay_ticks = 0.0  # set by who injects faults
        for id in self.membership.ids:
            self.add_member(id, id == FIRST_WITNESS, durable)
        self.operator = Operator(self)
        self.clients = [Client(self, number + 1) for number in range(plan.clients)]

    def start(self) -> None:
        for member in list(self.members.values()):
            member.start()
        for client in self.clients:
            self.world.after(1 + self.world.chance.randrange(4 * TICK), client.begin)

    def add_member(self, id: MemberId, witness: bool, durable: DurableState) -> Member:
        member = Member(self, id, witness, durable)
        self.members[id] = member
        return member

    def send(self, sender: Member, message: Message) -> None:
        target = self.members.get(message.to)
        require(target is not None, "a message for member {}, which never was: {}", message.to, message)
        assert target is not None
        self.network.send(sender.id, message.to, target.deliver, message)

    # -- who is what

    def leader(self) -> Member | None:
        """Return the living leader of the highest term."""
        leaders = [m for m in self.members.values() if m.core is not None and m.core.role is Role.LEADER]
        return max(leaders, key=lambda m: m.core.term if m.core is not None else 0, default=None)

    def living(self) -> list[Member]:
        return [member for member in self.members.values() if member.core is not None]

    def data_members(self) -> list[Member]:
        return [self.members[id] for id in self.membership.data_members]

    @property
    def disk_may_be_lost(self) -> bool:
        """Two copies survive the loss of one: no other loss or change of members may be under way."""
        kinds = sorted(member.kind for member in self.membership.members)
        return (
            not self.operator.replacing
            and kinds == [MemberKind.DATA, MemberKind.DATA, MemberKind.WITNESS]
            and all(not self.members[id].lost and not self.members[id].disk.rotten for id in self.membership.ids)
            and all(
                member.core.membership == self.membership
                for member in self.living()
                if member.core is not None and member.id in self.membership.ids and member.core.role is Role.LEADER
            )
        )

    # -- what members report

    def entries_committed(self, member: Member, entries: Sequence[Entry]) -> None:
        checker = self.checker
        assert member.core is not None
        if not checker.entries_committed(member.id, entries, member.core.term):
            return
        last = entries[-1]
        for entry in entries:
            if entry.kind == EntryKind.MEMBERSHIP:
                self.membership = Membership.decode(entry.data)
                self.world.note("membership", *self.membership.ids)
                self.operator.membership_changed()
        self.world.note("committed", member.id, last.index, last.term)
        holders = [id for id, other in self.members.items() if other.disk.holds(last.index, last.term)]
        quorums = [self.membership.voters]
        for other in self.living():
            assert other.core is not None
            quorums.append(other.core.membership.voters)
            if other.core.role is Role.LEADER:
                checker.leader_holds_commits(other.id, other.core.term, other.disk.holds)
        checker.durable_on(last, holders, quorums)

    def leader_seen(self, member: Member) -> None:
        core = member.core
        assert core is not None
        self.checker.became_leader(member.id, core.term, member.disk.holds)
        if self.on_election is not None:
            self.on_election(member)

    def witness_begins_at(self, witness: Member, base: BaseRecord) -> None:
        """Rule 3: what the witness drops, every data member has.

        Of three data members the one that is being removed does not count: the leader's floor leaves it out from the
        moment it has appended the removal, and two durable copies stay whether or not that is ever committed. What
        members were given of what is committed may be behind the base record: then its membership is the newer one.
        """
        known = base.index < self.checker.first_index + len(self.checker.committed)
        data = (self.membership if known else base.membership).data_members
        if len(data) == 3:
            data = tuple(id for id in data if id != self.operator.old)
        for id in data:
            require(
                self.members[id].disk.holds(base.index, base.term),
                "witness {} begins at {}, data member {} ends at {}",
                witness.id, base.index, id, self.members[id].disk.last_index(),
            )  # fmt: skip

    def disk_lost(self, member: Member) -> None:
        """Nothing of this member comes back; the operator brings a new one in its place."""
        member.lost = True
        self.world.note("disk lost", member.id)
        if member.id in self.membership.ids:
            self.operator.replace(member.id)

    def restart_later(self, member: Member) -> None:
        delay = 1 + int(self.world.chance.expovariate(1 / max(self.restart_delay_ticks, 0.01)) * TICK)
        self.world.after(delay, self.restart, member)

    def restart(self, member: Member) -> None:
        if member.core is None and not member.lost:
            member.start()
