"""Which files a client has open, and how files are opened and closed."""

import os
import threading
from typing import Final

from blockyard.client.engine import Engine
from blockyard.client.locks import FileLocks
from blockyard.client.metadata.session import Session
from blockyard.client.open_inode import OpenInode
from blockyard.proto import errors, logs
from blockyard.proto import metadata_pb2 as pb

_FIRST_SLICES_BYTES: Final = 1 << 30
_log = logs.get(__name__)


class OpenFiles:
    """The open inodes of one client. Any number of threads may use it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lock = threading.Lock()
        self._inodes: dict[int, OpenInode] = {}

    def find(self, inode: int) -> OpenInode | None:
        """Return an inode that is open."""
        return self._inodes.get(inode)

    def open(self, path: bytes, flags: int, mode: int) -> tuple[OpenInode, int]:
        """Open as open(2) does; return the inode and the handle. `mode`: permission bits of a file that is made."""
        session = self.engine.link.calls.session()
        if path.endswith(b"/"):
            raise errors.IsDirectory("a path that ends in a slash is a directory's")
        if flags & os.O_CREAT:
            reply = self._create(path, flags, mode, session)
        else:
            found = self.engine.link.namespace.find(path, fresh=True)
            if found.type == pb.FILE_TYPE_DIRECTORY:
                raise errors.IsDirectory("is a directory")
            return self._open(found.inode, flags, session)
        if reply.attributes.type != pb.FILE_TYPE_REGULAR:
            raise errors.NotSupported("only regular files can be opened")
        return self._register(reply.attributes, reply.handle, flags, session), reply.handle

    def close(self, file: OpenInode, handle: int, locks: FileLocks) -> None:
        """Close a handle. Raises when what was written cannot be committed: then it is lost."""
        if handle not in file.writers:
            self._forget(file, handle)
            self._release(locks)
            self.engine.closer.close(file.inode, handle, file.session)
            return
        closed = False
        try:
            closed = file.flush(closing=handle if len(file.writers) == 1 else 0)
        except BaseException:
            if len(file.writers) == 1 and file.writer is not None:
                file.writer.drop()
            raise
        finally:
            self._forget(file, handle)
            self._release(locks)
            if not closed:
                self.engine.closer.close(file.inode, handle, file.session)

    def flush_all(self) -> None:
        """Flush every file; raise the first error after all were tried."""
        with self._lock:
            files = list(self._inodes.values())
        failure: OSError | None = None
        for file in files:
            try:
                file.flush()
            except OSError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    # ------------------------------------------------------------------------------------------ steps

    def _create(self, path: bytes, flags: int, mode: int, session: Session) -> pb.EntryReply:
        namespace = self.engine.link.namespace
        for _ in range(41):
            parent, name = namespace.find_parent(path)
            if flags & os.O_TRUNC and (known := namespace.known_child(parent, name)):
                self._flush_before_truncation(known)
            request = pb.CreateRequest(
                parent=parent,
                name=name,
                mode=mode,
                exclusive=bool(flags & os.O_EXCL),
                open_flags=flags & (os.O_ACCMODE | os.O_TRUNC | os.O_APPEND),
                open=True,
            )
            try:
                return namespace.make("Create", request, session)
            except errors.TooManySymlinks:
                target = namespace.read_link(path)
                path = target if target.startswith(b"/") else os.path.join(os.path.dirname(path), target)
        raise errors.TooManySymlinks("more than 40 symbolic links on the way")

    def _flush_before_truncation(self, inode: int) -> None:
        file = self._inodes.get(inode)
        if file is not None:
            file.flush()

    def _open(self, inode: int, flags: int, session: Session) -> tuple[OpenInode, int]:
        """Open an inode and learn what it is made of, in one call."""
        open_flags = flags & (os.O_ACCMODE | os.O_APPEND)
        operations = [pb.Operation(open=pb.OpenRequest(inode=inode, flags=open_flags))]
        if flags & os.O_ACCMODE != os.O_WRONLY:
            read = pb.ReadSlicesRequest(inode=inode, length=_FIRST_SLICES_BYTES)
            operations.append(pb.Operation(read_slices=read))
        request = pb.BatchRequest(operations=operations, stop_at_error=True)
        outcomes = self.engine.link.calls.change("Batch", request, session).outcomes
        if outcomes[0].HasField("error"):
            raise errors.from_detail(outcomes[0].error)
        entry = outcomes[0].entry
        file = self._register(entry.attributes, entry.handle, flags, session)
        if len(outcomes) > 1 and outcomes[1].HasField("read_slices"):
            reply = outcomes[1].read_slices
            file.learn(0, max(1, min(_FIRST_SLICES_BYTES, reply.attributes.size)), reply)
        return file, entry.handle

    def _register(self, attributes: pb.Attributes, handle: int, flags: int, session: Session) -> OpenInode:
        access = flags & os.O_ACCMODE
        with self._lock:
            file = self._inodes.get(attributes.inode)
            if file is None or file.session is not session:
                file = self._inodes[attributes.inode] = OpenInode(self.engine, session, attributes)
            if access != os.O_WRONLY:
                file.readers[handle] = None
            if access != os.O_RDONLY:
                file.writers[handle] = None
        if flags & os.O_TRUNC and file.writer is not None:
            file.writer.drop()  # what other handles wrote before is cut off
        file.saw(attributes)
        return file

    def _forget(self, file: OpenInode, handle: int) -> None:
        with self._lock:
            file.readers.pop(handle, None)
            file.writers.pop(handle, None)
            if not file.readers and not file.writers and self._inodes.get(file.inode) is file:
                del self._inodes[file.inode]

    def _release(self, locks: FileLocks) -> None:
        try:
            locks.release()
        except errors.BlockyardError as error:
            _log.info("locks_not_released", why=str(error))  # the session's end does it
