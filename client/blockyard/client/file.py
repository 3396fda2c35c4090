"""Open files: Python's raw file on top of an open inode."""

import io
import os
from typing import TYPE_CHECKING

from blockyard.client.locks import FileLocks
from blockyard.client.metadata.calls import session_expired
from blockyard.client.open_inode import OpenInode
from blockyard.client.reader.read_ahead import ReadAhead
from blockyard.proto import errors
from blockyard.proto.metadata_pb2 import CopyRangeRequest, SetAttributesRequest

if TYPE_CHECKING:
    from blockyard.client.filesystem import Filesystem
    from typing_extensions import Buffer
else:
    Buffer = bytes | bytearray | memoryview


class RawFile(io.RawIOBase):
    """One handle on a file. Any number of threads may use it; `tell` and `seek` are theirs to agree on.

    `flush` makes what was written visible to whoever opens the file then, held by at least `write_min` nodes (G4).
    `fsync` also makes it survive a power cut of all machines (G1). `close` flushes; it raises when that fails. Writes
    of a file opened for appending go, flush by flush and each as one piece, to its end as it is then.
    """

    mode: str
    name: str

    def __init__(
        self, filesystem: "Filesystem", file: OpenInode, handle: int, flags: int, path: str, mode: str
    ) -> None:
        self._filesystem = filesystem
        self._file = file
        self._handle = handle
        self._reads = flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)
        self._writes = flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)
        self._appends = bool(flags & os.O_APPEND)
        self._position = file.size if self._appends else 0
        self._habit = ReadAhead()
        self.locks = FileLocks(file, handle, path)
        self.name = path
        self.mode = mode

    # ------------------------------------------------------------------------------------------ reading

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` from the position on; return how many bytes, fewer only at the end of the file.

        Holes read as zeros. Sees every write this client made, and others' that were closed before this file was
        opened. Raises CorruptBlock when no replica passes its checksum, NoReplica when none can be reached in time,
        StaleHandle when the inode is gone.
        """
        count = self.pread_into(buffer, self._position)
        self._position += count
        return count

    def pread_into(self, buffer: Buffer, position: int) -> int:
        """Like `readinto`, at `position`, which does not move the file's own."""
        self._check(self._reads, "reading")
        try:
            return self._file.read_into(position, memoryview(buffer).cast("B"), self._habit)
        except OSError as error:
            raise self._named(error) from None

    def pread(self, size: int, position: int) -> bytes:
        """Return up to `size` bytes from `position` on."""
        buffer = bytearray(max(0, min(size, self._file.size - position)))
        return bytes(memoryview(buffer)[: self.pread_into(buffer, position)])

    def readall(self) -> bytes:
        """Return everything from the position to the end."""
        parts = []
        while part := self.pread(max(self._file.size - self._position, 1), self._position):
            self._position += len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # ------------------------------------------------------------------------------------------ writing

    def write(self, data: Buffer, /) -> int:
        """Take over all of `data` at the position, or to the end of an appending file; return its length in bytes.

        The bytes wait in memory, at most for seconds, and leave it in the background; what went wrong there is raised
        by the next call, and again by `flush`, `fsync` or `close` unless they succeed in writing it.
        """
        count = self.pwrite(data, self._position)
        self._position = self._file.size if self._appends else self._position + count
        return count

    def pwrite(self, data: Buffer, position: int) -> int:
        """Like `write`, at `position`, which does not move the file's own."""
        self._check(self._writes, "writing")
        view = memoryview(data).cast("B")
        if view.nbytes:
            if position < 0 or position + view.nbytes > 1 << 58:
                raise self._named(errors.FileTooBig(f"bytes {position} to {position + view.nbytes}"))
            try:
                writer = self._file.writing(append=self._appends)
                for start in range(0, view.nbytes, 1 << 20):
                    writer.write(position + start, view[start : start + (1 << 20)])
            except OSError as error:
                raise self._named(error) from None
        return view.nbytes

    def copy_to(self, target: "RawFile", offset: int = 0, into: int = 0, length: int | None = None) -> int:
        """Let `length` bytes of `target` from byte `into` on be those of this file from `offset` on (None: all).

        Both then share blocks; no byte is moved. Return how many there were.
        """
        self._check(self._reads, "reading")
        target._check(target._writes, "writing")
        self._file.flush()
        target._file.flush()
        wanted = self._file.size - offset if length is None else length
        done = 0
        try:
            while done < wanted:
                request = CopyRangeRequest(
                    source=self._file.inode,
                    source_offset=offset + done,
                    source_handle=self._handle,
                    target=target._file.inode,
                    target_offset=into + done,
                    target_handle=target._handle,
                    length=wanted - done,
                )
                reply = self._file.engine.link.calls.change("CopyRange", request, self._file.session)
                target._file.saw(reply.attributes)
                if not reply.copied:
                    break
                done += reply.copied
        except OSError as error:
            error.filename, error.filename2 = self.name, target.name
            raise
        return done

    def truncate(self, size: int | None = None, /) -> int:
        """Make the file `size` bytes long (None: up to the position) for everybody, at once; return the size."""
        self._check(self._writes, "writing")
        size = self._position if size is None else size
        if size < 0:
            raise self._named(errors.InvalidArgument(f"a size of {size} bytes"))
        try:
            self._file.flush()
            request = SetAttributesRequest(inode=self._file.inode, handle=self._handle, size=size)
            reply = self._file.engine.link.namespace.edit("SetAttributes", request, self._file.session)
            self._file.saw(reply.attributes)
        except OSError as error:
            raise self._named(error) from None
        return size

    def flush(self) -> None:
        """Make everything written visible to whoever opens the file from now on. Raises why that cannot be done."""
        super().flush()
        if self._writes and self._handle and self._is_ours():
            self._flush(durable=False)

    def fsync(self) -> None:
        """Make everything written visible, and durable: it survives the power cut of every machine (G1)."""
        self._check(True, "")
        self._flush(durable=True)

    def close(self) -> None:
        """Flush and give the handle back. Raises when what was written could not be: those bytes are lost then."""
        handle, self._handle = self._handle, 0
        try:
            if handle and self._is_ours():
                self._filesystem.closed(self._file, handle, self.locks)
        except OSError as error:
            raise self._named(error) from None
        finally:
            super().close()

    # ------------------------------------------------------------------------------------------ position and facts

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; return it."""
        self._check(True, "")
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        if start is None:
            if whence != os.SEEK_END:
                raise ValueError(f"whence {whence}: 0, 1 and 2 are known")
            start = self._file.size
        if start + offset < 0:
            raise self._named(errors.InvalidArgument(f"position {start + offset}"))
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        self._check(True, "")
        return self._position

    def readable(self) -> bool:
        """Return whether it was opened for reading."""
        return self._reads

    def writable(self) -> bool:
        """Return whether it was opened for writing."""
        return self._writes

    def seekable(self) -> bool:
        """Return True."""
        return True

    def stat(self) -> os.stat_result:
        """Return the file's attributes as they are now, what this client wrote counted."""
        self._file.refresh()
        return self._filesystem.stat_of(self._file.attributes)

    @property
    def size(self) -> int:
        """Bytes of the file as this client sees it."""
        return self._file.size

    @property
    def inode(self) -> int:
        """The inode's id."""
        return self._file.inode

    def __repr__(self) -> str:
        return f"<blockyard file {self.name!r} {self.mode!r}>"

    # ------------------------------------------------------------------------------------------ within

    def _flush(self, *, durable: bool) -> None:
        try:
            self._file.flush(durable=durable)
        except OSError as error:
            raise self._named(error) from None

    def _is_ours(self) -> bool:
        """Whether the handle is of this process: a forked child leaves its parent's alone."""
        return self._filesystem.owns(self._file)

    def _check(self, allowed: bool, purpose: str) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if not allowed:
            raise io.UnsupportedOperation(f"not open for {purpose}")
        if self._file.session.is_over or not self._is_ours():
            raise self._named(
                session_expired(self._file.session)
                if self._is_ours()
                else errors.BadHandle("the file was opened before a fork, or its file system was closed")
            )

    def _named(self, error: OSError) -> OSError:
        error.filename = self.name
        return error
