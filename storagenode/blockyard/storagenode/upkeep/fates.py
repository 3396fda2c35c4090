"""What the metadata group says about blocks, asked in pieces that do not hold up its leader."""

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from blockyard.proto import errors, logs
from blockyard.proto.cluster_pb2 import BlockFate, CheckBlocksReply, CheckBlocksRequest

ASKED_AT_ONCE: Final = 2_000
ANSWER_S: Final = 5.0
REST_S: Final = 5.0
"""After a question that was not answered no other is asked for so long: a survey of many groups shall not hang."""
_log = logs.get(__name__)


class Fates:
    """Asks for the fates of blocks, for one node."""

    def __init__(self, cluster: Any, node: int, incarnation: int) -> None:
        """`cluster` is a stub of the Cluster service."""
        self._cluster = cluster
        self._node = node
        self._incarnation = incarnation
        self._rests_until = 0.0
        self._lock = threading.Lock()

    def ask(self, blocks: Sequence[int]) -> Sequence[BlockFate] | None:
        """Return a fate per block, in order; None when the metadata group does not answer now."""
        if time.monotonic() < self._rests_until:
            return None
        fates: list[BlockFate] = []
        try:
            for start in range(0, len(blocks), ASKED_AT_ONCE):
                fates += self._ask(blocks[start : start + ASKED_AT_ONCE])
        except errors.BlockyardError as error:
            _log.warning("fates_unknown", blocks=len(blocks), why=error)
            with self._lock:
                self._rests_until = time.monotonic() + REST_S
            return None
        return fates

    def _ask(self, blocks: Sequence[int]) -> Sequence[BlockFate]:
        request = CheckBlocksRequest(node=self._node, incarnation=self._incarnation, blocks=blocks)
        reply: CheckBlocksReply = self._cluster.CheckBlocks(request, timeout=ANSWER_S)
        if len(reply.fates) != len(blocks):
            raise errors.MalformedReply(f"{len(reply.fates)} fates for {len(blocks)} blocks")
        return reply.fates
