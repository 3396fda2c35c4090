"""A client's end of a write chain: one block, from its first byte to its seal."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from blockyard.proto import errors
from blockyard.proto.blocks.chain import Patience
from blockyard.proto.blocks.chain_link import TICK_S, ChainLink
from blockyard.proto.blocks.channels import Channels
from blockyard.proto.blocks.pages import BLOCK_LIMIT_BYTES, PAGE_BYTES, Buffer, PageSums, page_checksums
from blockyard.proto.storage_pb2 import BlockToken, ChainNode, WriteOpen


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """A block that can be read from now on."""

    block: int
    length: int
    checksums: tuple[int, ...]
    """CRC32C of each page."""
    nodes: tuple[int, ...]
    """Ids of the nodes that hold it, at least `write_min`."""
    failed: tuple[int, ...]
    """Ids of the nodes that were cut out."""


class ChainSender:
    """Writes one block through a chain of nodes. Used by one thread.

    Any error that is raised ends the block: what nodes had of it disappears, at once or after their grace period.
    """

    def __init__(
        self,
        channels: Channels,
        block: int,
        chain: Sequence[ChainNode],
        *,
        durable: bool,
        write_min: int,
        map_epoch: int,
        session: int = 0,
        token: BlockToken | None = None,
        expected_bytes: int = 0,
        cold: bool = False,
        patience: Patience | None = None,
    ) -> None:
        """`durable`: the seal means that every node in its answer has the block on stable storage.

        `cold`: the nodes need not keep its bytes in memory.
        """
        opening = WriteOpen(
            block=block,
            durable=durable,
            expected_bytes=expected_bytes,
            cold=cold,
            write_min=write_min,
            map_epoch=map_epoch,
            token=token,
            session=session,
        )
        self._block = block
        self._write_min = write_min
        self._held = _Held()
        self._link = ChainLink(
            channels,
            opening,
            chain,
            self._held,
            holders_before=0,
            write_min=write_min,
            patience=patience or Patience(),
        )
        self._over = False

    @property
    def acknowledged(self) -> int:
        """Bytes that every live node of the chain has received and checked."""
        return self._link.core.acknowledged

    @property
    def failed(self) -> tuple[int, ...]:
        """Nodes that were cut out so far."""
        return tuple(self._link.core.failed)

    def open(self) -> None:
        """Open the block. Raises StaleEpoch and other refusals, BelowWriteMin when too few nodes can be reached."""
        with _Guard(self):
            self._link.open()
            self._settle()

    def append(self, data: Buffer) -> None:
        """Send bytes; returns once all have left, without waiting for their acknowledgement beyond the window.

        `data` must stay as it is until `acknowledged` covers it. Only the last may have a length that is no multiple
        of `PAGE_BYTES`. Raises BelowWriteMin when too few nodes are left, and what the nodes refuse the block for.
        """
        assert not self._over, "the block has ended"
        with _Guard(self):
            self._held.add(data)
            self._link.offer(self._held.sums.length)
            self._settle()
            self._release()

    def seal(self) -> SealedBlock:
        """End the block and return where it is. Raises BelowWriteMin when fewer than `write_min` nodes hold it."""
        assert not self._over, "the block has ended"
        sums, core = self._held.sums, self._link.core
        with _Guard(self):
            self._link.seal(sums.length, sums.whole())
            while not core.is_done:
                self._link.poll(TICK_S)
                self._check_minimum()
            self._check_minimum()
        self._over = True
        self._link.close()
        return SealedBlock(self._block, sums.length, tuple(sums.all()), core.nodes, tuple(core.failed))

    def abort(self) -> None:
        """Give the block up; nodes that cannot be told forget it after their grace period."""
        if not self._over:
            self._over = True
            self._link.abort()

    def __enter__(self) -> "ChainSender":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _settle(self) -> None:
        self._check_minimum()
        for _ in self._link.settle():
            self._check_minimum()
        self._check_minimum()

    def _check_minimum(self) -> None:
        core = self._link.core
        if core.is_below_minimum or not core.chain:
            raise errors.BelowWriteMin(
                f"{len(core.chain)} nodes of the chain are left and {self._write_min} must hold the block; nodes "
                f"{core.failed} failed: write it again elsewhere",
                str(self._block),
            )

    def _release(self) -> None:
        acknowledged = self._link.core.acknowledged
        self._held.release(acknowledged)
        self._link.core.release(self._held.base)


class _Guard:
    """Gives the block up when anything goes wrong."""

    def __init__(self, sender: ChainSender) -> None:
        self._sender = sender

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._sender.abort()


class _Held:
    """The caller's buffers that are not acknowledged yet."""

    def __init__(self) -> None:
        self.sums = PageSums()
        self.base = 0
        self._buffers: deque[tuple[int, memoryview]] = deque()

    def add(self, data: Buffer) -> None:
        """Keep the next bytes of the block. Raises InvalidArgument when the block ended before, or becomes too long."""
        view = memoryview(data).cast("B")
        start = self.sums.length
        if start % PAGE_BYTES or not view.nbytes:
            raise errors.InvalidArgument("only the last append may end within a page, and none is empty")
        if start + view.nbytes > BLOCK_LIMIT_BYTES:
            raise errors.InvalidArgument(f"a block has at most {BLOCK_LIMIT_BYTES:,} bytes")
        self.sums.add(start + view.nbytes, page_checksums(view))
        self._buffers.append((start, view))

    def release(self, acknowledged: int) -> None:
        """Every live node has the bytes before `acknowledged`: let buffers go that lie before."""
        while self._buffers and self._buffers[0][0] + self._buffers[0][1].nbytes <= acknowledged:
            start, view = self._buffers.popleft()
            self.base = start + view.nbytes

    def read(self, start: int, end: int) -> memoryview:
        for at, view in self._buffers:
            if at <= start < at + view.nbytes:
                if end <= at + view.nbytes:
                    return view[start - at : end - at]
                return memoryview(b"".join(self._parts(start, end)))
        raise AssertionError(f"bytes {start} to {end} are held no longer")

    def checksums(self, start: int, end: int) -> Sequence[int]:
        return self.sums.between(start, end)

    def _parts(self, start: int, end: int) -> list[memoryview]:
        return [
            view[max(0, start - at) : end - at] for at, view in self._buffers if at < end and at + view.nbytes > start
        ]
