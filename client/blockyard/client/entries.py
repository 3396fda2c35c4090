"""What a directory lists, and attributes as Python shows them."""

import os
import stat
from typing import TYPE_CHECKING, AnyStr, Final, Generic

from blockyard.proto import metadata_pb2 as pb

if TYPE_CHECKING:
    from blockyard.client.filesystem import Filesystem

TYPE_BITS: Final = {
    pb.FILE_TYPE_REGULAR: stat.S_IFREG,
    pb.FILE_TYPE_DIRECTORY: stat.S_IFDIR,
    pb.FILE_TYPE_SYMLINK: stat.S_IFLNK,
    pb.FILE_TYPE_FIFO: stat.S_IFIFO,
    pb.FILE_TYPE_SOCKET: stat.S_IFSOCK,
    pb.FILE_TYPE_CHARACTER: stat.S_IFCHR,
    pb.FILE_TYPE_BLOCK: stat.S_IFBLK,
}
BLOCK_SIZE: Final = 1 << 20
"""What `st_blksize` advises programs to read and write at a time."""


def stat_result(attributes: pb.Attributes, size: int) -> os.stat_result:
    """Return attributes as `os.stat` would; `size` is the file's as this client sees it."""
    times = (attributes.atime_ns, attributes.mtime_ns, attributes.ctime_ns)
    return os.stat_result(
        (
            TYPE_BITS[attributes.type] | attributes.mode,
            attributes.inode,
            0,
            attributes.nlink,
            attributes.uid,
            attributes.gid,
            size,
            *(time // 1_000_000_000 for time in times),
        ),
        {
            "st_atime": times[0] / 1e9,
            "st_mtime": times[1] / 1e9,
            "st_ctime": times[2] / 1e9,
            "st_atime_ns": times[0],
            "st_mtime_ns": times[1],
            "st_ctime_ns": times[2],
            "st_blksize": BLOCK_SIZE,
            "st_blocks": -(-attributes.allocated // 512),
            "st_rdev": attributes.rdev,
        },
    )


class DirEntry(Generic[AnyStr]):
    """One entry of a directory, with its attributes as the listing had them; like `os.DirEntry`."""

    __slots__ = ("_attributes", "_filesystem", "_type", "name", "path")

    def __init__(self, filesystem: "Filesystem", directory: AnyStr, name: AnyStr, entry: pb.DirectoryEntry) -> None:
        self.name: AnyStr = name
        self.path: AnyStr = os.path.join(directory, name)
        self._filesystem = filesystem
        self._type = entry.type
        self._attributes = entry.attributes if entry.HasField("attributes") else None

    def inode(self) -> int:
        """Return the inode's id."""
        return int(self.stat(follow_symlinks=False).st_ino)

    def is_symlink(self) -> bool:
        """Return whether it is a symlink."""
        return self._type == pb.FILE_TYPE_SYMLINK

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a directory, or leads to one."""
        if follow_symlinks and self.is_symlink():
            return self._filesystem.isdir(self.path)
        return self._type == pb.FILE_TYPE_DIRECTORY

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a regular file, or leads to one."""
        if follow_symlinks and self.is_symlink():
            return self._filesystem.isfile(self.path)
        return self._type == pb.FILE_TYPE_REGULAR

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return its attributes, from the listing where that had them."""
        if self._attributes is None or (follow_symlinks and self.is_symlink()):
            return self._filesystem.stat(self.path, follow_symlinks=follow_symlinks)
        return self._filesystem.stat_of(self._attributes)

    def __fspath__(self) -> AnyStr:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"
