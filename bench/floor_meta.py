"""The floor of a metadata service: what two processes can do that agree on bytes and do nothing else.

A leader and a follower, on the lane. Everything that arrives in one turn of the loop becomes one record; both append it
to a file and fdatasync, in parallel; both write two rows for each request into RocksDB; each caller gets an answer.
No terms, no votes, no sessions, no permissions, no retries.
"""

import asyncio
import os
import tempfile
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, cast

import grpc
import uvloop
from blockyard.proto.call import CallContext, Deferred, register
from blockyard.proto.lane import AioChannel, AioServer
from blockyard.proto.probe_pb2 import ProbeReply, ProbeRequest
from blockyard.proto.probe_pb2 import ProbeReply as Reply
from blockyard.proto.probe_pb2_grpc import ProbeStub, add_ProbeServicer_to_server
from rocksdict import Options, Rdict, WriteBatch, WriteOptions

LOOKUP = "lookup"


class Disk:
    """A file to append to and rows to keep."""

    def __init__(self, directory: Path) -> None:
        self._log = os.open(directory / "log", os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(self._log, 0, 256 << 20)
        self._end = 0
        self._rows = Rdict(str(directory / "rows"), Options(raw_mode=True))
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign,assignment]  # the stub says method

    def append(self, record: bytes) -> None:
        """Append and sync."""
        os.pwrite(self._log, record, self._end)
        os.fdatasync(self._log)
        self._end = (self._end + len(record)) % (128 << 20)

    def apply(self, names: list[bytes]) -> None:
        """Write two rows for each name."""
        batch = WriteBatch(raw_mode=True)
        for name in names:
            batch.put(b"I" + name, name * 4)
            batch.put(b"D" + name, name)
        self._rows.write(batch, self._unlogged)

    def get(self, name: bytes) -> bytes:
        """Return a row."""
        return cast(bytes, self._rows.get(b"D" + name) or b"")


class Follower:
    """Appends and applies what it is sent."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def Echo(self, request: ProbeRequest, context: CallContext) -> ProbeReply:
        """Take one record: names of equal length, one after the other."""
        self._disk.append(request.body)
        size = request.count
        self._disk.apply([request.body[start : start + size] for start in range(0, len(request.body), size)])
        return ProbeReply()

    Count = Sum = Chat = Pull = Push = Echo


class Leader:
    """Answers a name when both have it, and lookups from its own rows."""

    def __init__(self, disk: Disk, follower: str) -> None:
        self._disk = disk
        self._follower: Any = ProbeStub(cast(grpc.Channel, AioChannel(follower)))
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[bytes, Deferred]] = []
        self._busy = False

    def Echo(self, request: ProbeRequest, context: CallContext) -> Any:
        """Make (or, with the error field set to `lookup`, find) a name."""
        if request.error == LOOKUP:
            return Reply(body=self._disk.get(request.body))
        deferred = Deferred()
        self._waiting.append((request.body, deferred))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._begin)
        return deferred

    Count = Sum = Chat = Pull = Push = Echo

    def _begin(self) -> None:
        batch, self._waiting = self._waiting, []
        record = b"".join([name for name, _ in batch])
        sent = self._follower.Echo(ProbeRequest(body=record, count=len(batch[0][0])))
        self._loop.call_soon(self._write, batch, record, sent)

    def _write(self, batch: list[tuple[bytes, Deferred]], record: bytes, sent: "asyncio.Future[ProbeReply]") -> None:
        self._disk.append(record)
        sent.add_done_callback(lambda _: self._agreed(batch))

    def _agreed(self, batch: list[tuple[bytes, Deferred]]) -> None:
        self._disk.apply([name for name, _ in batch])
        for name, deferred in batch:
            deferred.resolve(ProbeReply(body=name))
        if self._waiting:
            self._begin()
        else:
            self._busy = False


def serve_follower(queue: "Queue[str]") -> None:
    """Run the follower."""
    uvloop.run(_serve(queue, lambda disk: Follower(disk)))


def serve_leader(follower: str, queue: "Queue[str]") -> None:
    """Run the leader."""
    uvloop.run(_serve(queue, lambda disk: Leader(disk, follower)))


async def _serve(queue: "Queue[str]", make: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="blockyard-floor-") as directory:
        server = AioServer()
        register(add_ProbeServicer_to_server, make(Disk(Path(directory))), server)
        queue.put(f"127.0.0.1:{await server.listen_tcp('127.0.0.1', 0)}")
        await asyncio.Event().wait()
