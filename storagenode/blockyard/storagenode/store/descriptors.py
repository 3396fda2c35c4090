"""Open descriptors of readers: the most recent ones are kept, and each lives as long as anybody uses it."""

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable
from pathlib import Path


class Descriptor:
    """One open file, counted."""

    __slots__ = ("fd", "forgotten", "key", "users")

    def __init__(self, key: Hashable, fd: int) -> None:
        self.key = key
        self.fd = fd
        self.users = 0
        self.forgotten = False


class Descriptors:
    """At most `limit` files are open without a user; thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[Hashable, Descriptor] = OrderedDict()
        self._users: Counter[Hashable] = Counter()

    def take(self, key: Hashable, path: Path) -> Descriptor:
        """Return the open file `key`, opened from `path` when it is not; give it back by `release`. Raises OSError."""
        with self._lock:
            found = self._open.get(key)
            if found is None:
                found = self._open[key] = Descriptor(key, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                self._shrink()
            else:
                self._open.move_to_end(key)
            found.users += 1
            self._users[key] += 1
            return found

    def release(self, descriptor: Descriptor) -> None:
        with self._lock:
            descriptor.users -= 1
            self._users[descriptor.key] -= 1
            if not self._users[descriptor.key]:
                del self._users[descriptor.key]
            if descriptor.forgotten and not descriptor.users:
                os.close(descriptor.fd)

    def forget(self, key: Hashable) -> None:
        """Open `key` anew for the next user; those who have it keep it."""
        with self._lock:
            found = self._open.pop(key, None)
            if found is not None:
                self._drop(found)

    def in_use(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._users

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            while self._open:
                self._drop(self._open.popitem()[1])

    def _shrink(self) -> None:
        while len(self._open) > self._limit:
            self._drop(self._open.popitem(last=False)[1])

    def _drop(self, descriptor: Descriptor) -> None:
        descriptor.forgotten = True
        if not descriptor.users:
            os.close(descriptor.fd)
