"""What clients get from a healthy group, through both doors and from every member."""

import asyncio
import errno
from typing import Any, cast

import grpc
import pytest
from blockyard.proto import errors
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.cluster_pb2 import GetClusterMapRequest
from blockyard.proto.cluster_pb2_grpc import ClusterStub
from blockyard.proto.common_pb2 import RequestId
from blockyard.proto.door.aio_channel import AioChannel as DoorChannel
from blockyard.proto.lane import AioChannel
from blockyard.proto.metadata_pb2_grpc import MetadataStub
from blockyard.proto.raft_pb2 import TransferRequest
from blockyard.proto.raft_pb2_grpc import MetaAdminStub
from blockyard.proto.retry import NO_RETRY

from tests.support.group_client import ME, ROOT, GroupClient
from tests.support.meta_cluster import MetaCluster, until

ONCE = NO_RETRY


async def test_a_name_goes_through_its_life_and_every_member_shows_it(group: MetaCluster) -> None:
    leader = await group.leader()
    follower = group.members[await group.follower()].address
    async with GroupClient(group.addresses) as client:
        made = await client.create("a")
        with pytest.raises(errors.Exists):
            await client.create("a")
        for number in range(50):
            await client.create(f"n{number}")
            assert await client.lookup(f"n{number}", address=follower)  # acknowledged, so the follower shows it
        assert len(await client.list(address=follower)) == 51
        await client.change("Rename", pb.RenameRequest(parent=ROOT, name=b"a", new_parent=ROOT, new_name=b"b"))
        with pytest.raises(errors.NotFound):
            await client.lookup("a", address=follower)
        assert await client.lookup("b", address=follower) == made
        found = await client.read("GetAttributes", pb.GetAttributesRequest(inode=made), follower)
        assert found.attributes.mode == 0o644
        await client.change("Unlink", pb.UnlinkRequest(parent=ROOT, name=b"b"))
        with pytest.raises(errors.NotFound):
            await client.lookup("b", address=follower)
    assert leader == await group.leader()


async def test_grpc_offers_the_same_and_a_wrong_member_names_the_leader_through_both_doors(group: MetaCluster) -> None:
    leader = group.members[await group.leader()]
    witness = group.members[3]
    follower = group.members[await group.follower()]
    await group.follow(leader.id)
    async with GroupClient(group.addresses) as client:
        await client.create("lane")
        for member in (follower, witness):
            for service, request in (
                (
                    "Create",
                    pb.CreateRequest(caller=ME, parent=ROOT, name=b"x", request=RequestId(session=1, sequence=1)),
                ),
                ("KeepSession", pb.KeepSessionRequest(session=client.session)),
            ):
                with pytest.raises(errors.NotLeader) as lane:
                    await getattr(client.stub(member.address), service)(request)
                assert lane.value.leader is not None
                assert lane.value.leader.lane_port == leader.lane_port
                async with DoorChannel(f"{member.host}:{member.grpc_port}", retry=ONCE) as channel:
                    with pytest.raises(errors.NotLeader) as door:
                        await getattr(MetadataStub(cast(grpc.Channel, channel)), service)(request)
                assert door.value.leader is not None
                assert door.value.leader.grpc_port == leader.grpc_port
        with pytest.raises(errors.NotLeader):
            await client.stub(witness.address).Lookup(pb.LookupRequest(caller=ME, parent=ROOT, name=b"lane"))
        with pytest.raises(errors.NotLeader):
            await anext(aiter(client.stub(witness.address).Watch(pb.WatchRequest(session=client.session))))
        async with DoorChannel(f"{leader.host}:{leader.grpc_port}") as channel:
            stub: Any = MetadataStub(cast(grpc.Channel, channel))
            session = (await stub.OpenSession(pb.OpenSessionRequest(client="grpc", nonce=77))).session
            made = await stub.Create(
                pb.CreateRequest(
                    caller=ME, parent=ROOT, name=b"door", mode=0o600, request=RequestId(session=session, sequence=1)
                )
            )
            assert await client.lookup("door") == made.attributes.inode
            page = await stub.ReadDirectory(pb.ReadDirectoryRequest(caller=ME, inode=ROOT))
            assert {entry.name for entry in page.entries} == {b"lane", b"door"}
            map_stub: Any = ClusterStub(cast(grpc.Channel, channel))
            assert (await map_stub.GetClusterMap(GetClusterMapRequest())).map.cluster == group.id


async def test_bad_requests_get_their_errno_and_change_nothing(group: MetaCluster) -> None:
    await group.leader()
    async with GroupClient(group.addresses) as client:
        for name in (b"", b"a/b", b"a\0b", b"n" * 256, b".", b".."):
            with pytest.raises(errors.BlockyardError) as refused:
                await client.change("Create", pb.CreateRequest(parent=ROOT, name=name, mode=0o644))
            assert refused.value.errno in (errno.ENOENT, errno.EINVAL, errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR)
        with pytest.raises(errors.StaleHandle):
            await client.change("Create", pb.CreateRequest(parent=999, name=b"x", mode=0o644))
        with pytest.raises(errors.ArgumentTooLong):
            await client.change("SetXattr", pb.SetXattrRequest(inode=ROOT, name=b"user.x", value=bytes(65_537)))
        with pytest.raises(errors.SessionExpired):
            await client.stub(group.members[await group.leader()].address).Create(
                pb.CreateRequest(caller=ME, parent=ROOT, name=b"x", request=RequestId(session=10**9, sequence=1))
            )
        assert await client.list() == []
    await group.assert_sound()


async def test_watchers_hear_what_others_change_and_the_log_names_paths(group: MetaCluster) -> None:
    await group.leader()
    async with GroupClient(group.addresses, "one") as one, GroupClient(group.addresses, "two") as two:
        for member in group.data:
            events = one.stub(member.address).Watch(pb.WatchRequest(session=one.session), timeout=20)
            watching = aiter(events)
            assert not (await anext(watching)).lost
            await one.create(f"own{member.id}")
            made = await two.create(f"theirs{member.id}")
            event = await anext(watching)
            assert list(event.inodes) == [made]
            assert list(event.names) == [f"theirs{member.id}".encode()]
        directory = await two.change("MakeDirectory", pb.MakeDirectoryRequest(parent=ROOT, name=b"d", mode=0o755))
        await two.create("deep", parent=directory.attributes.inode)
        await two.change("Rename", pb.RenameRequest(parent=ROOT, name=b"d", new_parent=ROOT, new_name=b"e"))
        await two.create("deeper", parent=directory.attributes.inode)
        log = [r async for r in two.stub(group.members[await group.leader()].address).OperationLog(
            pb.OperationLogRequest(path_prefix=b"/"), timeout=20)]  # fmt: skip
        assert [(r.operation, r.path) for r in log][-3:] == [
            ("create", b"/e/deep") if log[-3].path == b"/e/deep" else ("create", b"/d/deep"),
            ("rename", b"/d"),
            ("create", b"/e/deeper"),
        ]
        assert {r.client for r in log} == {"one", "two"}


async def test_a_silent_session_ends_with_its_locks_and_a_kept_one_does_not(group: MetaCluster) -> None:
    await group.leader()
    async with GroupClient(group.addresses, "silent") as silent, GroupClient(group.addresses, "kept") as kept:
        await silent.open(term_ms=5_000)
        await kept.open(term_ms=5_000)
        file = await kept.create("f")
        await silent.change("SetLock", lock(file, owner=1))

        async def over() -> bool:
            await kept.keep()
            try:
                await kept.change("SetLock", lock(file, owner=2))
            except errors.WouldBlock:
                return False
            return True

        await until(over, "the silent session's lock is free", 15)
        with pytest.raises(errors.SessionExpired):
            await silent.keep()
        await kept.create("still here")


def lock(inode: int, owner: int, wait: bool = False, kind: Any = pb.LOCK_EXCLUSIVE) -> pb.SetLockRequest:
    """Return the request for a lock on a whole file."""
    wanted = pb.FileLock(kind=kind, start=0, end=2**63 - 1, owner=owner)
    return pb.SetLockRequest(inode=inode, lock=wanted, wait=wait)


async def test_waits_for_locks_are_granted_cancelled_and_survive_a_change_of_leader(group: MetaCluster) -> None:
    leader = await group.leader()
    async with GroupClient(group.addresses, "a") as a, GroupClient(group.addresses, "b") as b:
        file = await a.create("f")
        await a.change("SetLock", lock(file, 1))

        # Granted when it is given back.
        waiting = asyncio.create_task(b.change("SetLock", lock(file, 2, wait=True)))
        await until(lambda: waits(group, b, file), "b waits")
        await a.change("SetLock", lock(file, 1, kind=pb.LOCK_UNLOCK))
        await waiting

        # The same request again while it waits: the later call gets the answer.
        address = group.members[leader].address
        again = lock(file, 1, wait=True)
        again.caller.CopyFrom(ME)
        again.request.CopyFrom(RequestId(session=a.session, sequence=1000, answered_below=1))
        first = asyncio.ensure_future(a.stub(address).SetLock(again, timeout=30))
        second = asyncio.ensure_future(a.stub(address).SetLock(again, timeout=30))
        with pytest.raises(errors.Cancelled):
            await first

        # A new leader: whoever waited asks it, under the same request id.
        await stop_leading(group, leader)
        with pytest.raises((errors.LeadershipLost, errors.NotLeader)):
            await second
        address = group.members[await group.leader()].address
        third = asyncio.ensure_future(a.stub(address).SetLock(again, timeout=30))
        await b.change("SetLock", lock(file, 2, kind=pb.LOCK_UNLOCK))
        await third

        # A wait ends with its call.
        call = lock(file, 2, wait=True)
        call.caller.CopyFrom(ME)
        call.request.CopyFrom(RequestId(session=b.session, sequence=1000, answered_below=1))
        with pytest.raises(errors.DeadlineExceeded):
            await b.stub(address).SetLock(call, timeout=0.3)

        async def interrupted() -> bool:
            try:
                await b.stub(address).SetLock(call, timeout=0.3)
            except errors.DeadlineExceeded:
                return False
            except errors.Interrupted:
                return True
            raise AssertionError("a lock that is held was granted")

        await until(interrupted, "the wait that was given up is answered as interrupted")
    await group.assert_sound()


async def waits(group: MetaCluster, client: GroupClient, file: int) -> bool:
    """Return whether everything the client has sent was taken in: a read on its connection was answered after it."""
    await client.lookup("f")
    return True


async def stop_leading(group: MetaCluster, leader: int) -> None:
    """Let the other data member lead."""
    async with AioChannel(group.members[leader].address) as channel:
        await MetaAdminStub(cast(Any, channel)).Transfer(TransferRequest())
    other = next(member.id for member in group.data if member.id != leader)
    assert await group.leader([other]) == other
