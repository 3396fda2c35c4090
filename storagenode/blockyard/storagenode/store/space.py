"""How much users may still write, and what is kept back so that deletes, repair and rewriting go on when they may not.

Users' writes end at a percentage and at a reserve, whichever comes first; repair may use the reserve. The ballast is a
file of allocated blocks: when something else has filled the disk to the last byte it is given up, and taken back when
there is room again.
"""

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blockyard.proto.errors import NoSpace
from blockyard.storagenode.store.replica import StoreSettings

_BALLAST_SHARE: Final = 64
_RESERVE_SHARE: Final = 16
_LARGEST_BALLAST_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes: of the disk, of them free for this store, and used by it."""

    capacity: int
    free: int
    used: int


class Space:
    """Watches one store's disk."""

    def __init__(self, directory: Path, ballast: Path, settings: StoreSettings, used: int) -> None:
        """`used` is how many bytes the store itself has on the disk; say it again from time to time (`observe`)."""
        self._used = used
        self._directory = directory
        self._ballast = ballast
        self._settings = settings
        disk = os.statvfs(directory)
        self._disk_bytes = disk.f_blocks * disk.f_frsize
        capacity = settings.capacity_bytes or self._disk_bytes
        self._reserve = min(settings.reserve_bytes, capacity // _RESERVE_SHARE)
        self._ballast_bytes = min(_LARGEST_BALLAST_BYTES, self._reserve // 2, self._disk_bytes // _BALLAST_SHARE)

    def room(self) -> Room:
        """Return how full the disk is."""
        disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize
        used = self._used
        if self._settings.capacity_bytes:
            capacity = min(self._settings.capacity_bytes, used + free)
            return Room(capacity, max(0, min(free, capacity - used)), used)
        return Room((disk.f_blocks - disk.f_bfree) * disk.f_frsize + free, free, used)

    def read_only(self, room: Room) -> bool:
        """Say whether users' writes are refused."""
        full = (room.capacity - room.free) * 100 > self._settings.read_only_above_percent * room.capacity
        return full or room.free < self._reserve

    def admit(self, size: int, reserve: bool) -> None:
        """Raise NoSpace when `size` more bytes must not be taken; `reserve` may use what is kept back."""
        room = self.room()
        after = Room(room.capacity, room.free - size, room.used)
        if after.free < 0 or (not reserve and self.read_only(after)):
            raise NoSpace(
                f"{self._directory} has {room.free} of {room.capacity} bytes free and keeps some for deletes and "
                "repair; add disks or delete"
            )
        self._used += size

    def observe(self, used: int) -> None:
        """Take in how many bytes the store has on the disk; between two such calls they are estimated."""
        self._used = used

    def keep_ballast(self) -> None:
        """Have the ballast when there is room for it. Raises OSError for anything but a full disk."""
        free = shutil.disk_usage(self._directory).free
        if not self._ballast_bytes or free < 4 * self._ballast_bytes or self._has_ballast():
            return
        fd = os.open(self._ballast, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._ballast_bytes)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def give_up_ballast(self) -> bool:
        """Make room with the ballast; False when it was given up before."""
        had = self._has_ballast()
        if had:
            os.truncate(self._ballast, 0)
        return had

    def give_up_when_full(self) -> None:
        """Give the ballast up when less is free than the index needs to be written."""
        if shutil.disk_usage(self._directory).free < self._ballast_bytes // 2:
            self.give_up_ballast()

    def _has_ballast(self) -> bool:
        try:
            return self._ballast.stat().st_size >= self._ballast_bytes > 0
        except FileNotFoundError:
            return False
