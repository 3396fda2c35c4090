"""How a path is followed: name by name, symlinks put in the place of their name. Pure.

    follower = PathFollower(path, follow_last=True)
    while not follower.done:
        follower.step(…)          # whoever can look names up says what was found

Linux's rules: a trailing slash demands a directory; more than 40 symlinks are ELOOP; a path has at most 4,095 bytes and
a name 255; `..` is looked up like any other name, after symlinks before it were followed.
"""

from typing import Final

from blockyard.proto.errors import InvalidArgument, NameTooLong, NotDirectory, NotFound, TooManySymlinks
from blockyard.proto.ids import ROOT_INODE
from blockyard.proto.metadata_pb2 import FILE_TYPE_DIRECTORY, FILE_TYPE_SYMLINK, Attributes

SYMLINKS_MAX: Final = 40
PATH_BYTES_MAX: Final = 4_095
NAME_BYTES_MAX: Final = 255


def names_of(path: bytes) -> list[bytes]:
    """Return the names in a path, without the empty ones and `.`. Raises NameTooLong, NotFound, InvalidArgument."""
    if not path:
        raise NotFound("the path is empty")
    if len(path) > PATH_BYTES_MAX:
        raise NameTooLong(f"the path has {len(path)} bytes; {PATH_BYTES_MAX} are allowed")
    if b"\0" in path:
        raise InvalidArgument("the path holds a NUL byte")
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    for name in names:
        if len(name) > NAME_BYTES_MAX:
            raise NameTooLong(f"a name of {len(name)} bytes; {NAME_BYTES_MAX} are allowed")
    return names


def demands_directory(path: bytes) -> bool:
    """Return whether a path can only mean a directory."""
    return path.endswith((b"/", b"/.", b"/..")) or path in (b".", b"..")


class PathFollower:
    """One path being followed. `here` is the directory that the next of `names` is looked up in."""

    def __init__(self, path: bytes, *, follow_last: bool, start: int = ROOT_INODE) -> None:
        self.here: int = start
        self.names: list[bytes] = names_of(path)
        self.found: Attributes | None = None
        """The inode that was reached last; None while that is `here` itself and its attributes are not known."""
        self._must_be_directory = demands_directory(path)
        self.follow_last = follow_last or self._must_be_directory
        self._symlinks = 0

    @property
    def done(self) -> bool:
        """Whether there is nothing left to look up."""
        return not self.names

    def step(self, found: Attributes, target: bytes = b"") -> None:
        """The first of `names` leads to `found`; `target` is where it points when that is a symlink.

        Raises NotDirectory, TooManySymlinks.
        """
        last = len(self.names) == 1
        if found.type == FILE_TYPE_SYMLINK and (not last or self.follow_last):
            self._symlinks += 1
            if self._symlinks > SYMLINKS_MAX:
                raise TooManySymlinks(f"more than {SYMLINKS_MAX} symbolic links on the way")
            if last and demands_directory(target):
                self._must_be_directory = True
            self.names[:1] = names_of(target)
            if target.startswith(b"/"):
                self.here = ROOT_INODE
                self.found = None
            elif not self.names:
                self.found = None  # the link points to its own directory
            return
        if found.type != FILE_TYPE_DIRECTORY and (not last or self._must_be_directory):
            raise NotDirectory(f"{self.names[0]!r} is not a directory")
        del self.names[0]
        self.found = found
        if found.type == FILE_TYPE_DIRECTORY:
            self.here = found.inode
