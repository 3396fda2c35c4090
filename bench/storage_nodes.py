"""Storage nodes for benches: the real store and the real service in processes of their own, without a cluster around.

What is left out is what a node does beside blocks: heartbeats, the map, repair.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from blockyard.proto.blocks import Patience
from blockyard.proto.common_pb2 import Address
from blockyard.proto.lane import ThreadServer
from blockyard.proto.storage_pb2 import ChainNode
from blockyard.storagenode.service import StorageServicer, register
from blockyard.storagenode.store import BlockStore, StoreSettings

STILL = Patience(stall_s=20.0)
"""On a busy machine nothing shall be taken for failed."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a node has done since it started."""

    puts: int
    syncs: int
    cpu_s: float


class StorageNode:
    """One process."""

    def __init__(self, node: int, directory: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.directory = directory
        self.control, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, node, str(directory)), daemon=True)
        self._process.start()
        port, unix_path = self.control.recv()
        self.chain_node = ChainNode(node=node, address=Address(host="127.0.0.1", lane_port=port, unix_path=unix_path))

    def figures(self) -> Figures:
        """Ask for figures."""
        self.control.send("figures")
        return Figures(*self.control.recv())

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.join()


@contextmanager
def storage_nodes(count: int, directory: Path) -> Iterator[Sequence[StorageNode]]:
    """Run nodes 1 to `count` below `directory`."""
    nodes = [StorageNode(number, directory / f"n{number}") for number in range(1, count + 1)]
    try:
        yield nodes
    finally:
        for node in nodes:
            node.end()


class AnyMap:
    """A guard for a cluster whose map nobody keeps."""

    def check_write(self, block: int, chain: Sequence[int], map_epoch: int) -> None:
        """Say yes."""

    def check_holders(self, block: int, chain: Sequence[int]) -> None:
        """Refuse nothing."""

    def learn(self, map_epoch: int) -> None:
        """There is nothing to learn."""

    def check_read(self, block: int, map_epoch: int) -> None:
        """Say yes."""


def _serve(control: "Connection", node: int, directory: str) -> None:
    path = Path(directory)
    (path / "store").mkdir(parents=True)
    store = BlockStore(path / "store", StoreSettings())
    store.open()
    servicer = StorageServicer(store, node, AnyMap(), patience=STILL)
    server = ThreadServer()
    register(servicer, server)
    address = server.listen("127.0.0.1:0")
    unix_path = str(path / "lane.sock")
    server.listen(f"unix:{unix_path}")
    control.send((int(address.rpartition(":")[2]), unix_path))
    while control.recv():
        usage = store.usage()
        control.send((usage.puts, usage.syncs, time.process_time()))
    os._exit(0)
