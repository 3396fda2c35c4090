"""Calls reach whoever leads, through kills, pauses and transfers, from threads and from an event loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import grpc
import pytest
from blockyard.proto import errors
from blockyard.proto.cluster_pb2 import ChangeNodeRequest, GetClusterMapRequest, NodeRecord, RegisterNodeRequest
from blockyard.proto.cluster_pb2_grpc import ClusterStub
from blockyard.proto.common_pb2 import Address
from blockyard.proto.group import AioGroupChannel, GroupChannel
from blockyard.proto.raft_pb2 import TransferRequest
from blockyard.proto.raft_pb2_grpc import MetaAdminStub

from tests.support.meta_cluster import MetaCluster, free_port

Ask = Callable[..., Any]


class Flavour:
    """One of the two channels, with its calls awaitable."""

    def __init__(self, kind: str, addresses: list[str]) -> None:
        self.kind = kind
        self.channel: Any = GroupChannel(addresses) if kind == "threads" else AioGroupChannel(addresses)
        self.cluster: Any = ClusterStub(cast(grpc.Channel, self.channel))

    async def ask(self, method: str, request: Any, timeout: float = 30.0) -> Any:  # noqa: ASYNC109
        call = getattr(self.cluster, method)
        if self.kind == "threads":
            return await asyncio.to_thread(call, request, timeout=timeout)
        return await call(request, timeout=timeout)

    async def close(self) -> None:
        if self.kind == "threads":
            self.channel.close()
        else:
            await self.channel.close()


@pytest.fixture(params=["threads", "loop"])
async def flavour(request: pytest.FixtureRequest, group: MetaCluster) -> AsyncIterator[Flavour]:
    made = Flavour(request.param, group.addresses)
    try:
        yield made
    finally:
        await made.close()


def node(name: str, incarnation: int) -> RegisterNodeRequest:
    record = NodeRecord(
        name=name, incarnation=incarnation, capacity_bytes=1 << 30, address=Address(host="h", lane_port=1)
    )
    return RegisterNodeRequest(node=record, starts=1)


async def test_a_call_goes_on_when_the_leader_is_killed(group: MetaCluster, flavour: Flavour) -> None:
    first = await flavour.ask("RegisterNode", node("one", 11))
    group.kill(await group.leader())
    second = await flavour.ask("RegisterNode", node("two", 22))
    assert second.map.epoch > first.map.epoch
    assert [each.name for each in second.map.nodes] == ["one", "two"]


async def test_a_paused_leader_holds_nobody_up(group: MetaCluster, flavour: Flavour) -> None:
    await flavour.ask("RegisterNode", node("one", 11))
    paused = await group.leader()
    group.pause(paused)
    try:
        reply = await flavour.ask("RegisterNode", node("two", 22), timeout=20.0)
        assert len(reply.map.nodes) == 2
    finally:
        group.resume(paused)


async def test_leadership_that_is_handed_over_is_followed(group: MetaCluster, flavour: Flavour) -> None:
    before = await group.leader()
    await flavour.ask("GetClusterMap", GetClusterMapRequest())
    admin = Flavour(flavour.kind, group.addresses)
    stub: Any = MetaAdminStub(cast(grpc.Channel, admin.channel))
    if flavour.kind == "threads":
        await asyncio.to_thread(stub.Transfer, TransferRequest())
    else:
        await stub.Transfer(TransferRequest())
    await admin.close()
    reply = await flavour.ask("RegisterNode", node("one", 11))
    assert reply.id == 1
    assert await group.leader() != before


async def test_one_address_is_enough_to_learn_the_others(group: MetaCluster, flavour: Flavour) -> None:
    leader = await group.leader()
    alone = Flavour(flavour.kind, [group.members[leader].address])
    try:
        await alone.ask("GetClusterMap", GetClusterMapRequest())
        assert set(alone.channel.members) == set(group.addresses)
        group.kill(leader)
        assert (await alone.ask("RegisterNode", node("one", 11))).id == 1
    finally:
        await alone.close()


async def test_an_address_at_which_nobody_is_does_no_harm(group: MetaCluster, flavour: Flavour) -> None:
    mixed = Flavour(flavour.kind, [f"127.0.0.1:{free_port()}", *group.addresses])
    try:
        assert (await mixed.ask("RegisterNode", node("one", 11))).id == 1
    finally:
        await mixed.close()


async def test_without_a_leader_the_error_says_so_and_that_nothing_happened(flavour: Flavour) -> None:
    lost = Flavour(flavour.kind, [f"127.0.0.1:{free_port()}"])
    try:
        with pytest.raises(errors.Unavailable, match="nobody leads") as caught:
            await lost.ask("RegisterNode", node("one", 11), timeout=0.5)
        assert caught.value.definite
    finally:
        await lost.close()


async def test_the_groups_refusal_is_the_callers(flavour: Flavour) -> None:
    with pytest.raises(errors.UnknownNode):
        await flavour.ask("ChangeNode", ChangeNodeRequest(node=77))


async def test_a_watch_begins_wherever_the_leader_is_and_tells_of_every_map(
    group: MetaCluster, flavour: Flavour
) -> None:
    before = (await flavour.ask("RegisterNode", node("one", 11))).map.epoch
    group.kill(await group.leader())
    seen: list[int] = []
    stream = flavour.cluster.WatchClusterMap(GetClusterMapRequest(), timeout=60.0)

    async def following() -> Any:
        return await asyncio.to_thread(next, stream) if flavour.kind == "threads" else await anext(stream)

    seen.append((await following()).epoch)
    assert seen == [before]
    await flavour.ask("RegisterNode", node("two", 22))
    seen.append((await following()).epoch)
    assert seen[1] > before
    stream.cancel()


async def test_a_watch_of_a_leader_that_dies_ends_with_an_error(group: MetaCluster, flavour: Flavour) -> None:
    stream = flavour.cluster.WatchClusterMap(GetClusterMapRequest(), timeout=60.0)

    async def following() -> Any:
        return await asyncio.to_thread(next, stream) if flavour.kind == "threads" else await anext(stream)

    await following()
    group.kill(await group.leader())
    with pytest.raises(errors.ConnectionLost):
        await following()


async def test_many_threads_share_a_channel_through_a_failover(group: MetaCluster) -> None:
    outcomes: list[Any] = []
    with GroupChannel(group.addresses) as channel:
        stub: Any = ClusterStub(cast(grpc.Channel, channel))
        registered: Any = await asyncio.to_thread(stub.RegisterNode, node("one", 11))
        go = threading.Barrier(9)

        def work() -> None:
            go.wait()
            for _ in range(200):
                outcomes.append(stub.GetClusterMap(GetClusterMapRequest()).epoch)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        await asyncio.to_thread(go.wait)
        group.kill(await group.leader())
        for thread in threads:
            await asyncio.to_thread(thread.join, 60)
    assert len(outcomes) == 1600
    assert min(outcomes) >= registered.map.epoch


async def test_a_watch_is_given_up_from_another_thread(group: MetaCluster) -> None:
    with GroupChannel(group.addresses) as channel:
        stub: Any = ClusterStub(cast(grpc.Channel, channel))
        stream = stub.WatchClusterMap(GetClusterMapRequest(), timeout=60.0)
        await asyncio.to_thread(next, stream)
        waiting = asyncio.create_task(asyncio.to_thread(list, stream))
        stream.cancel()
        assert await asyncio.wait_for(waiting, 20) == []
