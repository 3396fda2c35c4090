"""Members that die at every point where a crash matters, on the leader and on the follower, and what is left then.

A point that storage alone can be brought to is killed again and again in `tests/metaserver/storage/test_kills.py`; here
it is the whole group that must have lost nothing.
"""

import asyncio
from typing import Any, cast

import pytest
from blockyard.proto import errors, failpoints
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.lane import AioChannel
from blockyard.proto.raft_pb2 import TakeSnapshotRequest, TransferRequest
from blockyard.proto.raft_pb2_grpc import MetaAdminStub

from tests.support.group_client import ROOT, GroupClient
from tests.support.load import Load
from tests.support.meta_cluster import MetaCluster, until

SMALL = {"raft": {"snapshot_after_entries": 100}}
WRITING = {
    "log.append.before": 12,
    "log.append.written": 12,
    "log.append.synced": 12,
    "state.apply.before": 12,
    "state.apply.written": 12,
    "state.flush.before": 1,
    "state.flush.after": 1,
    "log.compact.dropping": 1,
    "checkpoint.created": 1,
    "checkpoint.renamed": 1,
}
"""Points that every data member comes to while clients work, and at which visit it dies."""
STARTING = ("identity.written", "identity.renamed")
INSTALLING = (
    "snapshot.part.written",
    "snapshot.verified",
    "snapshot.staged",
    "snapshot.logged",
    "snapshot.switched",
)
ROLLING = ("log.roll.created",)


OWN = ("log.", "state.", "checkpoint.", "snapshot.", "identity.")
"""What the names of a metadata member's points begin with; the others are a storage node's."""


def test_every_failpoint_is_killed_at_here() -> None:
    own = sorted(name for name in failpoints.TABLE if name.startswith(OWN))
    assert sorted([*WRITING, *STARTING, *INSTALLING, *ROLLING]) == own


async def take_snapshot(group: MetaCluster, number: int) -> None:
    """Let a member make a checkpoint; it may die of it."""
    try:
        async with AioChannel(group.members[number].address) as channel:
            await cast(Any, MetaAdminStub(cast(Any, channel))).TakeSnapshot(TakeSnapshotRequest())
    except errors.BlockyardError:
        pass  # that it died is what is looked at


async def lead(group: MetaCluster, number: int) -> None:
    """Let a data member lead."""

    async def leads() -> bool:
        leader = await group.leader()
        if leader == number:
            return True
        try:
            async with AioChannel(group.members[leader].address) as channel:
                await cast(Any, MetaAdminStub(cast(Any, channel))).Transfer(TransferRequest(member=number))
        except errors.BlockyardError:
            pass  # not yet: it has to catch up first
        return False

    await until(leads, f"member {number} leads", 15)


async def die_and_return(group: MetaCluster, number: int, leading: bool, load: Load) -> None:
    """Let a member die at each point of a write, one after the other, as leader or as follower, and come back."""
    member = group.members[number]
    group.kill(number)
    for point, visit in WRITING.items():
        if leading:
            load.rest()  # or it would come to its point as a follower that catches up
            visit = 30 if visit > 1 else 2
        said = len(member.output())
        group.start(number, environment={failpoints.VARIABLE: f"{point}=kill@{visit}"})
        await group.answers(number)
        if leading:
            await lead(group, number)
            load.go_on()
        for _ in range(visit if point.startswith("checkpoint") else 0):
            await load.more(5)
            await take_snapshot(group, number)
        assert await group.ended(number) == -9, point
        roles = [line for line in member.output()[said:].splitlines() if "raft_role" in line]
        assert bool(roles and "role=leader" in roles[-1]) == leading, f"{point}: it died in the other role"
        await load.more(20)
    group.start(number)


@pytest.mark.parametrize("leading", [True, False], ids=["leader", "follower"])
async def test_a_member_that_dies_at_any_point_of_a_write_loses_nothing(make: Any, leading: bool) -> None:
    group: MetaCluster = make(settings=SMALL)
    group.format()
    group.start()
    await group.leader()
    async with GroupClient(group.addresses) as client, Load([client]) as load:
        await lead(group, 1 if leading else 2)
        await die_and_return(group, 1, leading, load)
        await load.stop()
        await load.verify(group)


async def test_a_member_that_dies_while_it_starts_or_takes_a_snapshot_comes_back(make: Any) -> None:
    group: MetaCluster = make(settings=SMALL)
    group.format()
    group.start()
    await group.leader()
    async with GroupClient(group.addresses) as client, Load([client]) as load:
        await lead(group, 2)
        for point in STARTING:
            group.kill(1)
            group.start(1, environment={failpoints.VARIABLE: f"{point}=kill"})
            assert await group.ended(1) == -9, point
        for point in INSTALLING:
            if group.members[1].running:
                group.kill(1)
            await compacted_past(group, 1, load)
            group.start(1, environment={failpoints.VARIABLE: f"{point}=kill"})
            assert await group.ended(1) == -9, point
        group.start(1)
        await group.in_step_enough(1)
        await load.stop()
        await load.verify(group)


async def compacted_past(group: MetaCluster, number: int, load: Load) -> None:
    """Go on until the leader's log begins after everything that a member, which is down, may have."""
    behind = await group.status(await group.leader())
    assert behind is not None

    async def past() -> bool:
        await load.more(50)
        status = await group.status(await group.leader())
        return status is not None and status.first_index > behind.last_index

    await until(past, f"the log begins after what member {number} has", 20)


async def test_a_member_that_dies_as_its_log_changes_segments_comes_back(make: Any) -> None:
    group: MetaCluster = make()
    group.format()
    group.start(2, 3)
    group.start(1, environment={failpoints.VARIABLE: "log.roll.created=kill"})
    await lead(group, 2)
    async with GroupClient(group.addresses) as client:
        file = await client.create("f")

        async def fill(number: int) -> None:
            name, value = f"user.{number}".encode(), bytes(32_768)
            while group.members[1].running:
                await client.change("SetXattr", pb.SetXattrRequest(inode=file, name=name, value=value))

        await asyncio.gather(*(fill(number) for number in range(3)))
        assert await group.ended(1) == -9
        group.start(1)
        await group.in_step(1, 2)
        found = await client.read("GetXattr", pb.GetXattrRequest(inode=file, name=b"user.2"), group.members[1].address)
        assert found.value == bytes(32_768)
        assert await client.lookup("f", ROOT) == file
    await group.assert_sound()
