"""Writes one block onto enough nodes, wherever that is: another id, another group, other nodes, until the deadline."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from random import Random
from typing import Final, NamedTuple

from blockyard.client.cluster_link import ClusterLink
from blockyard.client.metadata.session import Session
from blockyard.client.writer.file_core import PUT_BYTES
from blockyard.client.writer.id_stock import IdStock
from blockyard.proto import errors, logs
from blockyard.proto.blocks import PAGE_BYTES, ChainSender, PutOutcome, PutQueues, is_refusal, page_checksums
from blockyard.proto.blocks.pages import Buffer
from blockyard.proto.retry import Retry, RetryPolicy
from blockyard.proto.storage_pb2 import ChainNode, PageChecksums, PutBlock

_POLICY: Final = RetryPolicy(attempts_limit=1_000_000, first_wait_s=0.02, longest_wait_s=0.5)
_ELSEWHERE: Final = (errors.StaleEpoch, errors.Exists, errors.BelowWriteMin, errors.ChainBroken)
"""Refusals after which another block id, or a newer map, helps."""
_FINAL: Final = (errors.NoSpace, errors.DeadlineExceeded)
_log = logs.get(__name__)


class Written(NamedTuple):
    """A block that was written, and the epoch of the map that said where."""

    block: int
    epoch: int


class BlockWriter:
    """Puts small blocks, opens chains for large ones. Any number of threads may use it."""

    def __init__(self, link: ClusterLink) -> None:
        self.link = link
        self.ids = IdStock(link)
        self.random = Random()
        self._puts = PutQueues(link.channels)

    def close(self) -> None:
        """Let the requests under way finish."""
        self._puts.close()

    def put(self, data: Buffer, session: Session, *, durable: bool, deadline_s: float) -> Written:
        """Write one block of at most 1 MiB."""
        return self.put_all([data], session, durable=durable, deadline_s=deadline_s)[0]

    def put_all(
        self, contents: Sequence[Buffer], session: Session, *, durable: bool, deadline_s: float, together: int = 64
    ) -> list[Written]:
        """Write one block for each of `contents`, `together` of them on the same nodes; return them in order."""
        blocks = [Written(0, 0)] * len(contents)
        waiting = list(range(len(contents)))
        attempts = self.attempts(deadline_s)
        while waiting:
            error: errors.BlockyardError | None = None
            sent = []
            try:
                for one in self._submit(contents, waiting, session, durable, together):
                    sent.append(one)
            except errors.BlockyardError as failure:
                error = failure
            for indexes, future, ids, epoch in sent:
                try:
                    outcome = future.result()
                except errors.BlockyardError as failure:
                    error = failure
                    continue
                self.ids.failed(outcome.failed)
                for index, block in zip(indexes, ids, strict=True):
                    blocks[index] = Written(block, epoch)
            waiting = [index for index in waiting if not blocks[index].block]
            if waiting:
                assert error is not None
                self.wait_after(attempts, error)
        return blocks

    def put_again(self, block: int, content: Buffer, session: Session, *, deadline_s: float) -> None:
        """Put a block that was put without a sync once more, with one: its nodes sync what they have."""
        attempts = self.attempts(deadline_s)
        while True:
            chain, epoch, write_min = self._chain(block)
            try:
                outcome = self._puts.submit(
                    chain,
                    [_put_block(block, content)],
                    content,
                    durable=True,
                    write_min=write_min,
                    map_epoch=epoch,
                    session=session.number,
                ).result()
            except errors.BlockyardError as error:
                self.wait_after(attempts, error)
            else:
                self.ids.failed(outcome.failed)
                return

    def open(self, session: Session, *, durable: bool) -> tuple[Written, ChainSender]:
        """Begin a large block; return what it will be and the sender, opened."""
        (block,) = self.ids.take(session)
        chain, epoch, write_min = self._chain(block)
        sender = ChainSender(
            self.link.channels,
            block,
            chain,
            durable=durable,
            write_min=write_min,
            map_epoch=epoch,
            session=session.number,
        )
        try:
            sender.open()
        except errors.BlockyardError:
            self.ids.failed(sender.failed)
            raise
        return Written(block, epoch), sender

    def write_whole(self, content: Buffer, session: Session, *, durable: bool, deadline_s: float) -> Written:
        """Write one block of any length whose bytes are all there."""
        if memoryview(content).nbytes <= PUT_BYTES:
            return self.put(content, session, durable=durable, deadline_s=deadline_s)
        attempts = self.attempts(deadline_s)
        while True:
            try:
                written, sender = self.open(session, durable=durable)
                sender.append(content)
                self.ids.failed(sender.seal().failed)
            except errors.BlockyardError as error:
                self.wait_after(attempts, error)
            else:
                return written

    def attempts(self, deadline_s: float) -> Retry:
        """Return what says how often and how long a block is tried."""
        return Retry(_POLICY, self.random, repeatable=True, deadline_s=deadline_s)

    def wait_after(self, attempts: Retry, error: errors.BlockyardError) -> None:
        """Wait until the block may be tried again, elsewhere. Raises `error` where that is no use."""
        if isinstance(error, errors.StaleEpoch):
            self.link.maps.at_least(error.map_epoch or self.link.maps.view().epoch + 1)
        elif isinstance(error, _FINAL) or (is_refusal(error) and not isinstance(error, _ELSEWHERE)):
            raise error
        wait_s = attempts.wait_after(errors.Overloaded(retry_after_ms=error.retry_after_ms), time.monotonic())
        if wait_s is None:
            raise error
        _log.info("block_written_elsewhere", why=str(error))
        time.sleep(wait_s)

    def _submit(
        self, contents: Sequence[Buffer], waiting: Sequence[int], session: Session, durable: bool, together: int
    ) -> Iterator[tuple[Sequence[int], "Future[PutOutcome]", list[int], int]]:
        """Send blocks in as many groups as it takes; yield indexes, outcome to come, ids, epoch of the map."""
        start = 0
        while start < len(waiting):
            ids = self.ids.take(session, min(together, len(waiting) - start))
            indexes = waiting[start : start + len(ids)]
            start += len(ids)
            chain, epoch, write_min = self._chain(ids[0])
            data = [contents[index] for index in indexes]
            puts = [_put_block(block, content) for block, content in zip(ids, data, strict=True)]
            if len(chain) < write_min:
                future: Future[PutOutcome] = Future()
                future.set_exception(errors.BelowWriteMin("too few nodes of the group are up", definite=True))
            else:
                future = self._puts.submit(
                    chain,
                    puts,
                    data[0] if len(data) == 1 else b"".join(data),
                    durable=durable,
                    write_min=write_min,
                    map_epoch=epoch,
                    session=session.number,
                )
            yield indexes, future, ids, epoch

    def _chain(self, block: int) -> tuple[list[ChainNode], int, int]:
        view = self.link.maps.view()
        near, zone = self.link.near(view)
        avoid = self.ids.avoided.now(time.monotonic())
        return view.chain(block, near, zone, avoid), view.epoch, view.write_min


def _put_block(block: int, content: Buffer) -> PutBlock:
    length = memoryview(content).nbytes
    return PutBlock(block=block, length=length, checksums=PageChecksums(crc32c=page_checksums(content)))


class PageCutter:
    """Cuts pieces of any length into runs of whole checksum pages; what is left over goes in front of the next."""

    def __init__(self, send: Callable[[Buffer], None]) -> None:
        self._send = send
        self._rest = b""

    def add(self, piece: Buffer) -> None:
        """Send as many whole pages as there are."""
        view = memoryview(piece)
        if self._rest:
            lack = PAGE_BYTES - len(self._rest)
            if view.nbytes < lack:
                self._rest += bytes(view)
                return
            self._send(self._rest + bytes(view[:lack]))
            view, self._rest = view[lack:], b""
        whole = view.nbytes - view.nbytes % PAGE_BYTES
        if whole:
            self._send(view[:whole])
        self._rest = bytes(view[whole:])

    def end(self) -> None:
        """Send what is left over."""
        if self._rest:
            self._send(self._rest)
            self._rest = b""
