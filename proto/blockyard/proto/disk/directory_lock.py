"""Only one process uses a data directory at a time."""

import fcntl
import os
from pathlib import Path
from typing import Final

from blockyard.proto.disk.failures import DirectoryRefused

LOCK: Final = "lock"


class DirectoryLock:
    """Held while a process uses a data directory; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, directory: Path, how_to_make_one: str) -> None:
        """Take the lock. Raises DirectoryRefused when another process, or this one, has it.

        `how_to_make_one` is the sentence that tells a person what to do when there is no such directory.
        """
        try:
            self._fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise DirectoryRefused(f"There is no directory {directory}. {how_to_make_one}") from None
        except NotADirectoryError:
            raise DirectoryRefused(f"{directory} is not a directory. Correct the settings.") from None
        except PermissionError:
            raise DirectoryRefused(
                f"{directory} cannot be used by user {os.geteuid()}: permission denied. "
                "Start as the user who owns it, or give it to this one."
            ) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise DirectoryRefused(
                f"{directory} is in use by process {holder}. Stop that one first, or correct the settings: "
                "each server has a data directory of its own."
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        os.close(self._fd)
