"""One upload on its way to its nodes, in steps that a pool of threads carries out."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from blockyard.client.metadata.session import Session
from blockyard.client.writer.block_writer import BlockWriter, PageCutter, Written
from blockyard.client.writer.file_core import PUT_BYTES, Upload
from blockyard.proto import errors, logs
from blockyard.proto.blocks import ChainSender
from blockyard.proto.blocks.pages import Buffer
from blockyard.proto.retry import Retry

_log = logs.get(__name__)


@dataclass(slots=True)
class _Attempt:
    """A chain that takes the upload's bytes."""

    written: Written
    sender: ChainSender
    cutter: PageCutter
    sent: int = 0
    """Pieces given to the chain."""


class StreamJob:
    """Sends an upload's pieces as they come. While none come no thread is taken.

    The pieces stay in memory until the block is sealed: when too few nodes of its chain are left it is written again
    from its first byte, on others.
    """

    def __init__(
        self,
        blocks: BlockWriter,
        pool: Executor,
        upload: Upload,
        session: Session,
        *,
        lock: threading.Condition,
        durable: Callable[[], bool],
        done: Callable[[Upload, Written | None, errors.BlockyardError | None], None],
    ) -> None:
        """`lock` guards the upload; `done` is called without it, with the block, or with the error."""
        self._blocks = blocks
        self._pool = pool
        self._upload = upload
        self._session = session
        self._lock = lock
        self._durable = durable
        self._done = done
        self._scheduled = False
        self._cancelled = False
        self._attempt: _Attempt | None = None
        self._attempts: Retry | None = None

    def wake(self) -> None:
        """There are new pieces, or the upload has ended. Called with the lock."""
        if not self._scheduled:
            self._scheduled = True
            self._pool.submit(self._run)

    def run_here(self) -> None:
        """Do in this thread what is to be done, unless another is at it. Called without the lock."""
        with self._lock:
            if self._scheduled:
                return
            self._scheduled = True
        self._run()

    def cancel(self) -> None:
        """Nobody wants the block any more. Called with the lock."""
        self._cancelled = True
        self.wake()

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except errors.BlockyardError as error:
            self._give_up(error)
        except BaseException as error:
            self._give_up(errors.from_exception(error))
            raise

    def _step(self) -> bool:
        """Send what is there; return whether to go on at once. Raises what ends the upload."""
        if self._cancelled:
            self._drop_attempt()
            return False
        with self._lock:
            upload = self._upload
            attempt = self._attempt
            pieces = upload.pieces[attempt.sent if attempt is not None else 0 :]
            ended, length = upload.ended, upload.length
            if not pieces and not ended:
                self._scheduled = False
                return False
        if attempt is None and ended and length <= PUT_BYTES:
            durable = self._durable()
            self._finish(self._put(pieces, durable), durable)
            return False
        try:
            written = self._send(pieces, ended)
        except errors.BlockyardError as error:
            self._drop_attempt()
            if self._attempts is None:
                self._attempts = self._blocks.attempts(time.monotonic() + self._blocks.link.deadline_s)
            self._blocks.wait_after(self._attempts, error)
            return True
        self._attempts = None
        if written is None:
            return True
        self._finish(written, durable=True)  # the sync of one block overlaps with the bytes of the next
        return False

    def _finish(self, written: Written, durable: bool) -> None:
        with self._lock:
            self._scheduled = False
            self._upload.durable = durable
        self._done(self._upload, written, None)

    def _put(self, pieces: list[memoryview], durable: bool) -> Written:
        content: Buffer = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        deadline_s = time.monotonic() + self._blocks.link.deadline_s
        return self._blocks.put(content, self._session, durable=durable, deadline_s=deadline_s)

    def _send(self, pieces: list[memoryview], ended: bool) -> Written | None:
        """Send pieces down the chain; return the block once it is sealed."""
        if self._session.is_over:
            raise errors.SessionExpired(f"session {self._session.number} is over")
        attempt = self._attempt
        if attempt is None:
            written, sender = self._blocks.open(self._session, durable=True)
            attempt = self._attempt = _Attempt(written, sender, PageCutter(sender.append))
        for piece in pieces:
            attempt.cutter.add(piece)
            attempt.sent += 1
        if not ended:
            return None
        attempt.cutter.end()
        sealed = attempt.sender.seal()
        self._blocks.ids.failed(sealed.failed)
        self._attempt = None
        return attempt.written

    def _drop_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._blocks.ids.failed(attempt.sender.failed)
            attempt.sender.abort()

    def _give_up(self, error: errors.BlockyardError) -> None:
        self._drop_attempt()
        _log.warning("upload_failed", bytes=self._upload.length, why=str(error))
        with self._lock:
            self._scheduled = False
            self._attempts = None
        self._done(self._upload, None, error)
