"""What moves a client's bytes: threads, memory and the parts that readers and writers share.

Memory of a client: `write_buffer_bytes` of unwritten bytes (twice that at worst, when they lie scattered in half
pieces), `read_cache_bytes` read ahead, 64 MiB of idle buffers, and what it remembers of names. Nothing grows with what
it copies.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from blockyard.client.cluster_link import ClusterLink
from blockyard.client.metadata.handle_closer import HandleCloser
from blockyard.client.metadata.session import Session
from blockyard.client.piece_buffers import PIECE_BYTES, PieceBuffers
from blockyard.client.reader.byte_reader import ByteReader
from blockyard.client.reader.replicas import Replicas
from blockyard.client.writer.block_writer import BlockWriter
from blockyard.client.writer.budget import Budget
from blockyard.client.writer.file_writer import FileWriter, WriteParts
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.settings import ClientSettings

if TYPE_CHECKING:
    from blockyard.client.open_inode import OpenInode

WRITING_THREADS: Final = 8
READING_THREADS: Final = 8
IDLE_BUFFERS: Final = 32
"""Idle pieces kept for the next writes, and as many for what is read ahead."""
DIRTY_S: Final = 5.0
"""Written bytes leave memory after this long, whether anybody flushes or not."""


class Engine:
    """One process's access to one cluster. A forked child needs one of its own."""

    def __init__(self, settings: ClientSettings, caller: Caller | None = None) -> None:
        self.link = ClusterLink(settings, caller)
        client = settings.client
        self.age_s = client.attribute_cache_ms / 1000
        self.deadline_s = self.link.deadline_s
        self.writing = ThreadPoolExecutor(WRITING_THREADS, "blockyard-write")
        self.reading = ThreadPoolExecutor(READING_THREADS, "blockyard-read")
        self.background = ThreadPoolExecutor(2, "blockyard-background")
        self.blocks = BlockWriter(self.link)
        self.replicas = Replicas(self.link, self.background)
        self.bytes = ByteReader(
            self.replicas,
            self.reading,
            PieceBuffers(IDLE_BUFFERS),
            cache_bytes=client.read_cache_bytes,
            deadline_s=self.deadline_s,
        )
        self.budget = Budget(client.write_buffer_bytes, self._relieve)
        self.closer = HandleCloser(self.link.namespace, self.background)
        self.is_closed = False
        block_bytes = max(PIECE_BYTES, client.block_size_bytes - client.block_size_bytes % PIECE_BYTES)
        buffers = PieceBuffers(IDLE_BUFFERS)
        self._parts = WriteParts(
            self.blocks,
            self.link.commits,
            self.budget,
            buffers,
            self.writing,
            self.replicas.read,
            block_bytes,
            self.deadline_s,
        )
        self._lock = threading.Lock()
        self._writers: WeakSet[FileWriter] = WeakSet()
        self._stopping = threading.Event()
        self._flusher: threading.Thread | None = None

    def close(self) -> None:
        """End the session and every thread. Files that are still open lose what they did not flush."""
        self.is_closed = True
        self._stopping.set()
        if self._flusher is not None:
            self._flusher.join()
        with self._lock:
            writers = list(self._writers)
        for writer in writers:
            writer.abandon()
        for pool in (self.writing, self.reading, self.background):
            pool.shutdown(cancel_futures=True)
        self.blocks.close()
        self.replicas.close()
        self.link.close()

    def writer(self, file: "OpenInode", *, append: bool) -> FileWriter:
        """Return a new place for bytes that are written to `file`."""
        writer = FileWriter(self._parts, file.inode, file.session, append=append, committed=file.saw)
        with self._lock:
            self._writers.add(writer)
            if self._flusher is None:
                self._flusher = threading.Thread(target=self._flush_old, name="blockyard-flush", daemon=True)
                self._flusher.start()
        return writer

    def harden(self, blocks: list[tuple[int, int]], session: Session) -> None:
        """Make small blocks durable that were written without a sync: they are put once more, with one."""
        for block, length in blocks:
            content = memoryview(bytearray(length))
            deadline_s = time.monotonic() + self.deadline_s
            self.replicas.read(block, 0, content, deadline_s)
            self.blocks.put_again(block, content, session, deadline_s=deadline_s)

    def _relieve(self) -> None:
        """Memory is short: let the file go that holds most, unless some comes back anyway."""
        with self._lock:
            writers = list(self._writers)
        if any(writer.is_freeing for writer in writers):
            return
        largest = max(writers, key=lambda writer: writer.core.waiting_bytes, default=None)
        for writer in writers:
            if writer is largest or writer.has_failed:
                writer.relieve()

    def _flush_old(self) -> None:
        while not self._stopping.wait(DIRTY_S / 2):
            with self._lock:
                writers = list(self._writers)
            for writer in writers:
                if writer.dirty_since_s and time.monotonic() - writer.dirty_since_s > DIRTY_S:
                    writer.flush_in_background()
