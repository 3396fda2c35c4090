"""Verified pieces of blocks in memory: what was read ahead, and what was read lately.

Blocks never change, so nothing here is ever stale. The pieces used longest ago go first; those on their way count.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final

from blockyard.proto import errors

PIECE_BYTES: Final = 1 << 20

Key = tuple[int, int]


class PieceCache:
    """Pieces by block and index. Any number of threads may use it."""

    def __init__(self, limit_bytes: int, fetch: Callable[[int, int, memoryview], None], pool: Executor) -> None:
        """`fetch(block, offset, into)` brings bytes, in threads of `pool`."""
        self._limit_bytes = limit_bytes
        self._fetch = fetch
        self._pool = pool
        self._lock = threading.Lock()
        self._pieces: OrderedDict[Key, Future[memoryview]] = OrderedDict()
        self._sizes: dict[Key, int] = {}
        self.used_bytes = 0

    def start(self, block: int, index: int, length: int) -> "Future[memoryview] | None":
        """Return a piece, here or on its way, fetching it when it is neither; None when there is no room for it."""
        key = (block, index)
        with self._lock:
            piece = self._pieces.get(key)
            if piece is not None:
                self._pieces.move_to_end(key)
                return piece
            if not self._make_room(length):
                return None
            piece = self._pieces[key] = Future()
            self._sizes[key] = length
            self.used_bytes += length
        self._pool.submit(self._bring, key, length, piece)
        return piece

    def find(self, block: int, index: int) -> "Future[memoryview] | None":
        """Return a piece that is here or on its way."""
        with self._lock:
            piece = self._pieces.get((block, index))
            if piece is not None:
                self._pieces.move_to_end((block, index))
            return piece

    def _bring(self, key: Key, length: int, piece: "Future[memoryview]") -> None:
        try:
            data = memoryview(bytearray(length))
            self._fetch(key[0], key[1] * PIECE_BYTES, data)
            piece.set_result(data.toreadonly())
        except BaseException as error:  # noqa: BLE001 - whoever waits for the piece gets it
            self._forget(key, piece)
            piece.set_exception(errors.from_exception(error))

    def _forget(self, key: Key, piece: "Future[memoryview]") -> None:
        with self._lock:
            if self._pieces.get(key) is piece:
                del self._pieces[key]
                self.used_bytes -= self._sizes.pop(key)

    def _make_room(self, length: int) -> bool:
        """Let pieces go until `length` bytes fit; those on their way stay."""
        while self.used_bytes + length > self._limit_bytes:
            key = next((key for key, piece in self._pieces.items() if piece.done()), None)
            if key is None:
                return False
            del self._pieces[key]
            self.used_bytes -= self._sizes.pop(key)
        return True
