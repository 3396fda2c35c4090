"""What one fault does to the pair and its witness: every role, every fault, follower in step or lagging.

The table below is the promise. In every cell: no acknowledged write is lost, no read is stale, and once the fault is
over (a lost disk: once the member is replaced) the members agree row by row. The group starts as leader, follower and
witness; a lagging follower has been cut off from the leader while others wrote, and is reachable again at the moment
of the fault. Ticks are from the fault to the fifth acknowledgement of a write that was committed after it, client
time-outs of 12 ticks included; heartbeats come every 2 ticks, suspicion after 6, elections after 12 to 24 without a
leader, three times that for the witness.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.simulator.cluster import FIRST_WITNESS
from tests.simulator.faults import Nemesis
from tests.simulator.member import Member
from tests.simulator.plan import Plan
from tests.simulator.run import Run
from tests.simulator.trace_check import require
from tests.simulator.world import TICK

SEEDS = range(3)
FAULT_TICKS = 400  # how long a fault lasts: longer than any answer may take
LAG_ENTRIES = 20
ACKNOWLEDGEMENTS = 5
PLAN = Plan(clients=4, think_ticks=1.0, wrong_door=0.0, give_up=0.0, heal_all=True, compact_after=1_000)


class Outcome(NamedTuple):
    serves: str  # who leads when service is back
    within_ticks: int


LEADER_SERVES_ON = Outcome("leader", 12)
LEADER_ENGAGES_THE_WITNESS = Outcome("leader", 20)
FOLLOWER_TAKES_OVER = Outcome("follower", 70)
WITNESS_HANDS_ITS_TAIL_TO_THE_FOLLOWER = Outcome("follower", 110)

TABLE: dict[tuple[str, str, str], Outcome] = {
    # role, fault, follower → who serves, within how many ticks
    ("leader", "crash", "in step"): FOLLOWER_TAKES_OVER,
    ("leader", "crash", "lagging"): WITNESS_HANDS_ITS_TAIL_TO_THE_FOLLOWER,
    ("leader", "power cut", "in step"): FOLLOWER_TAKES_OVER,
    ("leader", "power cut", "lagging"): WITNESS_HANDS_ITS_TAIL_TO_THE_FOLLOWER,
    ("leader", "disk loss", "in step"): FOLLOWER_TAKES_OVER,
    ("leader", "disk loss", "lagging"): WITNESS_HANDS_ITS_TAIL_TO_THE_FOLLOWER,
    ("leader", "slow", "in step"): LEADER_ENGAGES_THE_WITNESS,
    ("leader", "slow", "lagging"): LEADER_ENGAGES_THE_WITNESS,
    ("leader", "isolated one way", "in step"): FOLLOWER_TAKES_OVER,
    ("leader", "isolated one way", "lagging"): WITNESS_HANDS_ITS_TAIL_TO_THE_FOLLOWER,
    ("follower", "crash", "in step"): LEADER_ENGAGES_THE_WITNESS,
    ("follower", "crash", "lagging"): LEADER_SERVES_ON,
    ("follower", "power cut", "in step"): LEADER_ENGAGES_THE_WITNESS,
    ("follower", "power cut", "lagging"): LEADER_SERVES_ON,
    ("follower", "disk loss", "in step"): LEADER_ENGAGES_THE_WITNESS,
    ("follower", "disk loss", "lagging"): LEADER_SERVES_ON,
    ("follower", "slow", "in step"): LEADER_ENGAGES_THE_WITNESS,
    ("follower", "slow", "lagging"): LEADER_SERVES_ON,
    ("follower", "isolated one way", "in step"): LEADER_ENGAGES_THE_WITNESS,
    ("follower", "isolated one way", "lagging"): LEADER_SERVES_ON,
    ("witness", "crash", "in step"): LEADER_SERVES_ON,
    ("witness", "crash", "lagging"): LEADER_SERVES_ON,
    ("witness", "power cut", "in step"): LEADER_SERVES_ON,
    ("witness", "power cut", "lagging"): LEADER_SERVES_ON,
    ("witness", "disk loss", "in step"): LEADER_SERVES_ON,
    ("witness", "disk loss", "lagging"): LEADER_SERVES_ON,
    ("witness", "slow", "in step"): LEADER_SERVES_ON,
    ("witness", "slow", "lagging"): LEADER_SERVES_ON,
    ("witness", "isolated one way", "in step"): LEADER_SERVES_ON,
    ("witness", "isolated one way", "lagging"): LEADER_SERVES_ON,
}


class Scene:
    """A healthy group with writing clients, brought to the moment before the fault."""

    def __init__(self, seed: int, lagging: bool) -> None:
        self.run = Run(seed, plan=PLAN)
        self.world, self.cluster = self.run.world, self.run.cluster
        self.cluster.start()
        checker = self.cluster.checker
        self.wait(
            lambda: len(checker.acknowledged) >= 10 and self.cluster.leader() is not None, "no service at the start"
        )
        leader = self.cluster.leader()
        assert leader is not None
        self.leader = leader
        self.witness = self.cluster.members[FIRST_WITNESS]
        self.follower = next(m for m in self.cluster.data_members() if m is not leader)
        self.settle()
        if lagging:
            self._make_follower_lag()

    def wait(self, done: object, otherwise: str, ticks: int = 2_000) -> None:
        assert callable(done)
        require(self.world.run_until(done, self.world.now + ticks * TICK, every=TICK // 10), otherwise)

    def settle(self) -> None:
        """Let the witness be parked again after the election."""
        self.world.run_until(lambda: False, self.world.now + 30 * TICK)

    def _make_follower_lag(self) -> None:
        network, checker = self.cluster.network, self.cluster.checker
        links = [(self.leader.id, self.follower.id), (self.follower.id, self.leader.id)]
        for link in links:
            network.cut(*link)
        goal = checker.reference_applied + LAG_ENTRIES
        self.wait(lambda: checker.reference_applied >= goal, "the witness does not stand in for the follower")
        require(self.follower.disk.last_index() <= goal - LAG_ENTRIES // 2, "the follower does not lag")
        require(self.cluster.leader() is self.leader, "leadership moved while the follower was cut off")
        for link in links:
            network.mend(*link)

    def strike(self, member: Member, fault: str) -> None:
        ends = FAULT_TICKS * TICK
        if fault in ("crash", "power cut"):
            member.stop(power_lost=fault == "power cut", tear=True)
            self.world.after(ends, self.cluster.restart, member)
        elif fault == "disk loss":
            member.stop(power_lost=True)
            self.cluster.disk_lost(member)
        elif fault == "slow":
            member.sync_factor = 30  # a sync of a tenth of a tick now takes three ticks
        else:
            direction = fault.split()[-1]
            others = [id for id in self.cluster.members if id != member.id] + [-c.id for c in self.cluster.clients]
            for other in others:
                self.cluster.network.cut(*((member.id, other) if direction == "out" else (other, member.id)))

    def ticks_until_service(self) -> int:
        checker, struck = self.cluster.checker, self.world.now
        committed = checker.reference_applied

        def served() -> bool:
            return sum(answer.at_index > committed for answer in checker.acknowledged.values()) >= ACKNOWLEDGEMENTS

        self.wait(served, "no service after the fault")
        return (self.world.now - struck) // TICK

    def name_of_leader(self) -> str:
        leader = self.cluster.leader()
        return {self.leader: "leader", self.follower: "follower", self.witness: "witness"}.get(leader, "other")  # type: ignore[arg-type]

    def end(self) -> None:
        """End the fault; everybody who lives must agree, and have every acknowledged write."""
        self.world.run_until(lambda: False, self.world.now + FAULT_TICKS * TICK)
        self.run.nemesis = Nemesis(self.cluster)
        self.run.recover()
        require(len(self.cluster.membership.ids) == 3, "not replaced: {}", self.cluster.membership)


def play(role: str, fault: str, state: str, seed: int) -> tuple[str, int]:
    """Return who serves after the fault, and after how many ticks."""
    scene = Scene(seed, state == "lagging")
    member = {"leader": scene.leader, "follower": scene.follower, "witness": scene.witness}[role]
    scene.strike(member, fault)
    ticks = scene.ticks_until_service()
    serves = scene.name_of_leader()
    scene.end()
    return serves, ticks


@pytest.mark.parametrize(("role", "fault", "state"), TABLE, ids=[" × ".join(cell) for cell in TABLE])
def test_cell(role: str, fault: str, state: str) -> None:
    expected = TABLE[role, fault, state]
    variants = [f"{fault} in", f"{fault} out"] if fault == "isolated one way" else [fault]
    for variant in variants:
        for seed in SEEDS:
            serves, ticks = play(role, variant, state, seed)
            assert serves == expected.serves, f"seed {seed}, {variant}: the {serves} serves"
            assert ticks <= expected.within_ticks, f"seed {seed}, {variant}: service after {ticks} ticks"


def test_the_table_has_every_cell() -> None:
    roles, faults = ("leader", "follower", "witness"), ("crash", "power cut", "disk loss", "slow", "isolated one way")
    assert set(TABLE) == {(r, f, s) for r in roles for f in faults for s in ("in step", "lagging")}
    assert len(TABLE) == 30


def test_the_witness_leads_only_to_hand_its_tail_over() -> None:
    for state, witness_led in (("in step", False), ("lagging", True)):
        scene = Scene(1, state == "lagging")
        scene.strike(scene.leader, "disk loss")
        scene.ticks_until_service()
        assert (FIRST_WITNESS in scene.cluster.checker.leaders.values()) is witness_led
        scene.end()


@pytest.mark.parametrize("state", ["in step", "lagging"])
def test_a_leader_whose_disk_hangs_gives_way(state: str) -> None:
    """It still sends heartbeats, so nobody else would ever stand."""
    for seed in SEEDS:
        scene = Scene(seed, state == "lagging")
        scene.leader.sync_factor = 100_000
        assert scene.ticks_until_service() <= WITNESS_HANDS_ITS_TAIL_TO_THE_FOLLOWER.within_ticks
        scene.end()
