"""One inode that this client has open: what its handles share, so that each sees what the others wrote.

G4: a read shows every write this client made before it, flushed or not, and what others had closed when the file was
opened here. G3: its bytes passed their checksums.
"""

import threading
import time
from typing import Final

from blockyard.client.engine import Engine
from blockyard.client.metadata.session import Session
from blockyard.client.reader.read_ahead import ReadAhead
from blockyard.client.reader.slice_map import Segment, SliceMap
from blockyard.client.writer.file_writer import FileWriter
from blockyard.proto import errors
from blockyard.proto.metadata_pb2 import Attributes, ReadSlicesReply, ReadSlicesRequest

_ASKED_BYTES: Final = 1 << 30
"""How much of a file's plan is asked for at once."""


class OpenInode:
    """A regular file in use. Any number of threads may use it."""

    def __init__(self, engine: Engine, session: Session, attributes: Attributes) -> None:
        self.engine = engine
        self.session = session
        self.inode = attributes.inode
        self.attributes = attributes
        self.writer: FileWriter | None = None
        self.readers: dict[int, None] = {}
        """Handles open for reading: any of them gives the right to ask for slices."""
        self.writers: dict[int, None] = {}
        """Handles open for writing."""
        self._checked_s = time.monotonic()
        self._slices = SliceMap(-1)
        self._asking = threading.Lock()  # for slices; never held while bytes are moved
        self._switching = threading.Lock()  # guards `writer`
        self._hardening = threading.Lock()  # whoever has it shortens `_unsynced`
        self._unsynced: list[tuple[int, int]] = []  # every writer's; each of them lets it grow
        self._seeing = threading.Lock()  # guards `attributes`

    # ------------------------------------------------------------------------------------------ attributes

    @property
    def size(self) -> int:
        """Bytes of the file as this client sees it, its own unflushed writes counted."""
        writer = self.writer
        if writer is None or writer.is_clean:
            return int(self.attributes.size)
        if writer.append:
            return int(self.attributes.size) + writer.waiting_appends
        return max(int(self.attributes.size), writer.end)

    def saw(self, attributes: Attributes) -> None:
        """A reply carried the file's attributes."""
        self.engine.link.namespace.saw(attributes)
        with self._seeing:
            if attributes.version >= self.attributes.version:
                self.attributes = attributes
                self._checked_s = time.monotonic()

    def refresh(self) -> None:
        """Ask for the attributes as they are now."""
        self.saw(self.engine.link.namespace.fresh(self.inode))

    # ------------------------------------------------------------------------------------------ writing

    def writing(self, *, append: bool) -> FileWriter:
        """Return where bytes are written to; bytes written the other way are flushed first."""
        writer = self.writer
        if writer is not None and writer.append == append:
            return writer
        with self._switching:
            if self.writer is None or self.writer.append != append:
                if self.writer is not None:
                    self.writer.flush()
                self.writer = self.engine.writer(self, append=append)
                self.writer.handles = self.writers
                self.writer.unsynced = self._unsynced
            return self.writer

    def flush(self, *, durable: bool = False, closing: int = 0) -> bool:
        """Make what was written visible, and durable; return whether the handle `closing` was closed with it."""
        writer = self.writer
        if writer is None:
            return False
        closed = writer.flush(durable=durable, closing=closing)
        if durable:
            with self._hardening:  # what another thread is making durable is not yet
                blocks = list(self._unsynced)
                if blocks:
                    self._harden(blocks)
                    del self._unsynced[: len(blocks)]
        return closed

    def _harden(self, blocks: list[tuple[int, int]]) -> None:
        """Make blocks durable that were written without a sync, but for those that were overwritten since."""
        size = int(self.attributes.size)
        used = {segment.block for segment in self.segments(0, size)} if size else set()
        self.engine.harden([each for each in blocks if each[0] in used], self.session)

    # ------------------------------------------------------------------------------------------ reading

    def read_into(self, position: int, view: memoryview, habit: ReadAhead) -> int:
        """Fill `view` from `position` on; return how many bytes there were, fewer than asked only at the file's end."""
        writer = self.writer
        if writer is not None and writer.append and not writer.is_clean:
            writer.flush()  # only the commit says where its bytes are
        count = min(view.nbytes, self.size - position)
        if count < view.nbytes and time.monotonic() - self._checked_s > self.engine.age_s:
            self.refresh()  # another client may have made it longer
            count = min(view.nbytes, self.size - position)
        if count <= 0:
            return 0
        view = view[:count]
        over = self._written(position, position + count)
        self._read_committed(position, view, habit)
        for start, data in over:
            view[start - position : start - position + len(data)] = data
        return count

    def segments(self, start: int, end: int) -> list[Segment]:
        """Return what the committed bytes [start, end) consist of; `end` is not behind the file's."""
        with self._asking:
            for _ in range(1_000):
                if self._slices.version != self.attributes.version:
                    self._slices = SliceMap(self.attributes.version)
                if self._slices.knows(start, end):
                    return list(self._slices.segments(start, end))
                self._ask(self._slices.next_to_ask(start), end)
        raise errors.Busy(f"inode {self.inode} changes faster than its slices can be read")

    def learn(self, offset: int, end: int, reply: ReadSlicesReply) -> None:
        """Take in slices that came with another reply."""
        with self._asking:
            self.saw(reply.attributes)
            self._slices = SliceMap(reply.attributes.version)
            self._slices.learn(offset, end, reply)

    def _written(self, start: int, end: int) -> list[tuple[int, bytes]]:
        writer = self.writer
        if writer is None or writer.is_clean:
            return []
        over = writer.overlay(start, end)
        if over is None:
            writer.flush()
            return writer.overlay(start, end) or []
        return over

    def _read_committed(self, position: int, view: memoryview, habit: ReadAhead) -> None:
        size = int(self.attributes.size)
        within = max(0, min(view.nbytes, size - position))
        if within < view.nbytes:
            view[within:] = bytes(view.nbytes - within)
        if not within:
            return
        bytes_of = self.engine.bytes
        start, end = habit.advance(position, position + within)
        if start < (end := min(end, size)):
            bytes_of.prepare(self.segments(start, end))
        while True:
            segments = self.segments(position, position + within)
            try:
                bytes_of.read(segments, view[:within], ahead=habit.is_sequential)
            except errors.UnknownBlock:
                version = self.attributes.version
                self.refresh()  # the file was changed or compacted, and the old blocks are gone
                if self.attributes.version == version:
                    raise
            else:
                return

    def _ask(self, offset: int, end: int) -> None:
        length = max(end - offset, _ASKED_BYTES)
        handle = next(iter(self.readers), 0)
        request = ReadSlicesRequest(inode=self.inode, offset=offset, length=length, handle=handle)
        reply = self.engine.link.calls.read("ReadSlices", request)
        self.saw(reply.attributes)
        if reply.attributes.version != self._slices.version:
            self._slices = SliceMap(reply.attributes.version)
        self._slices.learn(offset, max(min(offset + length, reply.attributes.size), offset), reply)
