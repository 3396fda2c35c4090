"""Paths of inodes, for people: the namespace itself knows only parents and names."""

from collections.abc import Callable

from blockyard.metaserver.namespace.state import ROOT, State
from blockyard.proto.metadata_pb2 import OperationRecord

DEPTH_MAX = 4_096


class Paths:
    """Finds paths of directories; remembers what it found or was told."""

    def __init__(self, state: Callable[[], State]) -> None:
        """`state` returns the state of now: a snapshot may replace it."""
        self._state = state
        self._names: dict[int, tuple[int, bytes]] = {}

    def fill(self, record: OperationRecord) -> OperationRecord:
        """Set the path of a record, and learn from it where a directory is."""
        if record.operation == "mkdir" and not record.errno:
            self._names[record.inode] = (record.parent, record.name)
        elif record.operation == "rename" and not record.errno:
            self._names[record.inode] = (record.new_parent, record.new_name)
        if record.parent:
            record.path = self.of_directory(record.parent).rstrip(b"/") + b"/" + record.name
        elif record.inode:
            record.path = self.of_inode(record.inode)
        return record

    def of_inode(self, inode: int) -> bytes:
        """Return some path of an inode, empty when it is gone or has no name that can be found."""
        found = self._state().inodes.get(inode)
        if inode == ROOT:
            return b"/"
        if found is None or not found.parent:
            return b""
        name = self._name(inode, found.parent)
        return b"" if name is None else self.of_directory(found.parent).rstrip(b"/") + b"/" + name

    def of_directory(self, directory: int) -> bytes:
        """Return a directory's path, empty when it is gone."""
        parts: list[bytes] = []
        for _ in range(DEPTH_MAX):
            if directory == ROOT:
                return b"/" + b"/".join(reversed(parts))
            found = self._state().inodes.get(directory)
            parent, name = self._names.get(directory, (0, b""))
            if found is not None and found.parent != parent:
                parent, name = found.parent, self._name(directory, found.parent) or b""
            if not name:
                return b""
            parts.append(name)
            directory = parent
        return b""

    def _name(self, inode: int, parent: int) -> bytes | None:
        known = self._names.get(inode)
        if known is not None and known[0] == parent and self._leads_to(parent, known[1], inode):
            return known[1]
        for row in self._state().dentries.list(parent, 0):
            if row.inode == inode:
                self._names[inode] = (parent, row.name)
                return row.name
        return None

    def _leads_to(self, parent: int, name: bytes, inode: int) -> bool:
        entry = self._state().dentries.get((parent, name))
        return entry is not None and entry.inode == inode
