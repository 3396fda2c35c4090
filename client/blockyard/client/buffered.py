"""What `open` wraps a raw file in: Python's own buffered and text files, with a flush that reaches the cluster."""

import io
import os
from types import TracebackType
from typing import Any, Final

from blockyard.client.file import RawFile

BUFFER_BYTES: Final = 128 << 10
"""What is buffered when nothing else was asked for."""


class _Flushing:
    """What the buffered files add: a flush that reaches the cluster, `fsync`, and one call less at close."""

    raw: Any
    _closing = False

    def flush(self) -> None:
        """Write out the buffer and make it visible: see `RawFile.flush`."""
        super().flush()  # type: ignore[misc]  # io's, which comes behind this one
        if not self._closing and not self.closed:  # type: ignore[attr-defined]
            self.raw.flush()

    def fsync(self) -> None:
        """Write out the buffer and make it durable: see `RawFile.fsync`."""
        super().flush()  # type: ignore[misc]
        self.raw.fsync()

    def close(self) -> None:
        """Write out the buffer and close: see `RawFile.close`."""
        self._closing = True  # the raw file commits and closes in one
        super().close()  # type: ignore[misc]


class BufferedReader(io.BufferedReader):
    """A file open for reading."""

    raw: RawFile


class BufferedWriter(_Flushing, io.BufferedWriter):
    """A file open for writing."""

    raw: RawFile


class BufferedRandom(_Flushing, io.BufferedRandom):
    """A file open for both."""

    raw: RawFile


class TextFile(io.TextIOWrapper):
    """A file open as text."""

    def fsync(self) -> None:
        """Write out the buffers and make everything durable."""
        self.flush()
        self.buffer.fsync()  # type: ignore[attr-defined]  # ours

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def flags_of(mode: str) -> int:
    """Return the open flags of one of Python's modes. Raises ValueError as `open` does."""
    letters = set(mode)
    if letters - set("rwxab+t") or len(mode) != len(letters) or {"b", "t"} <= letters:
        raise ValueError(f"invalid mode: {mode!r}")
    kind = letters & set("rwxa")
    if len(kind) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    access = os.O_RDWR if "+" in letters else os.O_RDONLY if "r" in letters else os.O_WRONLY
    more = {"r": 0, "w": os.O_CREAT | os.O_TRUNC, "x": os.O_CREAT | os.O_EXCL, "a": os.O_CREAT | os.O_APPEND}
    return access | more[kind.pop()]


def wrapped(
    raw: RawFile, mode: str, buffering: int, encoding: str | None, on_error: str | None, newline: str | None
) -> Any:
    """Return the file that Python's `open` would return around `raw`."""
    raw.mode = _mode_of(raw, mode)
    binary = "b" in mode
    if binary and (encoding is not None or on_error is not None or newline is not None):
        raise ValueError("binary mode takes no encoding, errors or newline argument")
    if buffering == 0:
        if not binary:
            raise ValueError("can't have unbuffered text I/O")
        return raw
    size = BUFFER_BYTES if buffering in (-1, 1) else buffering
    buffered: Any
    if raw.readable() and raw.writable():
        buffered = BufferedRandom(raw, size)
    elif raw.writable():
        buffered = BufferedWriter(raw, size)
    else:
        buffered = BufferedReader(raw, size)
    if binary:
        return buffered
    text = TextFile(buffered, encoding, on_error, newline, line_buffering=buffering == 1)
    text.mode = mode  # type: ignore[misc]  # as io.open does
    return text


def _mode_of(raw: RawFile, mode: str) -> str:
    """Return the mode as Python's own raw files show it."""
    kind = next(letter for letter in mode if letter in "rwxa")
    both = raw.readable() and raw.writable()
    return f"{'r' if both and kind == 'w' else kind}b{'+' if both else ''}"
