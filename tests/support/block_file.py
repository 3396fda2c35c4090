"""One file on a cluster of real processes, written in small pieces and read whole: a bare client for tests and benches.

Every write is a block of its own; many of them are put and committed together. Reads verify every page.
"""

import itertools
import secrets
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Final, cast

import grpc
from blockyard.proto import errors
from blockyard.proto.blocks import ChainSender, PutOutcome, PutQueues, Wanted, page_checksums, read_ranges
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import LeaseBlockIdsRequest
from blockyard.proto.common_pb2 import Caller, RequestId
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.proto.metadata_pb2 import (
    CommitSlicesRequest,
    CreateRequest,
    FileCommit,
    OpenSessionRequest,
    ReadSlicesReply,
    ReadSlicesRequest,
    SetAttributesRequest,
    Slice,
    UnlinkRequest,
)
from blockyard.proto.metadata_pb2_grpc import MetadataStub
from blockyard.proto.storage_pb2 import PageChecksums, PutBlock

from tests.support.storage_cluster import StorageCluster

CHUNK_BYTES: Final = 64 << 20
SUPERUSER: Final = Caller(uid=0, gid=0)
SESSION_MS: Final = 600_000
RANGES_AT_ONCE: Final = 1_024
LISTS_ASKED: Final = 5
ROOT: Final = 1


class BlockFile:
    """A file below the root. Used by one thread."""

    def __init__(self, cluster: StorageCluster, name: str, durable: bool = True) -> None:
        self.name = name.encode()
        self.written = 0
        """Bytes given to `overwrite`."""
        self._cluster = cluster
        self._durable = durable
        self._metadata: Any = MetadataStub(cast(grpc.Channel, cluster.group))
        self._sequences = itertools.count(1)
        self._puts = PutQueues(cluster.channels, stall_s=20.0)
        opening = OpenSessionRequest(client="block file", nonce=secrets.randbits(63) | 1, term_ms=SESSION_MS)
        self.session: int = self._metadata.OpenSession(opening).session
        request = CreateRequest(request=self._request(), caller=SUPERUSER, parent=ROOT, name=self.name, mode=0o644)
        self.inode: int = self._metadata.Create(request).attributes.inode

    def close(self) -> None:
        """Let puts under way finish."""
        self._puts.close()

    def _request(self) -> RequestId:
        sequence = next(self._sequences)
        return RequestId(session=self.session, sequence=sequence, answered_below=sequence)

    # ------------------------------------------------------------------------------------------ writing

    def fill(self, data: memoryview) -> None:
        """Write the file's first bytes as large blocks, one per chunk."""
        view = self._cluster.view()
        pieces = []
        for start in range(0, data.nbytes, CHUNK_BYTES):
            part = data[start : start + CHUNK_BYTES]
            [block] = self._lease(1)
            with ChainSender(
                self._cluster.channels, block, view.chain(block), durable=self._durable, write_min=view.write_min,
                map_epoch=view.epoch, session=self.session,
            ) as sender:  # fmt: skip
                for at in range(0, part.nbytes, 4 << 20):
                    sender.append(part[at : at + (4 << 20)])
                sender.seal()
            pieces.append(Slice(position=start, length=part.nbytes, block=block, block_length=part.nbytes))
        self._commit(pieces)

    def overwrite(self, writes: Sequence[tuple[int, bytes]]) -> None:
        """Write pieces at positions, none across a border between chunks, in order; all visible at the return."""
        view = self._cluster.view()
        groups: dict[int, list[tuple[int, bytes]]] = {}
        pieces = []
        for (position, data), block in zip(writes, self._lease(len(writes)), strict=True):
            groups.setdefault(block >> SEQUENCE_BITS, []).append((block, data))
            pieces.append(Slice(position=position, length=len(data), block=block, block_length=len(data)))
            self.written += len(data)
        for outcome in [self._put(view, blocks) for blocks in groups.values()]:
            outcome.result(30)
        self._commit(pieces)

    def _put(self, view: ClusterView, blocks: Sequence[tuple[int, bytes]]) -> "Future[PutOutcome]":
        return self._puts.submit(
            view.chain(blocks[0][0]),
            [
                PutBlock(block=block, length=len(data), checksums=PageChecksums(crc32c=page_checksums(data)))
                for block, data in blocks
            ],
            b"".join([data for _, data in blocks]),
            durable=self._durable,
            write_min=view.write_min,
            map_epoch=view.epoch,
            session=self.session,
        )

    def _lease(self, count: int) -> list[int]:
        request = LeaseBlockIdsRequest(request=self._request(), count=count)
        return [
            leased.group << SEQUENCE_BITS | leased.first_sequence + number
            for leased in self._cluster.cluster.LeaseBlockIds(request).ranges
            for number in range(leased.count)
        ]

    def _commit(self, pieces: Sequence[Slice]) -> None:
        request = CommitSlicesRequest(
            request=self._request(), caller=SUPERUSER, files=[FileCommit(inode=self.inode, slices=pieces)]
        )
        [file] = self._metadata.CommitSlices(request).files
        if file.HasField("error"):
            raise errors.from_detail(file.error)

    def truncate(self, size: int) -> None:
        """Cut the file off."""
        request = SetAttributesRequest(request=self._request(), caller=SUPERUSER, inode=self.inode, size=size)
        self._metadata.SetAttributes(request)

    def unlink(self) -> None:
        """Remove the file."""
        self._metadata.Unlink(UnlinkRequest(request=self._request(), caller=SUPERUSER, parent=ROOT, name=self.name))

    # ------------------------------------------------------------------------------------------ reading

    def slices(self, start: int = 0, length: int = 0) -> list[Slice]:
        """Return what a range of the file, or all of it, is made of."""
        found: list[Slice] = []
        while True:
            request = ReadSlicesRequest(caller=SUPERUSER, inode=self.inode, offset=start, length=length)
            reply: ReadSlicesReply = self._metadata.ReadSlices(request)
            found += reply.slices
            if not reply.next_offset:
                return found
            if length:
                length -= reply.next_offset - start
            start = reply.next_offset

    def read(self, start: int, into: memoryview) -> None:
        """Read a range, chunk by chunk. Raises what kept the last holder from answering.

        A block may be compacted away and dropped between the list and the read: then the list is asked for again.
        """
        for at in range(0, into.nbytes, CHUNK_BYTES):
            part = into[at : at + CHUNK_BYTES]
            for left in reversed(range(LISTS_ASKED)):
                error = self._read_listed(start + at, part)
                if error is None:
                    break
                if not left:
                    raise error

    def _read_listed(self, start: int, into: memoryview) -> errors.BlockyardError | None:
        """Read what the list says now; return why that cannot be had."""
        view = self._cluster.view()
        into[:] = bytes(into.nbytes)
        waiting = [
            (Wanted(each.block, each.block_offset, into[at : at + each.length]), view.readers(each.block))
            for each in self.slices(start, into.nbytes)
            for at in [each.position - start]
        ]
        while waiting:
            by_node: dict[int, list[int]] = {}
            for number, (_, readers) in enumerate(waiting):
                by_node.setdefault(readers.pop(0).id, []).append(number)
            failed = []
            for node, numbers in by_node.items():
                for low in range(0, len(numbers), RANGES_AT_ONCE):
                    asked = numbers[low : low + RANGES_AT_ONCE]
                    outcomes = self._read_from(view, node, [waiting[number][0] for number in asked])
                    for number, error in zip(asked, outcomes, strict=True):
                        if error is not None and not waiting[number][1]:
                            return error
                        if error is not None:
                            failed.append(waiting[number])
            waiting = failed
        return None

    def _read_from(
        self, view: ClusterView, node: int, wanted: Sequence[Wanted]
    ) -> Sequence[errors.BlockyardError | None]:
        try:
            return read_ranges(self._cluster.channels, view.node(node).in_chain(), wanted, map_epoch=view.epoch)
        except errors.BlockyardError as error:
            return [error] * len(wanted)
