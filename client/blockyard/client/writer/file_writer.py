"""The writing side of one open file: its uncommitted bytes, shared by all handles this client has on it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from blockyard.client.metadata.commits import Commits
from blockyard.client.metadata.session import Session
from blockyard.client.piece_buffers import PieceBuffers
from blockyard.client.writer.block_writer import BlockWriter, Written
from blockyard.client.writer.budget import Budget
from blockyard.client.writer.extents import Extent
from blockyard.client.writer.file_core import FileCore, Upload
from blockyard.client.writer.stream_job import StreamJob
from blockyard.proto import errors, logs
from blockyard.proto.metadata_pb2 import Attributes, FileCommit, Slice

COMMIT_AFTER_UPLOADS = 64
"""Blocks of a long stream after which the sealed ones are committed without anybody asking."""
SLICES_PER_COMMIT = 20_000
_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class WriteParts:
    """What every writer of a client shares."""

    blocks: BlockWriter
    commits: Commits
    budget: Budget
    buffers: PieceBuffers
    pool: Executor
    read: Callable[[int, int, memoryview, float], None]
    """Fills memory with bytes of a block, from an offset on, by a deadline."""
    block_bytes: int
    deadline_s: float


class FileWriter:
    """Bytes written and not committed yet. Any number of threads may use it.

    G1, G4: when `flush` returns, what was written before it is visible everywhere and held by at least `write_min`
    nodes; with `durable` it is also on stable storage of each of them. When it raises, some of it is not.

    An upload that fails in the background is told once, to the next call; its bytes stay, and `flush` tries them again
    and tells the truth about them. Only `drop`, and the loss of the session, give bytes up.
    """

    def __init__(
        self,
        parts: WriteParts,
        inode: int,
        session: Session,
        *,
        append: bool,
        committed: Callable[[Attributes], None],
    ) -> None:
        """`committed` is told the file's attributes after each commit, before the bytes leave this object's sight."""
        self.append = append
        self.session = session
        self.core = FileCore(parts.buffers, block_bytes=parts.block_bytes, append=append)
        self.dirty_since_s = 0.0
        self._parts = parts
        self._inode = inode
        self._committed = committed
        self._lock = threading.Condition()
        self._jobs: dict[int, StreamJob] = {}  # by the id() of their upload
        self._failed: dict[int, errors.BlockyardError] = {}
        self._untold: errors.BlockyardError | None = None
        self._committing = False
        self._durable = False
        self.handles: dict[int, None] = {}
        """Handles that are open for writing: any of them gives the right to commit."""
        self.unsynced: list[tuple[int, int]] = []
        """Blocks that were committed without a sync, and their lengths."""
        self._appended = 0

    # ------------------------------------------------------------------------------------------ what is known

    @property
    def is_clean(self) -> bool:
        """Whether nothing is uncommitted."""
        return self.core.is_clean

    @property
    def end(self) -> int:
        """The position behind the last uncommitted byte; 0 for none, and for appends."""
        with self._lock:
            return 0 if self.append else self.core.end

    @property
    def waiting_appends(self) -> int:
        """Bytes of an appending file that are not committed."""
        with self._lock:
            return self.core.extents.bytes + sum(upload.length for upload in self.core.uploads)

    def overlay(self, start: int, end: int) -> list[tuple[int, bytes]] | None:
        """Return copies of what memory holds of [start, end); None when the file must be flushed to know."""
        with self._lock:
            extents = None if self.append and not self.core.is_clean else self.core.overlay(start, end)
            return None if extents is None else [_cut(extent, start, end) for extent in extents]

    # ------------------------------------------------------------------------------------------ writing

    def write(self, position: int, data: memoryview) -> None:
        """Take over bytes at `position`; for an appending file the position is ignored.

        Raises the error of an upload that failed since the last call, DeadlineExceeded when no memory becomes free.
        """
        if self.session.is_over:
            raise errors.SessionExpired(f"session {self.session.number} is over: the file must be opened again")
        self.raise_untold()
        budget = self._parts.budget
        budget.take(data.nbytes, time.monotonic() + self._parts.deadline_s)
        core = self.core
        with self._lock:
            if self.append:
                position = self._appended
                self._appended += data.nbytes
            if not self.dirty_since_s:
                self.dirty_since_s = time.monotonic()
            before = core.extents.bytes + core.handed_bytes
            handed = core.handed_bytes
            begun = core.write(position, data)
            if core.handed_bytes != handed:
                self._start(begun)
            grown = core.extents.bytes + core.handed_bytes - before
        if grown < data.nbytes:
            budget.give_back(data.nbytes - grown)

    @property
    def is_freeing(self) -> bool:
        """Whether memory comes back without anybody doing anything: an ended upload is on its way."""
        with self._lock:
            uploads = self.core.uploads
            return any(each.ended and not each.block and id(each) not in self._failed for each in uploads)

    @property
    def has_failed(self) -> bool:
        """Whether an upload failed and waits to be tried again."""
        return bool(self._failed)

    def flush_in_background(self) -> None:
        """Flush; what goes wrong is told to the next call."""
        try:
            self.flush()
        except errors.BlockyardError as error:
            _log.warning("background_flush_failed", inode=self._inode, why=str(error))
            self._untold = error

    def relieve(self) -> None:
        """Let waiting bytes leave memory, without waiting for it."""
        with self._lock:
            self._let_go()

    def flush(self, *, durable: bool = False, closing: int = 0) -> bool:
        """Make everything written so far visible; return whether the handle `closing` was closed with it.

        `durable`: also on stable storage. Raises why something could not be written; it is tried again next time.
        """
        with self._lock:
            self._durable = self._durable or durable
            mine = self._let_go(but_one=True)
        if mine is not None:
            mine.run_here()  # one thread less to wake: most flushes are of one small block
        with self._lock:
            wanted = list(self.core.uploads)
            while (waiting := self._first_unsealed(wanted)) is not None:
                if id(waiting) in self._failed:
                    self._untold = None
                    raise self._failed[id(waiting)]
                self._lock.wait()
        closed = False
        while any(upload in self.core.uploads for upload in wanted):
            closed = self._commit(closing)
        self._untold = None
        return closed

    def drop(self) -> None:
        """Give up what is not committed."""
        with self._lock:
            self._parts.budget.give_back(self.core.drop())
            for job in self._jobs.values():
                job.cancel()
            self._jobs.clear()
            self._failed.clear()
            self._lock.notify_all()

    def abandon(self) -> None:
        """The file system is being closed: whoever waits for an upload hears that it will not come."""
        with self._lock:
            for upload in self.core.uploads:
                if not upload.block:
                    self._failed[id(upload)] = errors.Unavailable("the file system was closed")
            self._lock.notify_all()

    def raise_untold(self) -> None:
        """Raise the error of a failed upload that nobody was told yet."""
        if self._untold is not None:
            with self._lock:
                error, self._untold = self._untold, None
            if error is not None:
                raise error

    # ------------------------------------------------------------------------------------------ uploads

    def _let_go(self, *, but_one: bool = False) -> StreamJob | None:
        """Start everything that waits; with `but_one` return one job that the caller has to run."""
        again = [upload for upload in self.core.uploads if id(upload) in self._failed]
        self._failed.clear()
        self.dirty_since_s = 0.0
        return self._start([*again, *self.core.flush()], but_one=but_one)

    def _start(self, uploads: list[Upload], *, but_one: bool = False) -> StreamJob | None:
        for upload in uploads:
            self._jobs[id(upload)] = StreamJob(
                self._parts.blocks,
                self._parts.pool,
                upload,
                self.session,
                lock=self._lock,
                durable=lambda: self._durable,
                done=self._sealed,
            )
        jobs = list(self._jobs.values())
        left = jobs.pop() if but_one and uploads else None
        for job in jobs:
            job.wake()
        return left

    def _sealed(self, upload: Upload, written: Written | None, error: errors.BlockyardError | None) -> None:
        """An upload has its block, or failed."""
        with self._lock:
            if self._jobs.pop(id(upload), None) is None:
                return  # it was given up meanwhile
            if written is None:
                assert error is not None
                self._failed[id(upload)] = self._untold = error
            else:
                upload.block, upload.epoch = written
                for buffer in upload.buffers:
                    self._parts.buffers.give_back(buffer)
                upload.pieces, upload.buffers = [], []
                self._parts.budget.give_back(upload.length)
            self._lock.notify_all()
            many = len(self.core.uploads) > COMMIT_AFTER_UPLOADS and not self._committing
        if many:
            self._parts.pool.submit(self._commit_in_background)

    def _first_unsealed(self, wanted: list[Upload]) -> Upload | None:
        return next((upload for upload in wanted if not upload.block and upload in self.core.uploads), None)

    # ------------------------------------------------------------------------------------------ commits

    def _commit(self, closing: int = 0) -> bool:
        """Commit what is sealed, in order; return whether the handle `closing` was closed with it."""
        with self._lock:
            while self._committing:
                self._lock.wait()
            ready = _few(self.core.committable())
            if not ready:
                return False
            self._committing = True
            close = closing != 0 and len(ready) == len(self.core.uploads) and not self.core.extents
        try:
            handle = closing or next(iter(self.handles), 0)
            commit = FileCommit(inode=self._inode, handle=handle, append=self.append, close=close)
            for upload in ready:
                commit.slices.extend(_slices(upload))
            outcome = self._parts.commits.commit(commit, self.session, min(upload.epoch for upload in ready))
            self._committed(outcome.attributes)
            self._end_commit(ready)
        except errors.StaleEpoch as error:
            self._rewrite(ready, error.map_epoch)
            close = False
        except errors.BlockyardError as error:
            if self.append and not error.definite:  # a second commit might append the same once more
                self._end_commit(ready)
            raise
        finally:
            with self._lock:
                self._committing = False
                self._lock.notify_all()
        return close

    def _rewrite(self, uploads: list[Upload], epoch: int) -> None:
        """The nodes that blocks were written to were let go before the commit: write them again where the map is now.

        Their bytes are read back, from whoever still has them. Raises when nobody has.
        """
        self._parts.blocks.link.maps.at_least(epoch)
        for upload in uploads:
            content = memoryview(bytearray(upload.length))
            deadline_s = time.monotonic() + self._parts.deadline_s
            self._parts.read(upload.block, 0, content, deadline_s)
            written = self._parts.blocks.write_whole(
                content, self.session, durable=upload.durable, deadline_s=deadline_s
            )
            upload.block, upload.epoch = written

    def _end_commit(self, uploads: list[Upload]) -> None:
        with self._lock:
            if uploads[0] in self.core.uploads:
                self.unsynced += [(upload.block, upload.length) for upload in uploads if not upload.durable]
                self.core.committed(uploads)  # from here on nobody waits for them

    def _commit_in_background(self) -> None:
        try:
            self._commit()
        except errors.BlockyardError as error:
            _log.warning("commit_failed", inode=self._inode, why=str(error))
            self._untold = error


def _few(uploads: list[Upload]) -> list[Upload]:
    """Return as many of the uploads, from the first, as one commit carries."""
    slices = 0
    for count, upload in enumerate(uploads):
        slices += len(upload.parts)
        if slices > SLICES_PER_COMMIT and count:
            return uploads[:count]
    return uploads


def _slices(upload: Upload) -> list[Slice]:
    return [
        Slice(
            position=part.position,
            length=part.length,
            block=upload.block,
            block_offset=part.offset,
            block_length=upload.length,
        )
        for part in upload.parts
    ]


def _cut(extent: Extent, start: int, end: int) -> tuple[int, bytes]:
    low, high = max(start, extent.start), min(end, extent.end)
    return low, bytes(extent.data[low - extent.start : high - extent.start])
