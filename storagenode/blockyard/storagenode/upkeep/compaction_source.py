"""Where a rewriting finds its bytes: this node's own replicas, and other holders for what is not here or not sound.

Every page is verified before a byte of it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from blockyard.proto import errors, logs
from blockyard.proto.blocks import BlockPlace, Channels, Wanted, read_pages, read_ranges
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import BLOCK_DEAD, BLOCK_LIVE, BLOCK_UNKNOWN, BlockFate
from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.upkeep.compaction_plan import Part, by_block

RANGES_AT_ONCE: Final = 1_024

AskFates = Callable[[Sequence[int]], Sequence[BlockFate] | None]
"""Asks the metadata group for the fates of blocks; None when it does not answer."""

_log = logs.get(__name__)


class _Wish:
    """A part that other holders are asked for."""

    def __init__(self, part: Part, holders: list[int]) -> None:
        self.part = part
        self.holders = holders
        """Those that are still to be asked, nearest first."""
        self.error: errors.BlockyardError = errors.UnknownBlock(f"no other node holds block {part.block:#x}")
        """What the last one said."""


class CompactionSource:
    """Reads parts of blocks for one job. Used by one thread."""

    def __init__(self, store: BlockStore, node: int, view: ClusterView, channels: Channels, fates: AskFates) -> None:
        self._store = store
        self._fates = fates
        self._node = node
        self._view = view
        self._channels = channels
        self._silent: set[int] = set()
        """Nodes that did not answer a request: they are asked last."""

    def read(self, parts: Sequence[Part], window: memoryview) -> None:
        """Put every part at its place in the window; those of blocks that died meanwhile may stay as they are.

        Raises UnknownBlock, CorruptBlock or what kept the last holder from answering when a part cannot be had.
        """
        elsewhere: list[Part] = []
        for block, wanted in by_block(parts).items():
            if not self._read_own(block, wanted, window):
                elsewhere += wanted
        for start in range(0, len(elsewhere), RANGES_AT_ONCE):
            self._read_others(elsewhere[start : start + RANGES_AT_ONCE], window)

    # ------------------------------------------------------------------------------------------ own replicas

    def _read_own(self, block: int, parts: Sequence[Part], window: memoryview) -> bool:
        """Read a block's parts from this node's replica; False when there is none, or it is not sound."""
        try:
            with self._store.open_range(block) as replica:
                place = BlockPlace(block, replica.fd, replica.file_offset, replica.length, replica.checksums)
                wanted = [(part.offset, window[part.at : part.at + part.length]) for part in parts]
                failed = [error for error in read_pages(place, wanted) if error is not None]
        except errors.UnknownBlock:
            return False
        if failed:  # a page is bad, or the replica is shorter than what is referred to
            _log.warning("block_corrupt", block=block, why=failed[0].message)
            self._store.quarantine(block, failed[0].message)
        return not failed

    # ------------------------------------------------------------------------------------------ other holders

    def _read_others(self, parts: Sequence[Part], window: memoryview) -> None:
        """Read parts from other holders: each from its nearest, those that failed from the next."""
        lost: dict[int, errors.BlockyardError] = {}
        waiting = [_Wish(part, self._holders(part.block)) for part in parts]
        while waiting:
            by_node: dict[int, list[_Wish]] = {}
            for wish in waiting:
                if wish.holders:
                    by_node.setdefault(wish.holders.pop(0), []).append(wish)
                else:
                    lost[wish.part.block] = wish.error
            waiting = []
            for node, wishes in by_node.items():
                outcomes = self._ask(node, [wish.part for wish in wishes], window)
                for wish, error in zip(wishes, outcomes, strict=True):
                    if error is not None:
                        wish.error = error
                        waiting.append(wish)
        self._require_dead(lost)

    def _require_dead(self, lost: Mapping[int, errors.BlockyardError]) -> None:
        """Raise what kept a block from being read unless it is dead: then nothing refers to it, nor ever will.

        A chunk that is being overwritten loses blocks while it is rewritten; the swap leaves their places alone, so
        what the new block has there is never read.
        """
        fates = self._fates(list(lost)) if lost else ()
        for (_, error), fate in zip(lost.items(), fates or [BLOCK_LIVE] * len(lost), strict=True):
            if fate not in (BLOCK_DEAD, BLOCK_UNKNOWN):
                raise error

    def _holders(self, block: int) -> list[int]:
        readers = self._view.readers(block, near_node=self._node, avoid=self._silent)
        return [node.id for node in readers if node.id != self._node]

    def _ask(self, node: int, parts: Sequence[Part], window: memoryview) -> Sequence[errors.BlockyardError | None]:
        wanted = [Wanted(part.block, part.offset, window[part.at : part.at + part.length]) for part in parts]
        try:
            return read_ranges(
                self._channels, self._view.node(node).in_chain(), wanted, map_epoch=self._view.epoch, cold=True
            )
        except errors.BlockyardError as error:
            self._silent.add(node)
            return [error] * len(parts)
