"""Locks of one open file: flock(2) on the whole of it, fcntl(2) on ranges.

A lock is the session's: a client that is silent for longer than its session's term has lost it, and every use of the
file after that says so.
"""

import time
from typing import Final

from blockyard.client.open_inode import OpenInode
from blockyard.proto import errors
from blockyard.proto.metadata_pb2 import (
    LOCK_EXCLUSIVE,
    LOCK_SHARED,
    LOCK_UNLOCK,
    FileLock,
    GetLockRequest,
    LockKind,
    ReleaseLocksRequest,
    SetLockRequest,
)

PROCESS: Final = 1
"""Owner of the ranges this client locks: all its handles on a file share them, as a process's do."""
LAST_BYTE: Final = (1 << 63) - 1
_TURN_S: Final = 1.0
"""One wait at the server. Short, since answers that come after a change that waits must be remembered there."""


class FileLocks:
    """The locks of one handle."""

    def __init__(self, file: OpenInode, handle: int, path: str) -> None:
        self._file = file
        self._handle = handle
        self._path = path
        self._flocked = False
        self._locked = False

    def flock(self, *, shared: bool = False, wait: bool = True, timeout_s: float | None = None) -> None:
        """Lock the whole file for this handle. Raises WouldBlock when another has it and `wait` is False.

        `timeout_s`: how long to wait at most (None: for ever); then DeadlineExceeded.
        """
        self._flocked = True
        kind = LOCK_SHARED if shared else LOCK_EXCLUSIVE
        self._set(FileLock(owner=self._handle, kind=kind, end=LAST_BYTE, flock=True), wait, timeout_s)

    def funlock(self) -> None:
        """Give the lock of this handle back."""
        self._set(FileLock(owner=self._handle, kind=LOCK_UNLOCK, end=LAST_BYTE, flock=True), False, None)

    def lock(
        self,
        start: int = 0,
        length: int = 0,
        *,
        shared: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
    ) -> None:
        """Lock `length` bytes from `start` on (0: to the end of any size) for this client. Raises Deadlock, too."""
        self._locked = True
        self._set(_range(LOCK_SHARED if shared else LOCK_EXCLUSIVE, start, length), wait, timeout_s)

    def unlock(self, start: int = 0, length: int = 0) -> None:
        """Give a range back."""
        self._set(_range(LOCK_UNLOCK, start, length), False, None)

    def holder(self, start: int = 0, length: int = 0) -> FileLock | None:
        """Return a lock of another client that stands in the way of locking a range, None when there is none."""
        file = self._file
        request = GetLockRequest(
            inode=file.inode, lock=_range(LOCK_EXCLUSIVE, start, length), session=file.session.number
        )
        reply = file.engine.link.calls.read("GetLock", request)
        return reply.conflict if reply.HasField("conflict") else None

    def release(self) -> None:
        """The handle is being closed: its locks go, and with it, as POSIX has it, the client's on this file."""
        for used, owner, flock in ((self._flocked, self._handle, True), (self._locked, PROCESS, False)):
            if used:
                request = ReleaseLocksRequest(inode=self._file.inode, owner=owner, flock=flock)
                self._file.engine.link.calls.change("ReleaseLocks", request, self._file.session)

    def _set(self, lock: FileLock, wait: bool, timeout_s: float | None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while not self._try(lock, wait, _TURN_S if deadline is None else deadline - time.monotonic()):
                if deadline is not None and time.monotonic() >= deadline:
                    self._try(
                        FileLock(owner=lock.owner, kind=LOCK_UNLOCK, start=lock.start, end=lock.end, flock=lock.flock),
                        False,
                        0,
                    )
                    raise errors.DeadlineExceeded("another owner keeps its lock", definite=True)
        except OSError as error:
            error.filename = self._path
            raise

    def _try(self, lock: FileLock, wait: bool, left_s: float) -> bool:
        request = SetLockRequest(inode=self._file.inode, lock=lock, wait=wait)
        timeout_s = max(0.05, min(_TURN_S, left_s)) if wait else None
        try:
            self._file.engine.link.calls.change("SetLock", request, self._file.session, timeout_s=timeout_s)
        except (errors.DeadlineExceeded, errors.Interrupted):
            if not wait:
                raise
            return False
        return True


def _range(kind: LockKind, start: int, length: int) -> FileLock:
    return FileLock(owner=PROCESS, kind=kind, start=start, end=start + length - 1 if length else LAST_BYTE)
