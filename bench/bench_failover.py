"""How long a client waits for its next acknowledged change when the metadata leader is killed, paused or cut off.

Under load: several coroutines create files all the time, retrying on the other member with the same request id, as the
client library does. A round is one fault. Afterwards every acknowledged name must be there, once.
"""

import asyncio
import secrets
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, cast

import grpc
import uvloop
from blockyard.proto import errors
from blockyard.proto.common_pb2 import RequestId
from blockyard.proto.lane import AioChannel
from blockyard.proto.metadata_pb2 import (
    CreateRequest,
    MakeDirectoryRequest,
    OpenSessionRequest,
    ReadDirectoryRequest,
)
from blockyard.proto.metadata_pb2_grpc import MetadataStub

from bench.meta_cluster import ROOT_USER, MetaCluster, MetaProcess, meta_cluster
from bench.report import Row, missing, row

WORKERS = 16
ATTEMPT_S = 1.0
SETTLE_S = 2.0
PATIENCE_S = 60.0
IN_STEP_ENTRIES = 100


class Load:
    """Creates files for ever, on whichever member serves, and remembers what was acknowledged and when."""

    def __init__(self, addresses: list[str]) -> None:
        self.acknowledged: list[bytes] = []
        self.times: list[float] = []
        self.acknowledged_next = asyncio.Event()
        self.twice = 0
        self._channels = [AioChannel(address, timeout_s=ATTEMPT_S, connect_timeout_s=0.3) for address in addresses]
        self._stubs: list[Any] = [MetadataStub(cast(grpc.Channel, channel)) for channel in self._channels]
        self._at = 0
        self._session = 0
        self._sequence = 0
        self._open: set[int] = set()
        self.directory = 0
        self._stopped = False

    async def start(self) -> None:
        """Register, and make a directory to work in."""
        reply = await self.call(
            lambda stub: stub.OpenSession(OpenSessionRequest(client="failover", nonce=secrets.randbits(64)))
        )
        self._session = reply.session
        made = await self.call(
            lambda stub: stub.MakeDirectory(
                MakeDirectoryRequest(
                    caller=ROOT_USER, request=self._next(), parent=1, name=secrets.token_hex(6).encode(), mode=0o755
                )
            )
        )
        self.directory = made.attributes.inode
        self._open.clear()

    async def call(self, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        """Ask until somebody answers; the request id makes a repeated change happen once."""
        while True:
            at = self._at
            try:
                return await ask(self._stubs[at])
            except (errors.NotLeader, errors.Unavailable, errors.ConnectionLost, errors.LeadershipLost,
                    errors.DeadlineExceeded, errors.ShuttingDown, errors.Overloaded):  # fmt: skip
                if self._at == at:
                    self._at = (at + 1) % len(self._stubs)
                await asyncio.sleep(0.005)

    async def work(self) -> None:
        """Create one file after the other."""
        while not self._stopped:
            request = self._next()
            name = b"%d" % request.sequence
            create = CreateRequest(
                caller=ROOT_USER, request=request, parent=self.directory, name=name, mode=0o644, exclusive=True
            )
            try:
                await self.call(partial(_create, create))
            except errors.Exists:
                self.twice += 1  # an exclusive create that had happened already was carried out again
            self._open.discard(request.sequence)
            self.acknowledged.append(name)
            self.times.append(time.monotonic())
            ended, self.acknowledged_next = self.acknowledged_next, asyncio.Event()
            ended.set()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopped = True

    async def lost(self) -> int:
        """Return how many acknowledged names are not there, or are there more than once."""
        seen: list[bytes] = []
        after, end = 0, False
        while not end:
            request = ReadDirectoryRequest(caller=ROOT_USER, inode=self.directory, after=after, limit=5_000)
            page = await self.call(partial(_list, request))
            seen += [entry.name for entry in page.entries]
            end = page.end
            after = page.entries[-1].cookie if page.entries else 0
        return len(set(self.acknowledged) - set(seen)) + len(seen) - len(set(seen))

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()

    def _next(self) -> RequestId:
        self._sequence += 1
        self._open.add(self._sequence)
        return RequestId(session=self._session, sequence=self._sequence, answered_below=min(self._open))


async def _create(request: CreateRequest, stub: Any) -> Any:
    return await stub.Create(request)


async def _list(request: ReadDirectoryRequest, stub: Any) -> Any:
    return await stub.ReadDirectory(request)


def run(quick: bool) -> list[Row]:
    """Measure; about 40 s when quick."""
    rounds = 4 if quick else 20
    rows: list[Row] = []
    with meta_cluster() as cluster:
        rows += _fault("kill -9", cluster, rounds, _kill, targets=True)
        rows += _fault("SIGSTOP", cluster, rounds, _pause, targets=False)
        rows += _isolation(cluster, rounds)
    return rows


Undo = Callable[[], None]


def _kill(cluster: MetaCluster, leader: MetaProcess) -> Undo:
    leader.signal(signal.SIGKILL)
    return leader.start


def _pause(cluster: MetaCluster, leader: MetaProcess) -> Undo:
    leader.signal(signal.SIGSTOP)
    return lambda: leader.signal(signal.SIGCONT)


def _isolation(cluster: MetaCluster, rounds: int) -> list[Row]:
    if shutil.which("iptables") is None or subprocess.run(["iptables", "-S"], capture_output=True).returncode != 0:
        why = "iptables is not usable here (Debian: apt-get install iptables, as root)"
        return [missing("isolation one way: next acknowledged change, p50", "s", why)]
    return _fault("one-way isolation", cluster, rounds, _isolate, targets=False)


def _isolate(cluster: MetaCluster, leader: MetaProcess) -> Undo:
    """Drop everything that the leader's connections and its port send; it still hears the others."""
    port = leader.address.rpartition(":")[2]
    others = [member.address.rpartition(":")[2] for member in cluster.members if member is not leader]
    rules = [["-p", "tcp", "-s", "127.0.0.1", "--sport", port, "-j", "DROP"]]
    for other in others:
        for peer in _ports_of(leader.pid, int(other)):
            rules.append(["-p", "tcp", "--sport", str(peer), "--dport", other, "-j", "DROP"])
    for rule in rules:
        subprocess.run(["iptables", "-A", "OUTPUT", *rule], check=True)

    def undo() -> None:
        for rule in rules:
            subprocess.run(["iptables", "-D", "OUTPUT", *rule], check=True)

    return undo


def _ports_of(pid: int, remote: int) -> list[int]:
    """Return the local ports of a process's connections to a port of this machine."""
    found = subprocess.run(["ss", "-tnpH", f"dport = :{remote}"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[3].rpartition(":")[2]) for line in found.splitlines() if f"pid={pid}," in line]


def _fault(
    name: str, cluster: MetaCluster, rounds: int, inflict: Callable[[MetaCluster, MetaProcess], Undo], targets: bool
) -> list[Row]:
    waits, lost, twice = uvloop.run(_rounds(cluster, rounds, inflict))
    p50, p99 = statistics.median(waits), sorted(waits)[min(len(waits) - 1, int(len(waits) * 0.99))]
    note = f"{rounds} rounds; floor: limit"
    return [
        row(
            f"{name}: next acknowledged change, p50",
            p50,
            "s",
            1.0,
            1.0 if targets else None,
            less_is_better=True,
            note=note,
        ),
        row(
            f"{name}: next acknowledged change, p99",
            p99,
            "s",
            2.0,
            1.0 if targets else None,
            less_is_better=True,
            note=note,
        ),
        Row(f"{name}: acknowledged changes lost", lost, "changes", ok=lost == 0),
        Row(f"{name}: changes applied twice", twice, "changes", ok=twice == 0),
    ]


async def _rounds(
    cluster: MetaCluster, rounds: int, inflict: Callable[[MetaCluster, MetaProcess], Undo]
) -> tuple[list[float], int, int]:
    load = Load([member.address for member in cluster.data_members])
    await load.start()
    workers = [asyncio.get_running_loop().create_task(load.work()) for _ in range(WORKERS)]
    waits = []
    for _ in range(rounds):
        leader = await asyncio.to_thread(_settled_leader, cluster)
        await asyncio.sleep(0.3)
        struck = time.monotonic()
        undo = await asyncio.to_thread(inflict, cluster, leader)
        waits.append(await _next_after(load, max(struck, time.monotonic()), workers) - struck)
        await asyncio.sleep(SETTLE_S / 2)
        await asyncio.to_thread(undo)
    await asyncio.to_thread(_settled_leader, cluster)
    load.stop()
    await asyncio.gather(*workers)
    lost = await load.lost()
    await load.close()
    return waits, lost, load.twice


def _settled_leader(cluster: MetaCluster) -> MetaProcess:
    """Return the leader once both data members are in step again: in their logs and in what they have applied."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        leader = cluster.leader()
        status = leader.status()
        applied = [member.status() for member in cluster.data_members]
        if status is not None and all(
            each is not None and status.commit_index - each.applied_index < IN_STEP_ENTRIES for each in applied
        ):
            return leader
        time.sleep(0.05)
    raise TimeoutError("the group did not settle within 60 s")


async def _next_after(load: Load, moment: float, workers: Sequence["asyncio.Task[None]"]) -> float:
    """Return when the first change that was acknowledged after `moment` was; raises what ended a worker."""
    position = len(load.times)
    while True:
        async with asyncio.timeout(PATIENCE_S):
            next_one = asyncio.ensure_future(load.acknowledged_next.wait())
            await asyncio.wait([next_one, *workers], return_when=asyncio.FIRST_COMPLETED)
        for worker in workers:
            if worker.done():
                worker.result()
        for at in load.times[position:]:
            if at > moment:
                return at
        position = len(load.times)
