"""The file system as a Python program uses it: `os`, `os.path` and `shutil` by other means.

Paths are `str`, `bytes` or path-like, and begin at the root whether they say so or not. Every error is an `OSError` of
the subclass Python would raise, with errno and filename. Any number of threads may share one `Filesystem`; a forked
child goes on with its own session and cannot use files that its parent opened.
"""

import os
import stat as stat_bits
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, AnyStr

from blockyard.client import bulk, tree
from blockyard.client.buffered import flags_of, wrapped
from blockyard.client.engine import Engine
from blockyard.client.entries import DirEntry, stat_result
from blockyard.client.file import RawFile
from blockyard.client.location import Location, locate
from blockyard.client.locks import FileLocks
from blockyard.client.open_files import OpenFiles
from blockyard.client.open_inode import OpenInode
from blockyard.proto import errors
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.settings import ClientSettings

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class Filesystem:
    """One user's view of one cluster.

    Close it, or use it as a context manager: a program that just ends loses what its open files did not flush.
    """

    def __init__(self, settings: ClientSettings, caller: Caller | None = None) -> None:
        """`caller`: on whose behalf everything happens; this process's user when None. Connects at the first call."""
        self.settings = settings
        self.umask = _umask_of_process()
        self._caller = caller
        self._begin()
        _filesystems.add(self)

    def _begin(self) -> None:
        self._engine = Engine(self.settings, self._caller)
        self._open_files = OpenFiles(self._engine)

    def close(self) -> None:
        """Flush every open file, end the session and close every connection. Raises what could not be flushed."""
        if self._engine.is_closed:
            return
        try:
            self._open_files.flush_all()
        finally:
            self._engine.close()

    def __enter__(self) -> "Filesystem":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        """What moves the bytes, for those who build on it."""
        return self._engine

    # ------------------------------------------------------------------------------------------ files

    def open(
        self,
        path: Path,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        permissions: int = 0o666,
    ) -> Any:
        """Open a file as Python's `open` does; `permissions` are those of a file that is made, before the umask.

        G4: a file opened for reading shows everything that was closed, flushed or synced before, by any client.
        """
        flags = flags_of(mode)
        raw = self.open_raw(path, flags, mode, permissions=permissions)
        try:
            return wrapped(raw, mode, buffering, encoding, errors, newline)
        except BaseException:
            raw.close()
            raise

    def open_raw(self, path: Path, flags: int, mode: str, *, permissions: int = 0o666) -> RawFile:
        """Open a file with flags as `os.open` knows them; return it unbuffered."""
        with self.about(path) as name:
            file, handle = self._open_files.open(name, flags, permissions & ~self.umask)
        return RawFile(self, file, handle, flags, os.fsdecode(name), mode)

    def read_bytes(self, path: Path) -> bytes:
        """Return a whole file."""
        with self.open_raw(path, os.O_RDONLY, "rb") as file:
            return file.readall()

    def write_bytes(self, path: Path, data: bytes) -> None:
        """Make a file consist of `data`."""
        with self.open_raw(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "wb") as file:
            file.write(data)

    def closed(self, file: OpenInode, handle: int, locks: FileLocks) -> None:
        """A handle is closed: called by its file."""
        self._open_files.close(file, handle, locks)

    def owns(self, file: OpenInode) -> bool:
        """Return whether a file was opened here: by this process, and before `close`."""
        return file.engine is self._engine and not self._engine.is_closed

    # ------------------------------------------------------------------------------------------ attributes

    def stat(self, path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        """Like `os.stat`. What others changed may be as old as the attribute cache allows."""
        with self.about(path) as name:
            return self.stat_of(self._names.find(name, follow=follow_symlinks))

    def lstat(self, path: Path) -> os.stat_result:
        """Like `os.lstat`."""
        return self.stat(path, follow_symlinks=False)

    def stat_of(self, attributes: pb.Attributes) -> os.stat_result:
        """Return attributes as `os.stat` does, with what this client wrote and has not flushed."""
        file = self._open_files.find(attributes.inode)
        return stat_result(attributes, attributes.size if file is None else file.size)

    def exists(self, path: Path) -> bool:
        """Return whether a path leads somewhere."""
        return self._kind(path) is not None

    def lexists(self, path: Path) -> bool:
        """Return whether a path leads somewhere, be it to a symlink that leads nowhere."""
        return self._kind(path, follow=False) is not None

    def isdir(self, path: Path) -> bool:
        """Return whether a path leads to a directory."""
        return self._kind(path) == pb.FILE_TYPE_DIRECTORY

    def isfile(self, path: Path) -> bool:
        """Return whether a path leads to a regular file."""
        return self._kind(path) == pb.FILE_TYPE_REGULAR

    def islink(self, path: Path) -> bool:
        """Return whether a path names a symlink."""
        return self._kind(path, follow=False) == pb.FILE_TYPE_SYMLINK

    def chmod(self, path: Path, mode: int, *, follow_symlinks: bool = True) -> None:
        """Like `os.chmod`."""
        self._set(path, follow_symlinks, mode=stat_bits.S_IMODE(mode))

    def chown(self, path: Path, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        """Like `os.chown`: -1 leaves one as it is."""
        wanted = {key: value for key, value in (("uid", uid), ("gid", gid)) if value != -1}
        self._set(path, follow_symlinks, **wanted)

    def utime(
        self,
        path: Path,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Like `os.utime`."""
        if times is not None and ns is not None:
            raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
        if times is not None:
            ns = (round(times[0] * 1e9), round(times[1] * 1e9))
        if ns is None:
            self._set(path, follow_symlinks, atime_now=True, mtime_now=True)
        else:
            self._set(path, follow_symlinks, atime_ns=ns[0], mtime_ns=ns[1])

    def truncate(self, path: Path, length: int) -> None:
        """Like `os.truncate`."""
        if length < 0:
            raise errors.InvalidArgument(f"a length of {length} bytes", os.fsdecode(path))
        with self.about(path) as name:
            found = self._names.find(name)
            file = self._open_files.find(found.inode)
            if file is not None:
                file.flush()
            reply = self._names.edit("SetAttributes", pb.SetAttributesRequest(inode=found.inode, size=length))
            if file is not None:
                file.saw(reply.attributes)

    def getxattr(self, path: Path, attribute: Path, *, follow_symlinks: bool = True) -> bytes:
        """Like `os.getxattr`."""
        with self.about(path) as name:
            inode = self._names.find(name, follow=follow_symlinks).inode
            request = pb.GetXattrRequest(inode=inode, name=os.fsencode(attribute))
            return bytes(self._engine.link.calls.read("GetXattr", request).value)

    def setxattr(
        self, path: Path, attribute: Path, value: bytes, flags: int = 0, *, follow_symlinks: bool = True
    ) -> None:
        """Like `os.setxattr`."""
        with self.about(path) as name:
            request = pb.SetXattrRequest(
                inode=self._names.find(name, follow=follow_symlinks).inode,
                name=os.fsencode(attribute),
                value=value,
                create=bool(flags & os.XATTR_CREATE),
                replace=bool(flags & os.XATTR_REPLACE),
            )
            self._names.edit("SetXattr", request)

    def listxattr(self, path: Path = "/", *, follow_symlinks: bool = True) -> list[str]:
        """Like `os.listxattr`."""
        with self.about(path) as name:
            inode = self._names.find(name, follow=follow_symlinks).inode
            reply = self._engine.link.calls.read("ListXattrs", pb.ListXattrsRequest(inode=inode))
            return [os.fsdecode(each) for each in reply.names]

    def removexattr(self, path: Path, attribute: Path, *, follow_symlinks: bool = True) -> None:
        """Like `os.removexattr`."""
        with self.about(path) as name:
            inode = self._names.find(name, follow=follow_symlinks).inode
            self._names.edit("RemoveXattr", pb.RemoveXattrRequest(inode=inode, name=os.fsencode(attribute)))

    def statvfs(self) -> os.statvfs_result:
        """Like `os.statvfs`, of the whole cluster; replicas are divided out."""
        reply = self._engine.link.calls.read("StatFilesystem", pb.StatFilesystemRequest())
        unit = 4096
        sizes = [value // unit for value in (reply.total_bytes, reply.free_bytes, reply.available_bytes)]
        return os.statvfs_result((unit, unit, *sizes, reply.inodes, 0, 0, 0, reply.name_max))

    # ------------------------------------------------------------------------------------------ names

    def listdir(self, path: AnyStr | os.PathLike[AnyStr] = "/") -> list[AnyStr]:  # type: ignore[assignment]
        """Like `os.listdir`, sorted."""
        return sorted(entry.name for entry in self.scandir(path))

    def scandir(self, path: AnyStr | os.PathLike[AnyStr] = "/") -> Iterator[DirEntry[AnyStr]]:  # type: ignore[assignment]
        """Like `os.scandir`; entries come with their attributes."""
        given = os.fspath(path)
        decode: Callable[[bytes], Any] = os.fsdecode if isinstance(given, str) else bytes
        with self.about(path) as name:
            inode = self._names.find(name).inode
            for entry in self._names.entries(inode):
                yield DirEntry(self, given, decode(entry.name), entry)

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """Like `os.mkdir`."""
        with self.about(path) as name:
            parent, last = self._new_name(name)
            self._names.make(
                "MakeDirectory", pb.MakeDirectoryRequest(parent=parent, name=last, mode=mode & 0o7777 & ~self.umask)
            )

    def symlink(self, target: Path, path: Path) -> None:
        """Like `os.symlink`: make `path` a symlink to `target`."""
        with self.about(path) as name:
            parent, last = self._names.find_parent(name)
            self._names.make("Symlink", pb.SymlinkRequest(parent=parent, name=last, target=os.fsencode(target)))

    def readlink(self, path: Path) -> str:
        """Like `os.readlink`."""
        with self.about(path) as name:
            return os.fsdecode(self._names.read_link(name))

    def link(self, source: Path, path: Path, *, follow_symlinks: bool = False) -> None:
        """Like `os.link`: give the file at `source` the name `path`, too."""
        with self.about(source, path) as name:
            found = self._names.find(name, follow=follow_symlinks)
            parent, last = self._names.find_parent(os.fsencode(path))
            self._names.make("Link", pb.LinkRequest(inode=found.inode, parent=parent, name=last))

    def unlink(self, path: Path) -> None:
        """Like `os.unlink`. Whoever has the file open keeps it until it is closed."""
        with self.about(path) as name:
            self._names.remove(*self._names.find_parent(name), directory=False)

    remove = unlink

    def rmdir(self, path: Path) -> None:
        """Like `os.rmdir`."""
        with self.about(path) as name:
            self._names.remove(*self._names.find_parent(name), directory=True)

    def rename(self, source: Path, target: Path, *, replace: bool = True, exchange: bool = False) -> None:
        """Like `os.rename`, atomically; `replace=False` refuses an existing `target`, `exchange` swaps the two."""
        with self.about(source, target) as name:
            parent, last = self._names.find_parent(name)
            new_parent, new_last = self._names.find_parent(os.fsencode(target))
            self._names.rename(
                pb.RenameRequest(
                    parent=parent,
                    name=last,
                    new_parent=new_parent,
                    new_name=new_last,
                    no_replace=not replace and not exchange,
                    exchange=exchange,
                )
            )

    def replace(self, source: Path, target: Path) -> None:
        """Like `os.replace`."""
        self.rename(source, target)

    # ------------------------------------------------------------------------------------------ more than one

    def makedirs(self, path: Path, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        """Like `os.makedirs`."""
        tree.makedirs(self, os.fspath(path), mode, exist_ok)

    def walk(
        self, top: str = "/", *, topdown: bool = True, followlinks: bool = False
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        """Like `os.walk`."""
        return tree.walk(self, top, topdown, followlinks)

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match, as `glob.glob(…, recursive=True)`, sorted."""
        return sorted(tree.glob(self, pattern))

    def rmtree(self, path: Path) -> None:
        """Remove a directory and everything below it."""
        tree.rmtree(self, os.fsencode(path))

    def put_many(
        self, files: Mapping[Any, bytes] | Iterable[tuple[Path, bytes]], *, durable: bool = False, replace: bool = True
    ) -> int:
        """Write many whole files, thousands a second; return how many. Each appears whole or not at all.

        `durable`: they survive the power cut of all machines when this returns. `replace=False`: an existing one is an
        error. The first error is raised after all others were tried.
        """
        return bulk.put_many(self, files, durable=durable, replace=replace)

    def get_many(self, paths: Iterable[Path]) -> Iterator[tuple[Any, bytes]]:
        """Yield (path, content) of many whole files, in order. Raises the error of the first that cannot be read."""
        return bulk.get_many(self, paths)

    def copy(self, source: Path, target: Path) -> int:
        """Copy a file's content within the cluster, without moving a byte: both share blocks. Return its length."""
        with (
            self.open_raw(source, os.O_RDONLY, "rb") as old,
            self.open_raw(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "wb") as new,
        ):
            return old.copy_to(new)

    def locate(self, path: Path, offset: int = 0, length: int | None = None) -> list[Location]:
        """Return which storage nodes hold which bytes of a file, preferred first; holes are left out."""
        with self.about(path) as name:
            found = self._names.find(name, fresh=True)
            file = self._open_files.find(found.inode)
            if file is not None:
                file.flush()
            return locate(self._engine, found.inode, offset, length)

    # ------------------------------------------------------------------------------------------ within

    @property
    def _names(self) -> Any:
        return self._engine.link.namespace

    @contextmanager
    def about(self, path: Path, second: Path | None = None) -> Iterator[bytes]:
        """Let errors of the block name the path, or both; yield the first as bytes."""
        try:
            yield os.fsencode(path)
        except OSError as error:
            error.filename = os.fspath(path)
            if second is not None:
                error.filename2 = os.fspath(second)
            raise

    def _kind(self, path: Path, *, follow: bool = True) -> int | None:
        try:
            with self.about(path) as name:
                return int(self._names.find(name, follow=follow).type)
        except (FileNotFoundError, NotADirectoryError, errors.TooManySymlinks):
            return None

    def _set(self, path: Path, follow: bool, **wanted: Any) -> None:
        with self.about(path) as name:
            inode = self._names.find(name, follow=follow).inode
            reply = self._names.edit("SetAttributes", pb.SetAttributesRequest(inode=inode, **wanted))
            file = self._open_files.find(inode)
            if file is not None:
                file.saw(reply.attributes)

    def _new_name(self, path: bytes) -> tuple[int, bytes]:
        if not path.strip(b"/"):
            raise errors.Exists("the root exists")
        parent, name = self._names.find_parent(path)
        return int(parent), bytes(name)


_filesystems: "weakref.WeakSet[Filesystem]" = weakref.WeakSet()


def _forked() -> None:
    """A forked child has none of its parent's threads, and must not speak in its session."""
    for filesystem in list(_filesystems):
        if not filesystem.engine.is_closed:
            filesystem._begin()


os.register_at_fork(after_in_child=_forked)


def _umask_of_process() -> int:
    """Return the umask without changing it, for other threads would notice."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return next((int(line.split()[1], 8) for line in lines if line.startswith("Umask:")), 0o022)
