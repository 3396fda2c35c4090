"""Buffers of one piece that are used again: fresh memory costs more than what is put into it.

Invariant: a buffer that was given back is nobody's until it is taken again.
"""

from typing import Final

PIECE_BYTES: Final = 1 << 20


class PieceBuffers:
    """Idle buffers, at most `limit` of them; what is more is left to Python. Any thread may use it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: list[bytearray] = []

    def take(self) -> bytearray:
        """Return a buffer of `PIECE_BYTES`; its content is undefined."""
        try:
            return self._idle.pop()
        except IndexError:
            return bytearray(PIECE_BYTES)

    def give_back(self, buffer: bytearray) -> None:
        """Let a buffer be used again; one of another size is dropped."""
        if len(buffer) == PIECE_BYTES and len(self._idle) < self._limit:
            self._idle.append(buffer)
