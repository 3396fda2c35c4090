"""Verified pieces of blocks in memory: what was read ahead, and what was read lately.

Blocks never change, so nothing here is ever stale. The pieces used longest ago go first; those on their way count, and
stay. A piece's memory is used again when it has gone and nobody copies from it any more.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor

from blockyard.client.piece_buffers import PIECE_BYTES, PieceBuffers
from blockyard.proto import errors

Key = tuple[int, int]


class _Piece:
    """Some bytes of a block, there or on their way."""

    __slots__ = ("arrived", "buffer", "error", "is_kept", "length", "users")

    def __init__(self, buffer: bytearray, length: int) -> None:
        self.buffer = buffer
        self.length = length
        self.arrived = threading.Event()
        self.error: errors.BlockyardError | None = None
        self.is_kept = True
        self.users = 1  # whoever brings it


class PieceCache:
    """Pieces by block and index. Any number of threads may use it."""

    def __init__(
        self,
        limit_bytes: int,
        fetch: Callable[[int, int, memoryview], None],
        pool: Executor,
        buffers: PieceBuffers,
    ) -> None:
        """`fetch(block, offset, into)` brings bytes, in threads of `pool`."""
        self._limit_bytes = limit_bytes
        self._fetch = fetch
        self._pool = pool
        self._buffers = buffers
        self._lock = threading.Lock()
        self._pieces: OrderedDict[Key, _Piece] = OrderedDict()
        self.used_bytes = 0

    def start(self, block: int, index: int, length: int) -> bool:
        """Begin to bring a piece that is not here; return whether it is here or on its way: there may be no room."""
        key = (block, index)
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
                return True
            if not self._make_room(length):
                return False
            piece = self._pieces[key] = _Piece(self._buffers.take(), length)
            self.used_bytes += length
        self._pool.submit(self._bring, key, piece)
        return True

    def copy(self, block: int, index: int, skipped: int, into: memoryview) -> bool:
        """Fill `into` from byte `skipped` of a piece, waiting for it to come; False when it is not here.

        Raises the error that kept it from coming.
        """
        with self._lock:
            piece = self._pieces.get((block, index))
            if piece is None:
                return False
            self._pieces.move_to_end((block, index))
            piece.users += 1
        try:
            piece.arrived.wait()
            if piece.error is not None:
                raise piece.error
            into[:] = memoryview(piece.buffer)[skipped : skipped + into.nbytes]
        finally:
            self._leave(piece)
        return True

    def _bring(self, key: Key, piece: _Piece) -> None:
        try:
            self._fetch(key[0], key[1] * PIECE_BYTES, memoryview(piece.buffer)[: piece.length])
        except BaseException as error:  # noqa: BLE001 - whoever waits for the piece gets it
            piece.error = errors.from_exception(error)
            with self._lock:
                self._forget(key)
        finally:
            piece.arrived.set()
            self._leave(piece)

    def _leave(self, piece: _Piece) -> None:
        with self._lock:
            piece.users -= 1
            if not piece.users and not piece.is_kept:
                self._buffers.give_back(piece.buffer)

    def _forget(self, key: Key) -> None:
        piece = self._pieces.pop(key, None)
        if piece is not None:
            piece.is_kept = False
            self.used_bytes -= piece.length
            if not piece.users:
                self._buffers.give_back(piece.buffer)

    def _make_room(self, length: int) -> bool:
        """Let pieces go until `length` bytes fit; those on their way stay."""
        while self.used_bytes + length > self._limit_bytes:
            key = next((key for key, piece in self._pieces.items() if piece.arrived.is_set()), None)
            if key is None:
                return False
            self._forget(key)
        return True
