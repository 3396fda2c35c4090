"""Bad replicas, kept aside for people: the newest ones, up to a number of bytes.

0011223344556677-1763676000000000000        what was read as the block
0011223344556677-1763676000000000000.why    the reason, text
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blockyard.proto.disk.failures import NO_DESCRIPTORS

_WHY: Final = ".why"
_MOST_ENTRIES: Final = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One bad replica. `path` is where its bytes are, if any were readable."""

    block: int
    path: Path
    why: str
    size: int


class Quarantine:
    """The directory of bad replicas."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit = limit_bytes

    def admit(self, block: int, why: str) -> Path:
        """Write down why; return the path to which the bad bytes may be moved. Raises OSError.

        Nothing here is synced: losing it loses no block.
        """
        path = self._path / f"{block:016x}-{time.time_ns():019d}"
        path.with_name(path.name + _WHY).write_text(why)
        return path

    def copy(self, path: Path, offset: int, length: int, aside: Path) -> None:
        """Keep what can be read of a range, if there is room."""
        with suppress(OSError), path.open("rb") as file:
            file.seek(offset)
            aside.write_bytes(file.read(length))

    def entries(self) -> list[Entry]:
        """Return what is here, oldest first."""
        return sorted(self._entries(), key=lambda entry: entry.path.name[17:])

    def shrink(self) -> None:
        """Let the oldest go until the limits are kept."""
        entries = self.entries()
        size = sum(entry.size for entry in entries)
        for number, entry in enumerate(entries, 1):
            if size <= self._limit and len(entries) - number < _MOST_ENTRIES:
                return
            self._remove(entry)
            size -= entry.size

    def release(self, block: int) -> None:
        """Let everything of a block go."""
        for entry in self._entries():
            if entry.block == block:
                self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        entry.path.unlink(missing_ok=True)
        entry.path.with_name(entry.path.name + _WHY).unlink(missing_ok=True)

    def _entries(self) -> Iterator[Entry]:
        try:
            names = os.listdir(self._path)
        except OSError as error:
            if error.errno not in NO_DESCRIPTORS:
                raise
            names = []  # nobody can be told for now
        for name in names:
            if not name.endswith(_WHY):
                continue
            path = self._path / name[: -len(_WHY)]
            try:
                why = (self._path / name).read_text()
                size = path.stat().st_size if path.exists() else 0
            except FileNotFoundError:
                continue  # another thread lets it go
            yield Entry(int(name[:16], 16), path, why, size)
