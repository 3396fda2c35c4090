"""What one operation costs in the namespace state machine: apply and read, without log, disk and network.

    python bench/namespace_apply.py [--store memory|rocksdb] [--count 100000] [--batch 64]

Prints microseconds per operation, the writing of its rows included: of the best tenth of the batches (what it costs on
an idle machine) and of the median one. Requests are parsed beforehand, as the leader has them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from blockyard.metaserver.namespace.machine import StateMachine
from blockyard.metaserver.state.commands import METADATA, method_id
from blockyard.metaserver.state.transaction import KeyValueStore, MemoryStore, WriteBatch
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import Caller, RequestId

IN_FLIGHT = 64


class RocksStore:
    """RocksDB set up as in production, written without its log."""

    def __init__(self, path: str) -> None:
        from blockyard.metaserver.storage.rocks import namespace_options, unlogged
        from rocksdict import Rdict
        from rocksdict import WriteBatch as RocksBatch

        self.options: Any = unlogged()
        self.rows: Any = Rdict(path, namespace_options())
        self.batch: Any = RocksBatch

    def get(self, key: bytes) -> bytes | None:
        found: bytes | None = self.rows.get(key)
        return found

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self.rows.items(from_key=start):
            if key >= end:
                return
            yield key, value

    def write(self, batch: WriteBatch) -> None:
        rows = self.batch(raw_mode=True)
        for key, value in batch.puts:
            rows.put(key, value)
        for key in batch.deletes:
            rows.delete(key)
        self.rows.write(rows, self.options)


class Bench:
    """Runs commands in batches and times them."""

    def __init__(self, store: KeyValueStore, batch: int) -> None:
        self.store, self.batch = store, batch
        self.machine = StateMachine(store)
        self.times: list[float] = []  # seconds per operation, by batch
        self.caller = Caller(uid=1000, gid=1000, groups=[4, 24, 27])
        self.index = self.sequence = 0
        reply = self.run_one("OpenSession", pb.OpenSessionRequest(client="bench", nonce=1))
        self.session = reply.session
        self.run_one("SetAttributes", self.request(pb.SetAttributesRequest, Caller(), inode=1, mode=0o777))

    def request(self, kind: Any, caller: Caller | None = None, **fields: Any) -> Any:
        self.sequence += 1
        below = max(1, self.sequence - IN_FLIGHT)
        number = RequestId(session=self.session, sequence=self.sequence, answered_below=below)
        return kind(caller=caller or self.caller, request=number, **fields)

    def run_one(self, method: str, request: Any) -> Any:
        return self.run(method, [request])[0]

    def run(self, method: str, requests: list[Any]) -> list[Any]:
        number = method_id(METADATA + method)
        outcomes: list[Any] = []
        machine, store = self.machine, self.store
        self.times.clear()
        for start in range(0, len(requests), self.batch):
            began = time.perf_counter()
            self.index += 1
            commands = [(number, request, ()) for request in requests[start : start + self.batch]]
            outcomes += machine.apply(self.index, 1_800_000_000_000_000_000 + self.index, self.index, commands).outcomes
            store.write(machine.changes())
            machine.written()
            self.times.append((time.perf_counter() - began) / len(commands))
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes

    def timed(self, name: str, method: str, requests: list[Any]) -> list[Any]:
        outcomes = self.run(method, requests)
        self.report(name)
        return outcomes

    def timed_reads(self, name: str, read: Callable[[int, Any], Any], method: str, requests: list[Any]) -> None:
        number = method_id(METADATA + method)
        self.times.clear()
        for start in range(0, len(requests), self.batch):
            part = requests[start : start + self.batch]
            began = time.perf_counter()
            for request in part:
                read(number, request)
            self.times.append((time.perf_counter() - began) / len(part))
        self.report(name)

    def report(self, name: str) -> None:
        """Print what the operations since the last report cost."""
        times = sorted(self.times)
        best, median = times[len(times) // 10], times[len(times) // 2]
        print(f"{name:28s} {best * 1e6:8.2f} µs {median * 1e6:8.2f} µs")


def main() -> None:
    """Run every measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("memory", "rocksdb"), default="memory")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(MemoryStore() if options.store == "memory" else RocksStore(folder), options.count, options.batch)


def measure(store: KeyValueStore, count: int, batch: int) -> None:
    """Print what each operation costs on a store."""
    bench = Bench(store, batch)
    folder = bench.run_one("MakeDirectory", bench.request(pb.MakeDirectoryRequest, parent=1, name=b"d", mode=0o755))
    parent = folder.attributes.inode
    names = [b"meter-%08d.csv" % number for number in range(count)]
    request = bench.request
    made = bench.timed(
        "create", "Create", [request(pb.CreateRequest, parent=parent, name=name, mode=0o644) for name in names]
    )
    inodes = [reply.attributes.inode for reply in made]
    caller = bench.caller
    lookups = [pb.LookupRequest(caller=caller, parent=parent, name=name) for name in names]
    bench.timed_reads("lookup", bench.machine.read, "Lookup", lookups)
    gets = [pb.GetAttributesRequest(caller=caller, inode=inode) for inode in inodes]
    bench.timed_reads("get_attributes", bench.machine.read, "GetAttributes", gets)
    opened = bench.timed("open", "Open", [request(pb.OpenRequest, inode=inode, flags=2) for inode in inodes])
    commits = [
        request(
            pb.CommitSlicesRequest,
            files=[
                pb.FileCommit(
                    inode=inode,
                    handle=reply.handle,
                    slices=[pb.Slice(position=0, length=4096, block=1000 + inode, block_length=4096)],
                    close=True,
                )
            ],
        )
        for inode, reply in zip(inodes, opened, strict=True)
    ]
    bench.timed("commit one slice and close", "CommitSlices", commits)
    reads = [pb.ReadSlicesRequest(caller=caller, inode=inode) for inode in inodes]
    bench.timed_reads("read_slices", bench.machine.read, "ReadSlices", reads)
    after = 0
    bench.times.clear()
    while True:
        began = time.perf_counter()
        page = bench.machine.read(
            method_id(METADATA + "ReadDirectory"),
            pb.ReadDirectoryRequest(caller=caller, inode=parent, after=after, plus=True),
        )
        bench.times.append((time.perf_counter() - began) / len(page.entries))
        if page.end:
            break
        after = page.entries[-1].cookie
    bench.report("readdirplus, per entry")
    modes = [request(pb.SetAttributesRequest, inode=inode, mode=0o600) for inode in inodes]
    bench.timed("chmod", "SetAttributes", modes)
    renames = [
        request(pb.RenameRequest, parent=parent, name=name, new_parent=1, new_name=b"x" + name) for name in names
    ]
    bench.timed("rename", "Rename", renames)
    bench.timed("unlink", "Unlink", [request(pb.UnlinkRequest, parent=1, name=b"x" + name) for name in names])
    puts = [
        request(
            pb.PutFileRequest,
            parent=parent,
            name=name,
            mode=0o644,
            size=4096,
            slices=[pb.Slice(position=0, length=4096, block=10**9 + number, block_length=4096)],
        )
        for number, name in enumerate(names)
    ]
    bench.timed("put_file", "PutFile", puts)


if __name__ == "__main__":
    main()
