"""Two file systems behind one interface of paths: the kernel's in the working directory, and the state machine.

`Kernel` calls the kernel as another user. `Machine` does what a mount does: it resolves paths by lookups, follows
symlinks, and keeps the two rules that the VFS has of its own (fs.protected_symlinks, fs.protected_regular).
"""

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from blockyard.metaserver.namespace.permissions import allows
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import BlockyardError, from_errno

from tests.metaserver.namespace.harness import ROOT, World

TYPES = {
    pb.FILE_TYPE_REGULAR: stat.S_IFREG,
    pb.FILE_TYPE_DIRECTORY: stat.S_IFDIR,
    pb.FILE_TYPE_SYMLINK: stat.S_IFLNK,
    pb.FILE_TYPE_FIFO: stat.S_IFIFO,
    pb.FILE_TYPE_SOCKET: stat.S_IFSOCK,
    pb.FILE_TYPE_CHARACTER: stat.S_IFCHR,
    pb.FILE_TYPE_BLOCK: stat.S_IFBLK,
}

NOREPLACE, EXCHANGE = 1, 2

_LIBC = ctypes.CDLL(None, use_errno=True)


class Status(NamedTuple):
    """What both file systems must agree on about one path."""

    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    rdev: int
    target: bytes
    content: bytes


def _sysctl(name: str) -> int:
    return int(Path("/proc/sys/fs", name).read_text())


def failing(call: Callable[[], object]) -> int:
    """Return the errno of a call, 0 when it succeeds."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


@contextlib.contextmanager
def as_user(who: Caller) -> Iterator[None]:
    """Let the process act as another user whose root is the working directory, in the kernel's eyes."""
    outside = os.open("/", os.O_RDONLY)
    os.chroot(".")
    os.setgroups(list(who.groups))
    os.setegid(who.gid)
    os.seteuid(who.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])
        inside = os.open(".", os.O_RDONLY)
        os.fchdir(outside)
        os.chroot(".")
        os.fchdir(inside)
        os.close(inside)
        os.close(outside)


class Kernel:
    """The kernel's file system, with the working directory as its root."""

    def call(self, who: Caller, name: str, *arguments: Any) -> int:
        """Make a call as a user; return its errno."""
        with as_user(who):
            return failing(lambda: getattr(self, name)(*arguments))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def mknod(self, path: str, kind: int, mode: int, rdev: int) -> None:
        os.mknod(path, kind | mode, rdev)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, path)

    def link(self, source: str, path: str) -> None:
        os.link(source, path, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def rename(self, source: str, path: str, flags: int) -> None:
        if _LIBC.renameat2(-100, source.encode(), -100, path.encode(), flags):
            raise OSError(ctypes.get_errno(), "renameat2")

    def open(self, path: str, flags: int, mode: int) -> None:
        os.close(os.open(path, flags | os.O_NONBLOCK, mode))

    def write(self, path: str, flags: int, offset: int, data: bytes) -> None:
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
        try:
            os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(path, size)

    def fallocate(self, path: str, mode: int, offset: int, length: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            arguments = (ctypes.c_int(descriptor), ctypes.c_int(mode), ctypes.c_long(offset), ctypes.c_long(length))
            if _LIBC.fallocate(*arguments):
                raise OSError(ctypes.get_errno(), "fallocate")
        finally:
            os.close(descriptor)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(path, uid, gid, follow_symlinks=False)

    def utime(self, path: str, times: tuple[int, int] | None) -> None:
        os.utime(path, ns=times) if times else os.utime(path)

    def access(self, path: str, mask: int) -> None:
        if _LIBC.faccessat(-100, path.encode(), mask, 0x200):  # AT_EACCESS; os.access() hides the errno
            raise OSError(ctypes.get_errno(), "faccessat")

    def listdir(self, path: str) -> None:
        os.listdir(path)

    def setxattr(self, path: str, name: bytes, value: bytes, flags: int) -> None:
        os.setxattr(path, name, value, flags, follow_symlinks=False)

    def getxattr(self, path: str, name: bytes) -> None:
        os.getxattr(path, name, follow_symlinks=False)

    def removexattr(self, path: str, name: bytes) -> None:
        os.removexattr(path, name, follow_symlinks=False)

    def times(self) -> dict[str, tuple[int, int, int]]:
        """Return inode, mtime and ctime of every path."""
        found: dict[str, tuple[int, int, int]] = {}
        for path in self.tree():
            status = os.lstat(path)
            found[path] = status.st_ino, status.st_mtime_ns, status.st_ctime_ns
        return found

    def tree(self) -> dict[str, Status]:
        """Return the status of every path, as root sees it."""
        found: dict[str, Status] = {}
        pending = ["."]
        while pending:
            path = pending.pop()
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            target = os.readlink(os.fsencode(path)) if kind == stat.S_IFLNK else b""
            content = Path(path).read_bytes() if kind == stat.S_IFREG else b""
            size = 0 if kind == stat.S_IFDIR else status.st_size
            rdev = status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
            found[path] = Status(
                status.st_mode, status.st_uid, status.st_gid, status.st_nlink, size, rdev, target, content
            )
            if kind == stat.S_IFDIR:
                pending += [f"{path}/{name}" for name in os.listdir(path)]
        return found


class Machine:
    """The state machine, called by paths."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = world.session()
        self.blocks: dict[int, bytes] = {}
        self.protected_symlinks = bool(_sysctl("protected_symlinks"))
        self.protected_regular = _sysctl("protected_regular")
        self.protected_fifos = _sysctl("protected_fifos")
        self.who = Caller()

    def call(self, who: Caller, name: str, *arguments: Any) -> int:
        """Make a call as a user; return its errno."""
        self.who = who
        return failing(lambda: getattr(self, name)(*arguments))

    # --- paths

    def change(self, method: str, **fields: Any) -> Any:
        return self.client.change(method, self.who, **fields)

    def walk(self, path: str, follow: bool = True) -> pb.Attributes:
        """Return what a path leads to."""
        parent, name = self.parent_of(path)
        return self.step(parent, name, follow, 0)

    def parent_of(self, path: str) -> tuple[int, bytes]:
        """Return the directory of a path's last name, and that name."""
        *above, last = path.encode().split(b"/")
        here = ROOT
        for name in above:
            here = self.step(here, name, True, 0).inode
        self.search(here)
        return here, last

    def search(self, directory: int) -> None:
        """A path's last directory must be one, and searchable, before anything is done in it."""
        if self.world.attributes(directory).type != pb.FILE_TYPE_DIRECTORY:
            raise from_errno(errno.ENOTDIR)
        self.client.read("Access", self.who, inode=directory, mask=1)

    def step(self, parent: int, name: bytes, follow: bool, depth: int) -> pb.Attributes:
        found = self.client.lookup(parent, name, self.who)
        if found.type != pb.FILE_TYPE_SYMLINK or not follow:
            return found
        if depth >= 40:
            raise from_errno(errno.ELOOP)
        self.may_follow(parent, found)
        target = self.client.read("ReadLink", self.who, inode=found.inode).target
        here = parent
        parts = target.split(b"/")
        for part in parts[:-1]:
            here = self.step(here, part, True, depth + 1).inode
        return self.step(here, parts[-1], True, depth + 1)

    def may_follow(self, parent: int, link: pb.Attributes) -> None:
        """fs.protected_symlinks."""
        folder = self.world.attributes(parent)
        open_and_sticky = folder.mode & 0o1002 == 0o1002
        if self.protected_symlinks and open_and_sticky and link.uid not in (self.who.uid, folder.uid):
            raise from_errno(errno.EACCES)

    # --- calls

    def mkdir(self, path: str, mode: int) -> None:
        parent, name = self.parent_of(path)
        self.change("MakeDirectory", parent=parent, name=name, mode=mode)

    def mknod(self, path: str, kind: int, mode: int, rdev: int) -> None:
        parent, name = self.parent_of(path)
        number = next((number for number, bits in TYPES.items() if bits == kind), 0)
        self.change("MakeNode", parent=parent, name=name, type=number, mode=mode, rdev=rdev)

    def symlink(self, target: str, path: str) -> None:
        parent, name = self.parent_of(path)
        self.change("Symlink", parent=parent, name=name, target=target.encode())

    def link(self, source: str, path: str) -> None:
        inode = self.walk(source, follow=False).inode
        parent, name = self.parent_of(path)
        self.change("Link", inode=inode, parent=parent, name=name)

    def unlink(self, path: str) -> None:
        parent, name = self.parent_of(path)
        self.change("Unlink", parent=parent, name=name)

    def rmdir(self, path: str) -> None:
        parent, name = self.parent_of(path)
        self.change("RemoveDirectory", parent=parent, name=name)

    def rename(self, source: str, path: str, flags: int) -> None:
        if flags == NOREPLACE | EXCHANGE:
            raise from_errno(errno.EINVAL)  # before any path is looked at
        parent, name = self.parent_of(source)
        new_parent, new_name = self.parent_of(path)
        self.change(
            "Rename", parent=parent, name=name, new_parent=new_parent, new_name=new_name,
            no_replace=bool(flags & NOREPLACE), exchange=bool(flags & EXCHANGE),
        )  # fmt: skip

    def open(self, path: str, flags: int, mode: int) -> None:
        inode, handle = self.opened(path, flags, mode)
        if handle:
            self.change("Close", inode=inode, handle=handle)

    def opened(self, path: str, flags: int, mode: int) -> tuple[int, int]:
        """Return inode and handle."""
        if not flags & os.O_CREAT:
            return self.opened_inode(self.walk(path, not flags & os.O_NOFOLLOW).inode, flags)
        parent, name = self.parent_of(path)
        exclusive = bool(flags & os.O_EXCL)
        for _ in range(40):
            existing = self.look(parent, name)
            if existing is not None and not exclusive:
                self.may_create_in_sticky(parent, existing)
                if existing.type == pb.FILE_TYPE_SYMLINK and not flags & os.O_NOFOLLOW:
                    self.may_follow(parent, existing)
                    parent, name = self.through(parent, existing)
                    continue
            reply = self.change(
                "Create", parent=parent, name=name, mode=mode, exclusive=exclusive, open=True, open_flags=flags
            )
            return (
                (reply.attributes.inode, reply.handle)
                if reply.handle
                else self.opened_inode(reply.attributes.inode, flags)
            )
        raise from_errno(errno.ELOOP)

    def opened_inode(self, inode: int, flags: int) -> tuple[int, int]:
        """Open an inode; fifos and devices open at the client, without a handle."""
        kind = self.world.attributes(inode).type
        if kind not in (pb.FILE_TYPE_FIFO, pb.FILE_TYPE_CHARACTER):
            reply = self.change("Open", inode=inode, flags=flags)
            return inode, reply.handle
        mask = {os.O_RDONLY: 4, os.O_WRONLY: 2, os.O_RDWR: 6}[flags & os.O_ACCMODE]
        self.client.read("Access", self.who, inode=inode, mask=mask | (2 if flags & os.O_TRUNC else 0))
        if kind == pb.FILE_TYPE_FIFO and flags & os.O_ACCMODE == os.O_WRONLY:
            raise from_errno(errno.ENXIO)  # nobody reads
        return inode, 0

    def look(self, parent: int, name: bytes) -> pb.Attributes | None:
        try:
            return self.client.lookup(parent, name, self.who)
        except BlockyardError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def through(self, parent: int, link: pb.Attributes) -> tuple[int, bytes]:
        """Return where a symlink's target would be created."""
        target = self.client.read("ReadLink", self.who, inode=link.inode).target
        *above, last = target.split(b"/")
        for part in above:
            parent = self.step(parent, part, True, 0).inode
        self.search(parent)
        return parent, last

    def may_create_in_sticky(self, parent: int, found: pb.Attributes) -> None:
        """fs.protected_regular, fs.protected_fifos, and the same for devices and sockets whatever the settings."""
        folder = self.world.attributes(parent)
        unprotected = {pb.FILE_TYPE_REGULAR: not self.protected_regular, pb.FILE_TYPE_FIFO: not self.protected_fifos}
        if unprotected.get(found.type, found.type in (pb.FILE_TYPE_DIRECTORY, pb.FILE_TYPE_SYMLINK)):
            return
        open_to = 0o1002 if folder.mode & 0o002 or self.protected_regular < 2 else 0o1020
        if folder.mode & open_to == open_to and found.uid not in (folder.uid, self.who.uid):
            raise from_errno(errno.EACCES)

    def write(self, path: str, flags: int, offset: int, data: bytes) -> None:
        inode, handle = self.opened(path, flags, 0o666)
        if not handle:
            return  # /dev/null
        block = len(self.blocks) + 1000
        self.blocks[block] = data
        piece = pb.Slice(position=offset, length=len(data), block=block, block_length=len(data))
        file = pb.FileCommit(inode=inode, handle=handle, slices=[piece], append=bool(flags & os.O_APPEND))
        try:
            committed = self.change("CommitSlices", files=[file]).files[0]
            if committed.HasField("error"):
                raise from_errno(committed.error.errno)
        finally:
            if handle:
                self.change("Close", inode=inode, handle=handle)

    def truncate(self, path: str, size: int) -> None:
        self.change("SetAttributes", inode=self.walk(path).inode, size=size)

    def fallocate(self, path: str, mode: int, offset: int, length: int) -> None:
        modes = {0: 0, 1: 1, 3: 2, 0x10: 3, 0x11: 4}
        inode, handle = self.opened(path, os.O_WRONLY, 0)
        if not handle:
            raise from_errno(errno.EINVAL if length == 0 else errno.ENODEV)
        try:
            self.change("Allocate", inode=inode, handle=handle, offset=offset, length=length, mode=modes[mode])
        finally:
            self.change("Close", inode=inode, handle=handle)

    def chmod(self, path: str, mode: int) -> None:
        self.change("SetAttributes", inode=self.walk(path).inode, mode=mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        fields = {key: value for key, value in (("uid", uid), ("gid", gid)) if value >= 0}
        self.change("SetAttributes", inode=self.walk(path, follow=False).inode, **fields)

    def utime(self, path: str, times: tuple[int, int] | None) -> None:
        inode = self.walk(path).inode
        if times:
            self.change("SetAttributes", inode=inode, atime_ns=times[0], mtime_ns=times[1])
        else:
            self.change("SetAttributes", inode=inode, atime_now=True, mtime_now=True)

    def access(self, path: str, mask: int) -> None:
        self.client.read("Access", self.who, inode=self.walk(path).inode, mask=mask)

    def listdir(self, path: str) -> None:
        found = self.walk(path)
        self.client.read("ReadDirectory", self.who, inode=found.inode)

    def setxattr(self, path: str, name: bytes, value: bytes, flags: int) -> None:
        inode = self.walk(path, follow=False).inode
        self.change("SetXattr", inode=inode, name=name, value=value, create=bool(flags & 1), replace=bool(flags & 2))

    def getxattr(self, path: str, name: bytes) -> None:
        self.client.read("GetXattr", self.who, inode=self.walk(path, follow=False).inode, name=name)

    def removexattr(self, path: str, name: bytes) -> None:
        self.change("RemoveXattr", inode=self.walk(path, follow=False).inode, name=name)

    def content(self, inode: pb.Attributes) -> bytes:
        """Return a file's bytes, put together from its slices."""
        data = bytearray(inode.size)
        for piece in self.client.read("ReadSlices", Caller(), inode=inode.inode).slices:
            block = self.blocks[piece.block]
            assert len(block) == piece.block_length
            part = block[piece.block_offset : piece.block_offset + piece.length]
            data[piece.position : piece.position + piece.length] = part
        return bytes(data)

    def times(self) -> dict[str, tuple[int, int, int]]:
        """Return inode, mtime and ctime of every path."""
        found: dict[str, tuple[int, int, int]] = {}
        for path in self.tree():
            inode = self.world.attributes(self.number_of(path))
            found[path] = inode.inode, inode.mtime_ns, inode.ctime_ns
        return found

    def number_of(self, path: str) -> int:
        """Return the inode of a path without symlinks on its way."""
        here = ROOT
        for name in path.split("/")[1:]:
            here = self.client.lookup(here, name.encode()).inode
        return here

    def tree(self) -> dict[str, Status]:
        """Return the status of every path, as root sees it."""
        found: dict[str, Status] = {}
        pending = [(".", ROOT)]
        while pending:
            path, number = pending.pop()
            inode = self.world.attributes(number)
            kind = TYPES[inode.type]
            target = b""
            if kind == stat.S_IFLNK:
                target = self.client.read("ReadLink", Caller(), inode=number).target
            content = self.content(inode) if kind == stat.S_IFREG else b""
            size = 0 if kind == stat.S_IFDIR else inode.size
            found[path] = Status(
                kind | inode.mode, inode.uid, inode.gid, inode.nlink, size, inode.rdev, target, content
            )
            if kind == stat.S_IFDIR:
                pending += [(f"{path}/{entry.name.decode()}", entry.inode) for entry in self.world.entries_of(number)]
        return found


def may(inode: pb.Attributes, who: Caller, mask: int) -> bool:
    """Return whether the state machine's rules allow it; for tests of the rules alone."""
    return allows(inode, who, mask)
