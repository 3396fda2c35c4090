"""Storage nodes for tests of the service: real stores, real servers, on the lane, a Unix socket and gRPC."""

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
from blockyard.proto.blocks import PAGE_BYTES, Channels, Patience, Wanted, page_checksums, read_ranges
from blockyard.proto.common_pb2 import Address
from blockyard.proto.lane import ThreadServer
from blockyard.proto.metrics import TransportMetrics
from blockyard.proto.settings import Door
from blockyard.proto.storage_pb2 import (
    ChainNode,
    PageChecksums,
    PutBlock,
    WriteBlockRequest,
    WriteData,
    WriteOpen,
    WriteSeal,
)
from blockyard.proto.storage_pb2_grpc import StorageStub
from blockyard.storagenode.node.door_thread import DoorThread
from blockyard.storagenode.service import StorageServicer, register
from blockyard.storagenode.store import BlockStore, StoreSettings
from crc32c import crc32c

SETTINGS = StoreSettings(reserve_bytes=1 << 20)
PATIENCE = Patience(stall_s=2.0, hop_s=3.0)
"""Longer than usual: on a busy machine a node that merely waits for its turn shall not be taken for dead."""
_ids = itertools.count(5 << 48 | 1)


class AnyMap:
    """A guard that is told what to say."""

    def __init__(self) -> None:
        self.write_error: Exception | None = None
        self.read_error: Exception | None = None
        self.holders_error: Exception | None = None
        self.learned: list[int] = []

    def check_write(self, block: int, chain: Sequence[int], map_epoch: int) -> None:
        if self.write_error is not None:
            raise self.write_error

    def check_holders(self, block: int, chain: Sequence[int]) -> None:
        if self.holders_error is not None:
            raise self.holders_error

    def learn(self, map_epoch: int) -> None:
        self.learned.append(map_epoch)

    def check_read(self, block: int, map_epoch: int) -> None:
        if self.read_error is not None:
            raise self.read_error


class Node:
    """One node in this process."""

    def __init__(self, number: int, directory: Path, *, grpc_too: bool = False) -> None:
        self.number = number
        self.guard = AnyMap()
        (directory / f"n{number}").mkdir(exist_ok=True)
        self.store = BlockStore(directory / f"n{number}", SETTINGS)
        self.store.open()
        self.servicer = StorageServicer(self.store, number, self.guard, patience=PATIENCE)
        self.server = ThreadServer()
        register(self.servicer, self.server)
        port = int(self.server.listen("127.0.0.1:0").rpartition(":")[2])
        unix_path = str(directory / f"n{number}.sock")
        self.server.listen(f"unix:{unix_path}")
        self.door = DoorThread(Door(), TransportMetrics("grpc", "server"), 16) if grpc_too else None
        grpc_port = self.door.start(lambda door: register(self.servicer, door), "127.0.0.1", 0) if self.door else 0
        address = Address(host="127.0.0.1", lane_port=port, grpc_port=grpc_port, unix_path=unix_path)
        self.chain_node = ChainNode(node=number, address=address)

    def close(self) -> None:
        """Stop it."""
        self.server.stop(0)
        if self.door is not None:
            self.door.stop(0)
        self.servicer.close()
        self.store.close()


@contextmanager
def running(count: int, directory: Path, *, grpc_too: bool = False) -> Iterator[list[Node]]:
    """Run nodes 1 to `count`."""
    with ExitStack() as stack:
        nodes = []
        for number in range(1, count + 1):
            nodes.append(Node(number, directory, grpc_too=grpc_too))
            stack.callback(nodes[-1].close)
        yield nodes


def new_block() -> int:
    """Return an id that no other block of this process has."""
    return next(_ids)


def some_bytes(length: int) -> bytes:
    """Return random bytes."""
    return os.urandom(length)


def put_of(block: int, data: bytes) -> PutBlock:
    """Describe a small block."""
    return PutBlock(block=block, length=len(data), checksums=PageChecksums(crc32c=page_checksums(data)))


def read_back(channels: Channels, node: ChainNode, block: int, length: int) -> bytes:
    """Return a block as a node serves it, verified; raises what the node says."""
    into = bytearray(length)
    [outcome] = read_ranges(channels, node, [Wanted(block, 0, into)], map_epoch=0)
    if outcome is not None:
        raise outcome
    return bytes(into)


Step = tuple[WriteBlockRequest, bytes]


def opening(block: int, chain: Sequence[ChainNode], **fields: Any) -> Step:
    """Return the first step of a write."""
    fields.setdefault("write_min", 1)
    return WriteBlockRequest(open=WriteOpen(block=block, chain=chain, **fields)), b""


def appending(offset: int, data: bytes, checksums: Sequence[int] | None = None) -> Step:
    """Return a step that appends `data`, which begins at a page's start."""
    sums = PageChecksums(crc32c=page_checksums(data) if checksums is None else checksums)
    return WriteBlockRequest(append=WriteData(offset=offset, checksums=sums)), data


def sealing(data: bytes, **other: int) -> Step:
    """Return the seal of a block that holds `data`, some of it told otherwise."""
    return WriteBlockRequest(seal=WriteSeal(**{"length": len(data), "crc32c": crc32c(data), **other})), b""


def pieces_of(data: bytes, piece_bytes: int = 4 * PAGE_BYTES) -> list[Step]:
    """Return the steps that append all of `data`."""
    return [appending(at, data[at : at + piece_bytes]) for at in range(0, len(data), piece_bytes)]


def stub_over(channel: Any) -> Any:
    """Return a stub over any channel."""
    return StorageStub(cast(grpc.Channel, channel))
