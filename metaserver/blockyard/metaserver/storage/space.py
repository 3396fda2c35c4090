"""When a metadata server stops taking writes because its disk fills up, and when it takes them again.

Deletes must still work then, and they too need log and state; so the limits leave room for many of them. Between the
two limits the answer stays what it was, so it does not change with every byte.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SpaceLimits:
    """Free bytes below which a member is read-only, and from which on it no longer is."""

    read_only_below_bytes: int = 512 * MIB
    writable_from_bytes: int = 768 * MIB

    def __post_init__(self) -> None:
        if not 0 <= self.read_only_below_bytes < self.writable_from_bytes:
            raise ValueError(
                f"space limits: read_only_below_bytes {self.read_only_below_bytes} must be less than "
                f"writable_from_bytes {self.writable_from_bytes}"
            )


class SpaceWatch:
    """Decides from free bytes alone; it starts writable."""

    def __init__(self, limits: SpaceLimits) -> None:
        self.limits = limits
        self.read_only = False

    def observe(self, free_bytes: int) -> bool:
        """Take in how much is free; return whether that changed `read_only`."""
        before = self.read_only
        if free_bytes < self.limits.read_only_below_bytes:
            self.read_only = True
        elif free_bytes >= self.limits.writable_from_bytes:
            self.read_only = False
        return self.read_only != before


def free_bytes(path: Path) -> int:
    """Return the bytes this process may still write to the file system of `path`. Raises OSError."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
