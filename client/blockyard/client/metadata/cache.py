"""What the client remembers of the namespace: attributes by inode, names by directory. Pure: the clock is given.

Nothing is believed for longer than `age_s` seconds, and at most `limit` entries of each kind are kept. The client's
own changes are entered as soon as they are answered, and a read that was under way meanwhile enters nothing over them:
it says before it starts (`ticket`) what it cannot know.

Invariants: a user is never shown an inode's older version after a newer one, nor a name as it was before an own change.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from blockyard.proto.metadata_pb2 import FILE_TYPE_DIRECTORY, Attributes

Key = TypeVar("Key")
Value = TypeVar("Value")

ABSENT = 0
"""The inode of a name that is known not to exist."""


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    until_s: float


class _Recent(Generic[Key, Value]):
    """A bounded map whose entries end by themselves; the least recently entered go first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now_s: float) -> Value | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now_s >= entry.until_s:
            return None
        return entry.value

    def peek(self, key: Key) -> Value | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def put(self, key: Key, value: Value, until_s: float) -> Key | None:
        """Enter a value; return the key that had to go for it."""
        self._entries[key] = _Entry(value, until_s)
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            return self._entries.popitem(last=False)[0]
        return None

    def expire(self, key: Key) -> None:
        """Keep the value for comparison only."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.until_s = float("-inf")

    def clear(self) -> None:
        for entry in self._entries.values():
            entry.until_s = float("-inf")


class NamespaceCache:
    """Attributes and names. Its owner sees to it that one thread at a time is in here."""

    def __init__(self, age_s: float, limit: int = 100_000) -> None:
        """`age_s`: 0 remembers nothing."""
        self.age_s = age_s
        self._attributes: _Recent[int, Attributes] = _Recent(limit)
        self._names: _Recent[tuple[int, bytes], int] = _Recent(limit)
        self._changed: OrderedDict[tuple[int, bytes], int] = OrderedDict()
        self._changes = 0
        self._floor = 0  # tickets below it are too old to be told apart
        self._limit = limit

    # ------------------------------------------------------------------------------------------ looking

    def attributes(self, inode: int, now_s: float) -> Attributes | None:
        """Return what is known of an inode, None when that is nothing, or too old."""
        return self._attributes.get(inode, now_s)

    def directory(self, inode: int) -> Attributes | None:
        """Return what was ever seen of an inode that is a directory: that it is one does not change."""
        known = self._attributes.peek(inode)
        return known if known is not None and known.type == FILE_TYPE_DIRECTORY else None

    def child(self, parent: int, name: bytes, now_s: float) -> int | None:
        """Return the inode a name leads to, ABSENT when there is none, None when it is not known."""
        return self._names.get((parent, name), now_s)

    def version(self, inode: int) -> int:
        """Return the newest version of an inode that was ever seen here, 0 for none."""
        known = self._attributes.peek(inode)
        return 0 if known is None else known.version

    # ------------------------------------------------------------------------------------------ what was read

    def ticket(self) -> int:
        """Return what a read that starts now knows of the client's own changes."""
        return self._changes

    def saw(self, attributes: Attributes, now_s: float) -> None:
        """A read or a change returned an inode's attributes. An older version than the known one is ignored."""
        known = self._attributes.peek(attributes.inode)
        if known is None or attributes.version >= known.version:
            self._attributes.put(attributes.inode, attributes, now_s + self.age_s)

    def saw_name(self, parent: int, name: bytes, inode: int, ticket: int, now_s: float) -> None:
        """A read that began with `ticket` found a name to lead to `inode`, or to nothing (ABSENT)."""
        if ticket >= self._floor and ticket >= self._changed.get((parent, name), 0):
            self._names.put((parent, name), inode, now_s + self.age_s)

    # ------------------------------------------------------------------------------------------ what was changed

    def set_name(self, parent: int, name: bytes, inode: int, now_s: float) -> None:
        """An own change was answered: the name now leads to `inode`, or to nothing (ABSENT). Its directory changed."""
        self._note(parent, name)
        self._names.put((parent, name), inode, now_s + self.age_s)
        self._attributes.expire(parent)

    def forget_name(self, parent: int, name: bytes) -> None:
        """An own change of a name ended without an answer that says how."""
        self._note(parent, name)
        self._names.expire((parent, name))
        self._attributes.expire(parent)

    def forget(self, inode: int) -> None:
        """The inode changed, and how is not known."""
        self._attributes.expire(inode)

    def clear(self) -> None:
        """Believe nothing that was read before now."""
        self._attributes.clear()
        self._names.clear()

    def _note(self, parent: int, name: bytes) -> None:
        self._changes += 1
        self._changed[(parent, name)] = self._changes
        self._changed.move_to_end((parent, name))
        if len(self._changed) > self._limit:
            self._floor = self._changed.popitem(last=False)[1]
