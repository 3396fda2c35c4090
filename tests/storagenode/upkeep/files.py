"""Blocks that files refer to, and a look at what nodes hold and say: what the tests of upkeep have in common."""

import socket
import urllib.request
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
from blockyard.proto.common_pb2 import Caller, RequestId
from blockyard.proto.errors import BlockyardError
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.proto.metadata_pb2 import PutFileRequest, Slice, UnlinkRequest
from blockyard.proto.metadata_pb2_grpc import MetadataStub
from blockyard.proto.storage_pb2 import ListBlocksReply, ListBlocksRequest

from tests.support.acknowledged import Acknowledged, AcknowledgedBlocks
from tests.support.storage_cluster import StorageCluster, wait_until

ROOT = 1
ME = Caller(uid=0, gid=0)


class Files(AcknowledgedBlocks):
    """Acknowledged blocks that can be made files, one each, and deleted."""

    def __init__(self, cluster: StorageCluster, seed: int = 1) -> None:
        super().__init__(cluster, seed)
        self.metadata: Any = MetadataStub(cast(grpc.Channel, cluster.group))

    def commit(self, blocks: Iterable[Acknowledged]) -> None:
        """Make a file of each block."""
        for each in blocks:
            length = len(each.data)
            part = Slice(position=0, length=length, block=each.block, block_offset=0, block_length=length)
            request = PutFileRequest(
                caller=ME, request=self._request(), parent=ROOT, name=_name(each.block), mode=0o600, slices=[part],
                size=length,
            )  # fmt: skip
            self.metadata.PutFile(request)

    def delete(self, blocks: Sequence[Acknowledged]) -> set[int]:
        """Unlink files: their blocks are dead. Return their ids; they are demanded no longer."""
        for each in blocks:
            self.metadata.Unlink(UnlinkRequest(caller=ME, request=self._request(), parent=ROOT, name=_name(each.block)))
            del self.blocks[each.block]
        return {each.block for each in blocks}

    def _request(self) -> RequestId:
        sequence = next(self._sequences)
        return RequestId(session=self.session, sequence=sequence, answered_below=sequence)


def held(cluster: StorageCluster, name: str, among: Iterable[int]) -> set[int]:
    """Return which blocks of `among` a node lists as sealed."""
    wanted = set(among)
    stub = cluster.stub(name)
    found: set[int] = set()
    for group in {block >> SEQUENCE_BITS for block in wanted}:
        reply: ListBlocksReply = stub.ListBlocks(ListBlocksRequest(group=group, limit=100_000))
        found |= wanted & set(reply.blocks)
    return found


def copies(cluster: StorageCluster, names: Iterable[str], among: Iterable[int]) -> dict[int, int]:
    """Return how many of some nodes list each block; a node that does not answer has nothing."""
    blocks = set(among)
    counts = dict.fromkeys(blocks, 0)
    for name in names:
        try:
            found = held(cluster, name, blocks)
        except BlockyardError:
            continue
        for block in found:
            counts[block] += 1
    return counts


def metric(cluster: StorageCluster, name: str, sample: str) -> float:
    """Return a sample of a node's metrics, as Prometheus would fetch it; a starting node has few at first."""
    node = cluster.nodes[name]

    def fetched() -> list[str]:
        with urllib.request.urlopen(f"http://{node.host}:{node.metrics_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return [line.split()[1] for line in lines if line.startswith(sample + " ")]

    [value] = wait_until(fetched, f"{name} has {sample}")
    return float(value)


def start_again(cluster: StorageCluster, *names: str) -> None:
    """Start nodes that were ended a moment ago, and wait until it is the new processes that are up."""
    cluster.start(*names)
    for name in names:
        wait_until(partial(answers, cluster, name), f"{name} serves again")
    cluster.until_up(*names)


def answers(cluster: StorageCluster, name: str) -> bool:
    node = cluster.nodes[name]
    assert node.running, node.output()[-2000:]
    try:
        socket.create_connection((node.host, node.metrics_port), timeout=1).close()
    except OSError:
        return False
    return True


def _name(block: int) -> bytes:
    return b"%016x" % block


def spoil(cluster: StorageCluster, name: str, written: Acknowledged) -> Path:
    """Flip a bit of a block's bytes on a node's disk, wherever they are; return the file."""
    wanted = written.data[:4096]
    assert len(wanted) > 32, "so few bytes may be anywhere by chance"
    for path in sorted(cluster.nodes[name].directory.rglob("*")):
        if path.is_file() and path.stat().st_size >= len(written.data):
            at = path.read_bytes().find(wanted)
            if at >= 0:
                with path.open("r+b") as file:
                    file.seek(at + len(wanted) // 2)
                    file.write(bytes([wanted[len(wanted) // 2] ^ 1]))
                return path
    raise AssertionError(f"{name} has no bytes of block {written.block:#x}")
