"""The table of single faults: {leader, follower, witness} x five faults x {follower in step, lagging}, with outcomes.

What must hold in every cell: nothing acknowledged is lost, at most one leader in a term, members agree after healing.
The outcome says whether the group serves *during* the fault, and who then leads. "Lagging" means: the follower was
away, the leader and the witness committed without it, and it is back, with nothing delivered to it yet. A power cut is
a crash here, since everything that is not persisted is lost in both; what a disk tears is the simulator's matter.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.metaserver.raft.harness import Group

LEADER, FOLLOWER, WITNESS = 1, 2, 3
SERVES = True

# (who, fault, follower lags) -> (serves during the fault, who leads then)
OUTCOMES: dict[tuple[int, str, bool], tuple[bool, int | None]] = {
    (LEADER, "crash", False): (SERVES, FOLLOWER),
    (LEADER, "crash", True): (SERVES, FOLLOWER),  # the witness leads first and hands over
    (LEADER, "power cut", False): (SERVES, FOLLOWER),
    (LEADER, "power cut", True): (SERVES, FOLLOWER),
    (LEADER, "disk loss", False): (SERVES, FOLLOWER),  # it stays away: its old id is not allowed back
    (LEADER, "disk loss", True): (SERVES, FOLLOWER),
    (LEADER, "slow", False): (SERVES, FOLLOWER),  # it notices that its own disk hangs
    (LEADER, "slow", True): (SERVES, FOLLOWER),
    (LEADER, "isolated one way", False): (SERVES, FOLLOWER),  # it cannot send
    (LEADER, "isolated one way", True): (SERVES, FOLLOWER),
    (FOLLOWER, "crash", False): (SERVES, LEADER),
    (FOLLOWER, "crash", True): (SERVES, LEADER),
    (FOLLOWER, "power cut", False): (SERVES, LEADER),
    (FOLLOWER, "power cut", True): (SERVES, LEADER),
    (FOLLOWER, "disk loss", False): (SERVES, LEADER),
    (FOLLOWER, "disk loss", True): (SERVES, LEADER),
    (FOLLOWER, "slow", False): (SERVES, LEADER),
    (FOLLOWER, "slow", True): (SERVES, LEADER),
    (FOLLOWER, "isolated one way", False): (SERVES, LEADER),
    (FOLLOWER, "isolated one way", True): (SERVES, LEADER),
    (WITNESS, "crash", False): (SERVES, LEADER),
    (WITNESS, "crash", True): (SERVES, LEADER),  # the follower catches up from the leader
    (WITNESS, "power cut", False): (SERVES, LEADER),
    (WITNESS, "power cut", True): (SERVES, LEADER),
    (WITNESS, "disk loss", False): (SERVES, LEADER),
    (WITNESS, "disk loss", True): (SERVES, LEADER),
    (WITNESS, "slow", False): (SERVES, LEADER),
    (WITNESS, "slow", True): (SERVES, LEADER),
    (WITNESS, "isolated one way", False): (SERVES, LEADER),
    (WITNESS, "isolated one way", True): (SERVES, LEADER),
}


def group_before_the_fault(lagging: bool) -> Group:
    group = Group()
    group.elect(LEADER)
    group.tick(4)
    group.propose(LEADER, b"a")
    if lagging:
        group.crash(FOLLOWER)
        group.tick(8)
        group.propose(LEADER, b"b", b"c")
        group.restart(FOLLOWER)
    assert group.core(LEADER).commit == group.core(LEADER).log.last_index
    return group


def strike(group: Group, who: int, fault: str) -> None:
    if fault == "slow":
        group.members[who].holds_writes = True
        if who == LEADER:
            group.core(LEADER).propose(b"in the slow write")
    elif fault == "isolated one way":
        group.cut |= {(who, other) for other in group.members if other != who}
    else:
        group.crash(who)


def mend(group: Group, who: int, fault: str) -> None:
    """End the fault; a lost disk is not mended, its member is gone."""
    group.heal()
    if fault == "slow":
        group.release(who)
    elif fault in ("crash", "power cut"):
        group.restart(who)


def serves(group: Group) -> bool:
    leader = group.leader()
    if leader in (None, WITNESS):
        return False
    index = group.propose(leader or 0, b"during")
    group.tick(12)
    return group.leader() == leader and group.core(leader or 0).commit >= index


def commands(group: Group, id: int) -> list[bytes]:
    return group.members[id].disk.commands


@pytest.mark.parametrize(("who", "fault", "lagging"), OUTCOMES)
def test_the_outcome_of_a_single_fault_is_as_the_table_says(who: int, fault: str, lagging: bool) -> None:
    group = group_before_the_fault(lagging)
    acknowledged = list(commands(group, LEADER))
    strike(group, who, fault)
    group.tick(250)
    expected: tuple[Any, Any] = OUTCOMES[who, fault, lagging]
    assert (serves(group), group.leader()) == expected, group.describe()
    during = commands(group, group.leader() or 0)
    assert during[: len(acknowledged)] == acknowledged
    assert b"during" in during
    mend(group, who, fault)
    group.tick(120)
    left = [id for id in (LEADER, FOLLOWER) if group.members[id].alive]
    assert all(commands(group, id)[: len(during)] == during for id in left), group.describe()
    if lagging and who == LEADER and fault != "slow":  # a slow leader still sends the follower what it lacks
        assert WITNESS in group.leaders.values(), "only the witness had the newest entries"


@pytest.mark.parametrize("pair", [(LEADER, FOLLOWER), (LEADER, WITNESS), (FOLLOWER, WITNESS)])
def test_two_faults_at_once_stall_the_group_and_lose_nothing(pair: tuple[int, int]) -> None:
    group = group_before_the_fault(lagging=True)
    group.tick(4)
    acknowledged = list(commands(group, LEADER))
    for id in pair:
        group.crash(id)
    group.tick(200)
    leader = group.leader()
    assert leader is None, "one of three voters serves nobody"
    for id in pair:
        group.restart(id)
    group.until(lambda: group.leader() in (LEADER, FOLLOWER))
    group.tick(20)
    assert all(commands(group, id) == acknowledged for id in (LEADER, FOLLOWER))


def test_the_table_has_all_thirty_cells() -> None:
    assert len(OUTCOMES) == 30
