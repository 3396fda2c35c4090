"""What a rewriting of a chunk reads, in which order, and what comes out. Pure.

The visible bytes are laid one after the other into one block, in windows of bounded size, each of them parts of blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blockyard.proto import errors
from blockyard.proto.blocks import BLOCK_LIMIT_BYTES
from blockyard.proto.storage_pb2 import CompactChunkRequest, CompactSlice


@dataclass(frozen=True, slots=True)
class Part:
    """`length` bytes of a block from byte `offset`, which belong at `at` of the window."""

    block: int
    offset: int
    length: int
    at: int


@dataclass(frozen=True, slots=True)
class Rewriting:
    """One new block and what it is made of."""

    block: int
    length: int
    slices: tuple[CompactSlice, ...]

    @classmethod
    def of(cls, request: CompactChunkRequest) -> "Rewriting":
        """Return what a request asks for. Raises InvalidArgument on slices that overlap or are none of a chunk."""
        slices = tuple(request.slices)
        end = length = 0
        for each in slices:
            if each.position < end or not each.length or not each.block:
                raise errors.InvalidArgument(f"slice at {each.position} of {each.length} bytes, after one up to {end}")
            end = each.position + each.length
            length += each.length
        if not slices or end > BLOCK_LIMIT_BYTES:
            raise errors.InvalidArgument(f"{len(slices)} slices up to byte {end} of the chunk")
        if len(request.blocks) != 1 or not request.blocks[0]:
            raise errors.InvalidArgument(f"{len(request.blocks)} ids came for one new block")
        return cls(request.blocks[0], length, slices)

    def result(self) -> list[CompactSlice]:
        """Return the new block's slices: those of the request, joined where they touch."""
        found: list[CompactSlice] = []
        done = 0
        for each in self.slices:
            if found and found[-1].position + found[-1].length == each.position:
                found[-1].length += each.length
            else:
                found.append(
                    CompactSlice(position=each.position, length=each.length, block=self.block, block_offset=done)
                )
            done += each.length
        return found

    def windows(self, window_bytes: int) -> Iterator[tuple[int, list[Part]]]:
        """Yield the new block's bytes in order: the length of each window, all but the last full, and its parts."""
        parts: list[Part] = []
        filled = 0
        for each in self.slices:
            done = 0
            while done < each.length:
                length = min(each.length - done, window_bytes - filled)
                parts.append(Part(each.block, each.block_offset + done, length, filled))
                done += length
                filled += length
                if filled == window_bytes:
                    yield filled, parts
                    parts, filled = [], 0
        if parts:
            yield filled, parts


def by_block(parts: Sequence[Part]) -> dict[int, list[Part]]:
    """Return the parts of each block, in their order."""
    found: dict[int, list[Part]] = {}
    for part in parts:
        found.setdefault(part.block, []).append(part)
    return found
