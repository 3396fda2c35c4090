"""Fetches blocks from one holder into the store: every page checked as it arrives, sealed durable, or not at all."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from blockyard.proto import errors, logs
from blockyard.proto.blocks.pages import whole_checksum
from blockyard.storagenode.store import BlockStore, NewBlock, OpenBlock
from blockyard.storagenode.upkeep.dropped import Dropped
from blockyard.storagenode.upkeep.exchange import Missing
from blockyard.storagenode.upkeep.pace import Stopped, TokenBucket
from blockyard.storagenode.upkeep.peers import Peers
from blockyard.storagenode.upkeep.sources import SMALL_BYTES, TOGETHER_BYTES, Pull

PIECE_BYTES: Final = 1 << 20
RUN_BYTES: Final = 4 << 20
"""Bytes asked for in one request, after the throttle let them through: nobody waits within a request."""
_ABSENT: Final = (errors.UnknownBlock, errors.NotSealed)
_log = logs.get(__name__)


class Throttle:
    """A token bucket that threads wait at."""

    def __init__(self, bytes_per_second: int, stopping: threading.Event) -> None:
        """0 lets everything through. Waiting ends when `stopping` is set."""
        self.passed_bytes = 0
        self._bucket = TokenBucket(bytes_per_second, min(bytes_per_second, RUN_BYTES), time.monotonic())
        self._stopping = stopping
        self._lock = threading.Lock()

    def wait(self, amount: int) -> None:
        """Wait until `amount` bytes may be moved. Raises Stopped when the process ends."""
        with self._lock:
            self.passed_bytes += amount
            wait_s = self._bucket.take(amount, time.monotonic())
        if self._stopping.wait(wait_s) if wait_s else self._stopping.is_set():
            raise Stopped


@dataclass(slots=True)
class Outcome:
    """What became of one request."""

    pull: Pull
    stored: list[Missing] = field(default_factory=list)
    refused: list[Missing] = field(default_factory=list)  # not delivered by this holder: another may
    again: list[Missing] = field(default_factory=list)  # not reached: the same holder may be asked again
    answered: bool = True  # the holder is in order, whatever it lacks
    full: bool = False  # this node's disk has no room


class Puller:
    """Carries out one request at a time per thread; threads share it."""

    def __init__(self, store: BlockStore, peers: Peers, dropped: Dropped, throttle: Throttle) -> None:
        self._store = store
        self._peers = peers
        self._dropped = dropped
        self._throttle = throttle
        self._buffers = threading.local()

    def pull(self, pull: Pull) -> Outcome:
        """Fetch the blocks of one request. Raises Stopped when the process ends; nothing half is left behind."""
        outcome = Outcome(pull)
        try:
            if pull.blocks[0].length >= SMALL_BYTES:
                self._large(pull, outcome)
            else:
                self._small(pull, outcome)
        except errors.NoSpace as error:
            outcome.full = True
            _log.info("no_room", blocks=len(pull.blocks), why=error)
        except errors.BlockyardError as error:
            outcome.answered = False
            stored = {missing.block for missing in outcome.stored}
            known = stored | {missing.block for missing in outcome.refused}
            outcome.refused += [missing for missing in pull.blocks if missing.block not in known]
            _log.warning("pull_failed", source=pull.source, blocks=len(pull.blocks), why=error)
        for missing in outcome.stored:
            if missing.block in self._dropped:
                self._store.drop([missing.block])  # it died while it was on its way
        return outcome

    # ------------------------------------------------------------------------------------------ large

    def _large(self, pull: Pull, outcome: Outcome) -> None:
        [missing] = pull.blocks
        try:
            block = self._store.begin(missing.block, missing.length, reserve=True)
        except errors.Exists:
            return  # sealed meanwhile, or being written by somebody else
        sealed = False
        try:
            sums: list[int] = []
            for start in range(0, missing.length, RUN_BYTES):
                piece = self._run(pull.source, missing, start, block, sums)
                if piece is not None:
                    self._refuse(outcome, missing, piece)
                    return
            block.seal(missing.length, whole_checksum(sums, missing.length), durable=True)
            sealed = True
            outcome.stored.append(missing)
        except errors.CorruptBlock as error:
            self._refuse(outcome, missing, error)
        finally:
            if not sealed:
                block.abort()

    def _run(
        self, source: int, missing: Missing, start: int, block: OpenBlock, sums: list[int]
    ) -> errors.BlockyardError | None:
        """Fetch one run of a block; return why the holder cannot deliver it."""
        end = min(start + RUN_BYTES, missing.length)
        self._throttle.wait(end - start)
        wanted = [(missing, at, min(PIECE_BYTES, end - at)) for at in range(start, end, PIECE_BYTES)]
        for _, data, pages in self._peers.read(source, wanted, self._buffer()):
            if isinstance(pages, errors.BlockyardError):
                return pages
            block.append(data, pages)
            sums += pages
        return None

    # ------------------------------------------------------------------------------------------ small

    def _small(self, pull: Pull, outcome: Outcome) -> None:
        self._throttle.wait(pull.bytes)
        arrived: list[tuple[Missing, NewBlock]] = []
        data = bytearray(pull.bytes)
        length = 0
        buffer = self._buffer()
        try:
            wanted = [(missing, 0, missing.length) for missing in pull.blocks]
            for index, view, pages in self._peers.read(pull.source, wanted, buffer):
                missing = pull.blocks[index]
                if isinstance(pages, errors.BlockyardError):
                    self._refuse(outcome, missing, pages)
                    continue
                data[length : length + missing.length] = view
                length += missing.length
                arrived.append((missing, NewBlock(missing.block, missing.length, tuple(pages))))
        except errors.CorruptBlock as error:
            bad = len(arrived) + len(outcome.refused)  # the call ended there
            self._refuse(outcome, pull.blocks[bad], error)
            outcome.again += pull.blocks[bad + 1 :]
        self._put(outcome, arrived, memoryview(data)[:length])

    def _put(self, outcome: Outcome, arrived: Sequence[tuple[Missing, NewBlock]], data: memoryview) -> None:
        if not arrived:
            return
        try:
            self._store.put([new for _, new in arrived], data, durable=True, reserve=True)
        except errors.Exists:
            self._put_one_by_one(outcome, arrived, data)
            return
        outcome.stored += [missing for missing, _ in arrived]

    def _put_one_by_one(self, outcome: Outcome, arrived: Sequence[tuple[Missing, NewBlock]], data: memoryview) -> None:
        """One of the blocks is here already, with other content or still open: the others shall not suffer for it."""
        at = 0
        for missing, new in arrived:
            try:
                self._store.put([new], data[at : at + missing.length], durable=True, reserve=True)
                outcome.stored.append(missing)
            except errors.Exists as error:
                _log.warning("pulled_block_exists", block=f"{missing.block:#x}", why=error)
            at += missing.length

    # ------------------------------------------------------------------------------------------ within

    def _refuse(self, outcome: Outcome, missing: Missing, error: errors.BlockyardError) -> None:
        """A holder cannot deliver a block. When its replica is bad, it is told, so that it replaces it."""
        outcome.refused.append(missing)
        if isinstance(error, _ABSENT):
            return
        _log.warning("bad_source", block=f"{missing.block:#x}", source=outcome.pull.source, why=error)
        try:
            self._peers.suspect(outcome.pull.source, missing.block, error.message)
        except errors.BlockyardError as unreachable:
            _log.warning("bad_source_not_told", source=outcome.pull.source, why=unreachable)

    def _buffer(self) -> memoryview:
        buffer: memoryview | None = getattr(self._buffers, "view", None)
        if buffer is None:
            buffer = self._buffers.view = memoryview(bytearray(max(PIECE_BYTES, TOGETHER_BYTES)))
        return buffer
