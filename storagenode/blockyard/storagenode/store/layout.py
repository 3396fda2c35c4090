"""Where things are in a store's directory.

lock                    held while a process uses it
packs/                  small blocks, and the log of everything (`pack.py`)
blocks/2a/0011…2a       large blocks: their bytes and nothing else, by the last byte of their id
writing/                open large blocks by id; dropped files on their way out; both are swept at the next start
quarantine/             bad replicas and why (`quarantine.py`)
index/                  what can be made anew from the above (`index.py`)
index.broken            the index must be made anew
clean                   the store was closed in order
ballast                 space kept back (`space.py`)
"""

from pathlib import Path
from typing import Final

_SHARDS: Final = 256


class Layout:
    """The paths below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packs = root / "packs"
        self.blocks = root / "blocks"
        self.writing = root / "writing"
        self.quarantine = root / "quarantine"
        self.index = root / "index"
        self.broken = root / "index.broken"
        self.clean = root / "clean"
        self.ballast = root / "ballast"

    def make(self) -> None:
        """Make the directories there must be. Raises OSError."""
        for path in (self.packs, self.blocks, self.writing, self.quarantine, *self.shards()):
            path.mkdir(exist_ok=True, mode=0o700)

    def shards(self) -> list[Path]:
        return [self.blocks / f"{shard:02x}" for shard in range(_SHARDS)]

    def file(self, block: int) -> Path:
        """Return where a sealed large block is."""
        return self.blocks / f"{block % _SHARDS:02x}" / f"{block:016x}"

    def unfinished(self, block: int) -> Path:
        """Return where a large block is while it is written."""
        return self.writing / f"{block:016x}"

    def doomed(self, number: int) -> Path:
        """Return a name under which a dropped file waits for its end."""
        return self.writing / f"dropped-{number}"


def parse_block(name: str) -> int | None:
    """Return the block whose file has that name; None when it is no block's."""
    if len(name) != 16 or name.strip("0123456789abcdef"):
        return None
    return int(name, 16)
