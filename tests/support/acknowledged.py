"""Writes blocks to a cluster, remembers which were acknowledged, and demands them of the nodes.

An acknowledged block is one whose put or seal returned. Nobody commits these blocks, so they live only as long as the
session that leased their ids; it is kept for as long as this object is.
"""

import contextlib
import itertools
import random
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
from blockyard.proto import errors
from blockyard.proto.blocks import ChainSender, PutOutcome, PutQueues, SealedBlock, Wanted, page_checksums, read_ranges
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import LeaseBlockIdsRequest
from blockyard.proto.common_pb2 import RequestId
from blockyard.proto.ids import BLOCK, PlacementGroup
from blockyard.proto.metadata_pb2 import OpenSessionRequest
from blockyard.proto.metadata_pb2_grpc import MetadataStub
from blockyard.proto.storage_pb2 import (
    ChainNode,
    HintRepairRequest,
    PageChecksums,
    PutBlock,
    VerifyBlockReply,
    VerifyBlockRequest,
)
from crc32c import crc32c

from tests.support.storage_cluster import StorageCluster, wait_until

SESSION_MS = 3_600_000
SMALL_BYTES = 5_000
LARGE_BYTES = 1_200_000


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A block that some nodes said they hold."""

    block: int
    data: bytes
    nodes: tuple[int, ...]


class AcknowledgedBlocks:
    """Blocks of one writer."""

    def __init__(self, cluster: StorageCluster, seed: int = 1) -> None:
        self.cluster = cluster
        self.blocks: dict[int, Acknowledged] = {}
        self._random = random.Random(seed)
        self._sequences = itertools.count(1)
        metadata: Any = MetadataStub(cast(grpc.Channel, cluster.group))
        opening = OpenSessionRequest(client="test", nonce=secrets.randbits(63) | 1, term_ms=SESSION_MS)
        self.session: int = metadata.OpenSession(opening).session
        self._puts = PutQueues(cluster.channels)

    def close(self) -> None:
        """Let puts under way finish."""
        self._puts.close()

    # ------------------------------------------------------------------------------------------ writing

    def lease(self, count: int) -> list[int]:
        """Return ids for new blocks, in groups that can be written to."""
        sequence = next(self._sequences)
        request = LeaseBlockIdsRequest(
            request=RequestId(session=self.session, sequence=sequence, answered_below=sequence), count=count
        )
        ranges = self.cluster.cluster.LeaseBlockIds(request).ranges
        return [
            BLOCK.join(PlacementGroup(each.group), each.first_sequence + i)
            for each in ranges
            for i in range(each.count)
        ]

    def put(self, count: int = 1, length: int = SMALL_BYTES, durable: bool = True) -> list[Acknowledged]:
        """Put small blocks of up to `length` bytes; return those that were acknowledged, all of them."""
        view = self.cluster.view()
        waiting = []
        for block in self.lease(count):
            data = self._random.randbytes(self._random.randint(1, length))
            put = PutBlock(block=block, length=len(data), checksums=PageChecksums(crc32c=page_checksums(data)))
            outcome = self._puts.submit(
                view.chain(block), [put], data, durable=durable, write_min=view.write_min, map_epoch=view.epoch,
                session=self.session,
            )  # fmt: skip
            waiting.append((block, data, outcome))
        return [self._note(block, data, outcome.result(30)) for block, data, outcome in waiting]

    def write(self, count: int = 1, length: int = LARGE_BYTES, durable: bool = True) -> list[Acknowledged]:
        """Write large blocks of `length` bytes along chains."""
        view = self.cluster.view()
        return [self.write_along(block, view.chain(block), view.epoch, length, durable) for block in self.lease(count)]

    def write_along(
        self, block: int, chain: Sequence[ChainNode], map_epoch: int, length: int = LARGE_BYTES, durable: bool = True
    ) -> Acknowledged:
        """Write one block of `length` bytes along a chain, as planned under a map. Raises what the nodes say."""
        data = self._random.randbytes(length)
        with ChainSender(
            self.cluster.channels, block, chain, durable=durable, write_min=min(2, len(chain)), map_epoch=map_epoch,
            session=self.session,
        ) as sender:  # fmt: skip
            sender.append(data)
            return self._note(block, data, sender.seal())

    def _note(self, block: int, data: bytes, outcome: PutOutcome | SealedBlock) -> Acknowledged:
        """Remember a block, and tell nodes that were left out; a chain's first node is known to its writer alone."""
        self.blocks[block] = Acknowledged(block, data, tuple(outcome.nodes))
        view = self.cluster.view() if outcome.failed else None
        for number in outcome.failed:
            assert view is not None
            hint = HintRepairRequest(group=view.group_of(block), node=outcome.nodes[0], map_epoch=view.epoch)
            with contextlib.suppress(errors.BlockyardError):
                self.cluster.channels.stub(view.node(number).address()).HintRepair(hint, timeout=1)
        return self.blocks[block]

    # ------------------------------------------------------------------------------------------ reading

    def read(self, block: int, view: ClusterView | None = None) -> bytes:
        """Read a block from the first holder that delivers it. Raises NoReplica."""
        view = view or self.cluster.view()
        buffer = bytearray(len(self.blocks[block].data))
        said: list[object] = []
        for node in view.readers(block):
            try:
                wanted = [Wanted(block, 0, buffer)]
                [error] = read_ranges(self.cluster.channels, node.in_chain(), wanted, map_epoch=view.epoch)
            except errors.BlockyardError as failed:
                error = failed
            if error is None:
                return bytes(buffer)
            said.append(error)
        raise errors.NoReplica(f"block {block:#x}: {said}")

    def assert_readable(self, blocks: Iterable[int] | None = None) -> None:
        """Demand that every acknowledged block reads as it was written."""
        view = self.cluster.view()
        for block in self.blocks if blocks is None else blocks:
            assert self.read(block, view) == self.blocks[block].data, f"block {block:#x} has other bytes"

    def missing(self) -> Iterator[tuple[int, int, str]]:
        """Yield block, node and what is wrong, for every holder in the map that does not have a block as written."""
        view = self.cluster.view()
        for block, written in self.blocks.items():
            for number in view.groups[view.group_of(block)].nodes:
                wrong = self._wrong(view, number, written)
                if wrong:
                    yield block, number, wrong

    def assert_whole(self) -> None:
        """Demand that every acknowledged block is on every node that the map wants to hold it."""
        found = list(self.missing())
        assert not found, f"{len(found)} replicas are missing or wrong, such as {found[:5]}"

    def until_whole(self, timeout_s: float = 60.0) -> None:
        """Wait until repair has made every acknowledged block whole."""
        try:
            wait_until(lambda: next(self.missing(), None) is None, "every acknowledged block is whole", timeout_s)
        finally:
            self.assert_whole()

    def _wrong(self, view: ClusterView, number: int, written: Acknowledged) -> str:
        stub = self.cluster.channels.stub(view.node(number).address())
        try:
            found: VerifyBlockReply = stub.VerifyBlock(VerifyBlockRequest(block=written.block, reason="test"))
        except errors.BlockyardError as error:
            return str(error)
        if not found.good or found.length != len(written.data) or found.crc32c != crc32c(written.data):
            return f"good {found.good}, length {found.length} of {len(written.data)}, checksum {found.crc32c:08x}"
        return ""
