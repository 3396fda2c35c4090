"""Links that are cut between living members (RELIABILITY.md, rows 5 to 7): each member in a network namespace."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import RequestId
from blockyard.proto.raft_pb2 import ROLE_LEADER

from tests.support.group_client import ME, ROOT, GroupClient
from tests.support.load import Load
from tests.support.meta_cluster import MetaCluster, until
from tests.support.networks import Network

SECONDS = 8.0
"""What "within seconds" is held to on a loaded machine; the bench has the figures."""
ELECTIONS = 6
"""More terms than this for one partition would be an election storm."""


@pytest.fixture
def group(make: Any, network: Network) -> MetaCluster:
    cluster: MetaCluster = make(network=network)
    cluster.format()
    cluster.start()
    return cluster


def cut_leader_off(network: Network, leader: int, other: int) -> None:
    network.cut_both(leader, [other, 3])


def leader_cannot_send(network: Network, leader: int, other: int) -> None:
    for each in (other, 3):
        network.cut(leader, each)


def leader_cannot_hear(network: Network, leader: int, other: int) -> None:
    for each in (other, 3):
        network.cut(each, leader)


def follower_cannot_hear(network: Network, leader: int, other: int) -> None:
    for each in (leader, 3):
        network.cut(each, other)


def cut_data_members_apart(network: Network, leader: int, other: int) -> None:
    network.cut_both(leader, [other])


@pytest.mark.parametrize(
    ("cut", "leader_survives"),
    [
        (cut_leader_off, False),
        (leader_cannot_send, False),
        (leader_cannot_hear, False),
        (follower_cannot_hear, True),
        (cut_data_members_apart, True),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_one_side_serves_and_the_other_commits_nothing(
    group: MetaCluster, network: Network, cut: Callable[[Network, int, int], None], leader_survives: bool
) -> None:
    leader = await group.leader()
    other = await group.follower()
    async with GroupClient(group.addresses, "a") as client, Load([client]) as load:
        before = await group.status(leader)
        assert before is not None
        cut(network, leader, other)
        cut_at = time.monotonic()
        await load.more(100, 25)
        served_after_s = time.monotonic() - cut_at
        assert load.longest_gap_s < SECONDS
        serving = leader if leader_survives else other
        assert await one_leader(group) == serving
        assert await refuses(group, client, leader if serving == other else other)
        term = (await group.answers(serving)).term
        assert term - before.term <= ELECTIONS, "an election storm"
        await load.more(100, 25)
        assert (await group.answers(serving)).term - term <= 1, "the term goes on rising while one side serves"
        network.heal()
        await load.more(100, 25)
        await group.in_step_enough(leader if serving == other else other)
        assert (await group.answers(serving)).term - before.term <= ELECTIONS + 2
        await load.stop()
        await load.verify(group)
    print(f"{cut.__name__}: longest gap {load.longest_gap_s:.2f} s, 100 more after {served_after_s:.2f} s")


async def one_leader(group: MetaCluster) -> int:
    """Wait until one data member only believes that it leads; return it."""

    async def one() -> int | None:
        replies = await asyncio.gather(*(group.status(member.id) for member in group.data))
        leading = [reply.member for reply in replies if reply is not None and reply.role == ROLE_LEADER]
        return leading[0] if len(leading) == 1 else None

    leader = await until(one, "one member leads")
    assert leader is not None
    return leader


async def refuses(group: MetaCluster, client: GroupClient, number: int) -> bool:
    """Return whether a member that is cut off takes no change and answers no read."""
    stub = client.stub(group.members[number].address)
    request = pb.CreateRequest(caller=ME, parent=ROOT, name=b"split", mode=0o644)
    request.request.CopyFrom(RequestId(session=client.session, sequence=10**6, answered_below=1))
    with pytest.raises(errors.BlockyardError) as change:
        await stub.Create(request, timeout=2)
    with pytest.raises(errors.BlockyardError) as read:
        await stub.Lookup(pb.LookupRequest(caller=ME, parent=ROOT, name=b"load-1"), timeout=2)
    kinds = (errors.NotLeader, errors.LeadershipLost, errors.DeadlineExceeded, errors.Unavailable)
    return isinstance(change.value, kinds) and isinstance(read.value, kinds)
