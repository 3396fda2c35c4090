"""What locks of one inode mean: who is in whose way, and how ranges split and join.

Two worlds that do not see each other: fcntl's record locks and flock's whole-file locks. An owner is (session, owner
number): a process for fcntl, an open file description for flock. Pure functions on tuples of locks.
Source: POSIX fcntl(), Linux fs/locks.c.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from blockyard.proto.metadata_pb2 import LOCK_EXCLUSIVE, LOCK_UNLOCK, FileLock

LAST_BYTE: Final = 2**63 - 1


class Lock(NamedTuple):
    """A lock held or wanted. Ordered as it is stored."""

    flock: bool
    start: int
    end: int  # inclusive
    session: int
    owner: int
    kind: int  # a LockKind
    pid: int


class Waiter(NamedTuple):
    """A lock that a SetLock of its session waits for."""

    lock: Lock
    sequence: int


class InodeLocks(NamedTuple):
    """All locks of one inode."""

    held: tuple[Lock, ...] = ()  # sorted
    waiting: tuple[Waiter, ...] = ()  # oldest first


def from_message(message: FileLock, session: int) -> Lock:
    """Return a message's lock as one of the session's; flock covers the whole file whatever the message says."""
    start, end = (0, LAST_BYTE) if message.flock else (message.start, message.end)
    return Lock(message.flock, start, end, session, message.owner, message.kind, message.pid)


def to_message(lock: Lock) -> FileLock:
    """Return a lock as a message."""
    return FileLock(
        owner=lock.owner,
        kind=lock.kind,  # type: ignore[arg-type]
        start=lock.start,
        end=lock.end,
        pid=lock.pid,
        flock=lock.flock,
        session=lock.session,
    )


def same_owner(one: Lock, other: Lock) -> bool:
    """Return whether both belong to one owner in one world."""
    return one.session == other.session and one.owner == other.owner and one.flock == other.flock


def conflicts(held: Iterable[Lock], wanted: Lock) -> list[Lock]:
    """Return the held locks that stand in the way of the wanted one."""
    if wanted.kind == LOCK_UNLOCK:
        return []
    return [
        lock
        for lock in held
        if lock.start <= wanted.end
        and wanted.start <= lock.end
        and lock.flock == wanted.flock
        and LOCK_EXCLUSIVE in (lock.kind, wanted.kind)
        and not same_owner(lock, wanted)
    ]


def with_lock(held: Iterable[Lock], wanted: Lock) -> tuple[Lock, ...]:
    """Return the locks after the owner's range became what is wanted: locked, relocked or unlocked."""
    result: list[Lock] = []
    for lock in held:
        if not same_owner(lock, wanted) or lock.end < wanted.start or lock.start > wanted.end:
            result.append(lock)
            continue
        if lock.start < wanted.start:
            result.append(lock._replace(end=wanted.start - 1))
        if lock.end > wanted.end:
            result.append(lock._replace(start=wanted.end + 1))
    if wanted.kind != LOCK_UNLOCK:
        result.append(_absorb(result, wanted))
    return tuple(sorted(result))


def _absorb(locks: list[Lock], lock: Lock) -> Lock:
    """Join with the owner's locks of the same kind that touch it, and take them out of the list."""
    for other in [other for other in locks if same_owner(other, lock) and other.kind == lock.kind]:
        if other.end + 1 == lock.start or lock.end + 1 == other.start:
            locks.remove(other)
            lock = lock._replace(start=min(lock.start, other.start), end=max(lock.end, other.end))
    return lock


def without_owner(held: Iterable[Lock], session: int, owner: int, flock: bool) -> tuple[Lock, ...]:
    """Return the locks without those of an owner in one world."""
    return tuple(lock for lock in held if lock.session != session or lock.owner != owner or lock.flock != flock)


def grant(locks: InodeLocks) -> tuple[InodeLocks, list[Waiter]]:
    """Give waiting locks that nothing held stands against, oldest first; return what is then, and who got one."""
    if not locks.waiting:
        return locks, []
    held, still, granted = locks.held, [], []
    for waiter in locks.waiting:
        if conflicts(held, waiter.lock):
            still.append(waiter)
        else:
            held = with_lock(held, waiter.lock)
            granted.append(waiter)
    return InodeLocks(held, tuple(still)), granted
