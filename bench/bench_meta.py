"""The metadata service beside its floor: durable creates, lookups, listings, commits; memory, disk and start-up.

Everything goes through the real service: two data members and a witness as processes, permissions, sessions and
exactly-once on, every create on two disks before it is answered. The floor is in `floor_meta`.
"""

import asyncio
import functools
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import grpc
import uvloop
from blockyard.proto.cluster_pb2 import LeaseBlockIdsRequest, NodeHeartbeatRequest, NodeRecord, RegisterNodeRequest
from blockyard.proto.cluster_pb2_grpc import ClusterStub
from blockyard.proto.common_pb2 import Address
from blockyard.proto.lane import AioChannel
from blockyard.proto.metadata_pb2 import (
    CommitSlicesRequest,
    FileCommit,
    GetAttributesRequest,
    MakeDirectoryRequest,
    ReadDirectoryRequest,
    Slice,
)
from blockyard.proto.probe_pb2 import ProbeRequest
from blockyard.proto.probe_pb2_grpc import ProbeStub

from bench.floor_meta import LOOKUP, serve_follower, serve_leader
from bench.meta_cluster import ROOT_USER, BareClient, MetaCluster, MetaProcess, meta_cluster
from bench.process import serving
from bench.report import Row, in_turn, row

ROUNDS = 5
FILES_PER_COMMIT = 100
MILLION = 1_000_000


def run(quick: bool) -> list[Row]:
    """Measure; about 40 s when quick, several minutes otherwise."""
    scale = 1 if quick else 4
    with (
        serving(serve_follower) as follower,
        serving(functools.partial(serve_leader, follower)) as floor,
        meta_cluster() as cluster,
    ):
        rows = _rates(floor, cluster, scale)
        rows += uvloop.run(_listing(cluster.leader().address, 20_000 if quick else 100_000))
        rows += uvloop.run(_commits(cluster.leader().address, 20 * scale))
    if not quick:
        with meta_cluster() as cluster:
            rows += _million(cluster)
    return rows


# ---------------------------------------------------------------------------------------------------- rates


def _rates(floor: str, cluster: MetaCluster, scale: int) -> list[Row]:
    service = cluster.leader().address
    uvloop.run(_prepare(service, floor))
    measures: dict[str, Callable[[], float]] = {}
    for flight, count in ((1, 300 * scale), (64, 6_000 * scale), (256, 6_000 * scale)):
        measures[f"floor create {flight}"] = functools.partial(_measure, _floor_create, floor, count, flight)
        measures[f"create {flight}"] = functools.partial(_measure, _create, service, count, flight)
    for flight, count in ((1, 500 * scale), (64, 6_000 * scale)):
        measures[f"floor lookup {flight}"] = functools.partial(_measure, _floor_lookup, floor, count, flight)
        measures[f"lookup {flight}"] = functools.partial(_measure, _lookup, service, count, flight)
        measures[f"getattr {flight}"] = functools.partial(_measure, _getattr, service, count, flight)
    medians = in_turn(ROUNDS, measures)
    rows = []
    for flight, target in ((1, 0.5), (64, 0.30), (256, None)):
        bare = medians[f"floor create {flight}"]
        note = "latency ≤ 2.0 × floor is ratio ≥ 0.5" if flight == 1 else None
        rows.append(row(_name("durable create", flight), medians[f"create {flight}"], "/s", bare, target, note=note))
    for flight, target in ((1, None), (64, 0.35)):
        bare = medians[f"floor lookup {flight}"]
        rows.append(row(_name("lookup", flight), medians[f"lookup {flight}"], "/s", bare, target))
        rows.append(row(_name("getattr", flight), medians[f"getattr {flight}"], "/s", bare))
    return rows


def _name(what: str, flight: int) -> str:
    return f"{what}, one after the other" if flight == 1 else f"{what}, {flight} in flight"


def _measure(work: Callable[..., Awaitable[float]], address: str, count: int, flight: int) -> float:
    rate: float = uvloop.run(cast(Any, work(address, count, flight)))
    return rate


async def _timed(call: Callable[[int], Awaitable[Any]], count: int, flight: int) -> float:
    """Return calls per second of `count` calls, `flight` at a time."""
    numbers: Iterator[int] = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await call(number)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(flight)))
    return count / (time.perf_counter() - started)


async def _prepare(service: str, floor: str) -> None:
    """Make the names that lookups look up."""
    client = await BareClient(service).open()
    await _timed(lambda number: client.create(b"known-%07d" % number), 2_000, 64)
    await client.close()
    async with AioChannel(floor) as channel:
        stub: Any = ProbeStub(cast(grpc.Channel, channel))
        await _timed(lambda number: stub.Echo(ProbeRequest(body=b"known-%07d" % number)), 2_000, 64)


async def _create(address: str, count: int, flight: int) -> float:
    client = await BareClient(address).open()
    prefix = secrets.token_hex(4).encode()
    directory = await client.stub.MakeDirectory(
        MakeDirectoryRequest(caller=ROOT_USER, request=client.request(), parent=1, name=prefix, mode=0o755)
    )
    parent = directory.attributes.inode
    rate = await _timed(lambda number: client.create(b"%s-%07d" % (prefix, number), parent), count, flight)
    await client.close()
    return rate


async def _floor_create(address: str, count: int, flight: int) -> float:
    prefix = secrets.token_hex(4).encode()
    async with AioChannel(address) as channel:
        stub: Any = ProbeStub(cast(grpc.Channel, channel))
        await stub.Echo(ProbeRequest(body=b"%s-%07d" % (prefix, count)))
        return await _timed(lambda n: stub.Echo(ProbeRequest(body=b"%s-%07d" % (prefix, n))), count, flight)


async def _lookup(address: str, count: int, flight: int) -> float:
    client = await BareClient(address).open()
    rate = await _timed(lambda number: client.lookup(b"known-%07d" % (number % 2_000)), count, flight)
    await client.close()
    return rate


async def _getattr(address: str, count: int, flight: int) -> float:
    client = await BareClient(address).open()
    found = await client.lookup(b"known-%07d" % 7)
    request = GetAttributesRequest(caller=ROOT_USER, inode=found.attributes.inode)
    rate = await _timed(lambda _: client.stub.GetAttributes(request), count, flight)
    await client.close()
    return rate


async def _floor_lookup(address: str, count: int, flight: int) -> float:
    async with AioChannel(address) as channel:
        stub: Any = ProbeStub(cast(grpc.Channel, channel))
        await stub.Echo(ProbeRequest(body=b"known-%07d" % 1, error=LOOKUP))
        return await _timed(
            lambda n: stub.Echo(ProbeRequest(body=b"known-%07d" % (n % 2_000), error=LOOKUP)), count, flight
        )


# ---------------------------------------------------------------------------------------------------- listings, commits


async def _listing(address: str, entries: int) -> list[Row]:
    client = await BareClient(address).open()
    made = await client.stub.MakeDirectory(
        MakeDirectoryRequest(caller=ROOT_USER, request=client.request(), parent=1, name=b"listed", mode=0o755)
    )
    directory = made.attributes.inode
    await _timed(lambda number: client.create(b"entry-%07d" % number, directory), entries, 256)
    rates = []
    for _ in range(3):
        started, seen, after = time.perf_counter(), 0, 0
        while True:
            page = await client.stub.ReadDirectory(
                ReadDirectoryRequest(caller=ROOT_USER, inode=directory, after=after, limit=5_000, plus=True)
            )
            seen += len(page.entries)
            if page.end:
                break
            after = page.entries[-1].cookie
        assert seen == entries, f"{seen} of {entries} entries were listed"
        rates.append(entries / (time.perf_counter() - started))
    await client.close()
    return [row(f"readdirplus of {entries:,} entries", sorted(rates)[1], "entries/s")]


async def _commits(address: str, commits: int) -> list[Row]:
    """Commit slices of `FILES_PER_COMMIT` files at a time; three storage nodes are registered in name only."""
    client = await BareClient(address).open()
    cluster: Any = ClusterStub(cast(grpc.Channel, client.channel))
    await _register_nodes(cluster)
    files = [await client.create(b"commit-%04d" % number) for number in range(FILES_PER_COMMIT)]
    lease = await cluster.LeaseBlockIds(
        LeaseBlockIdsRequest(request=client.request(), count=commits * FILES_PER_COMMIT)
    )
    blocks = [each.group << 48 | each.first_sequence + i for each in lease.ranges for i in range(each.count)]

    def commit(number: int) -> Any:
        mine = blocks[number * FILES_PER_COMMIT : (number + 1) * FILES_PER_COMMIT]
        request = CommitSlicesRequest(
            caller=ROOT_USER,
            request=client.request(),
            map_epoch=lease.map_epoch,
            files=[
                FileCommit(
                    inode=file.attributes.inode,
                    slices=[Slice(position=0, length=4096, block=block, block_length=4096)],
                )
                for file, block in zip(files, mine, strict=True)
            ],
        )
        return client.stub.CommitSlices(request)

    reply = await commit(0)
    assert not any(each.HasField("error") for each in reply.files), reply.files[0].error
    rate = await _timed(lambda number: commit(number + 1), commits - 1, 4)
    await client.close()
    return [row(f"slice commits, {FILES_PER_COMMIT} files each", rate * FILES_PER_COMMIT, "files/s")]


async def _register_nodes(cluster: Any) -> None:
    for number in range(3):
        incarnation = secrets.randbits(63)
        record = NodeRecord(
            name=f"bench-{number}",
            zone=f"z{number}",
            address=Address(host="127.0.0.1", lane_port=9),
            incarnation=incarnation,
            capacity_bytes=1 << 40,
        )
        reply = await cluster.RegisterNode(RegisterNodeRequest(node=record, starts=1))
        beat = NodeHeartbeatRequest(
            node=reply.id, incarnation=incarnation, map_epoch=reply.map.epoch, free_bytes=1 << 40
        )
        await cluster.NodeHeartbeat(beat)


# ---------------------------------------------------------------------------------------------------- a million files


def _million(cluster: MetaCluster) -> list[Row]:
    leader = cluster.leader()
    small, large = uvloop.run(_grow(leader.address))
    rows = [
        row("creates with a million entries, 64 in flight", large, "/s", small, 0.8, note="floor: with ten thousand")
    ]
    resident = max(member.resident_bytes() for member in cluster.data_members)
    rows.append(
        row(
            "resident memory with a million files",
            resident / 1e9,
            "GB",
            1.2,
            1.0,
            less_is_better=True,
            note="floor: limit",
        )
    )
    rows += _restart(cluster, leader)
    disk = max(member.disk_bytes() for member in cluster.data_members) / MILLION
    rows.append(row("disk per file, log included", disk, "bytes", 400, 1.0, less_is_better=True, note="floor: limit"))
    return rows


async def _grow(address: str) -> tuple[float, float]:
    """Make a million files in one directory; return the rates at ten thousand and at a million."""
    client = await BareClient(address).open()
    made = await client.stub.MakeDirectory(
        MakeDirectoryRequest(caller=ROOT_USER, request=client.request(), parent=1, name=b"big", mode=0o755)
    )
    parent, count = made.attributes.inode, 0

    async def more(number: int, flight: int) -> float:
        nonlocal count
        base, count = count, count + number
        return await _timed(lambda n: client.create(b"file-%08d" % (base + n), parent), number, flight)

    await more(10_000, 64)
    small = await more(10_000, 64)
    await more(MILLION - 40_000, 256)
    await more(10_000, 64)
    large = await more(10_000, 64)
    await client.close()
    return small, large


def _restart(cluster: MetaCluster, leader: MetaProcess) -> list[Row]:
    """Kill a member with a million files and time its return, then read what it says."""
    follower = next(member for member in cluster.data_members if member is not leader)
    follower.signal(signal.SIGKILL)
    started = time.perf_counter()
    follower.start()
    while (status := follower.status()) is None or status.inodes < MILLION:
        time.sleep(0.02)
    took = time.perf_counter() - started
    return [
        row("start-up after a kill with a million files", took, "s", 3.0, 1.0, less_is_better=True, note="floor: limit")
    ]
