"""File locks of all inodes: taking, waiting, giving back, and who would wait for ever.

Every lock stays in memory, with indexes by session and by waiting owner; a row holds all locks of one inode. A wait is
part of the replicated state: it ends by a grant, by `CancelLock`, or with its session, and all members see the same end
at the same log index. Grants are made oldest first among the locks that nothing held stands against; only held locks
stand in the way, as in Linux.

Of flock: a conversion that may wait gives the old lock up first, so that two converting holders do not wait for each
other (flock has no deadlock detection); one that may not wait keeps the old lock when it is refused.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from blockyard.metaserver.namespace import lock_ranges
from blockyard.metaserver.namespace.lock_ranges import InodeLocks, Lock, Waiter, conflicts, grant, with_lock
from blockyard.metaserver.namespace.permissions import READ, WRITE, allows
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Table, Transaction
from blockyard.proto.common_pb2 import Caller, Empty
from blockyard.proto.errors import (
    BlockyardError,
    Deadlock,
    Interrupted,
    NoLocks,
    PermissionDenied,
    StaleHandle,
    WouldBlock,
)
from blockyard.proto.internal_pb2 import CancelLockReply, CancelLockRequest, LocksRecord, WaitingLock
from blockyard.proto.metadata_pb2 import (
    LOCK_UNLOCK,
    Attributes,
    GetLockReply,
    GetLockRequest,
    ReleaseLocksRequest,
    SetLockRequest,
)

if TYPE_CHECKING:
    from blockyard.metaserver.namespace.state import State

Name = TypeVar("Name")

LOCKS_PER_INODE: Final = 10_000
WAITERS_PER_INODE: Final = 10_000


class Ended(NamedTuple):
    """A wait that ended: granted when `error` is None."""

    session: int
    sequence: int
    error: BlockyardError | None = None


class WaitingType:
    """The outcome of a command whose answer comes later, as an `Ended`."""

    def __repr__(self) -> str:
        return "WAITING"


WAITING: Final = WaitingType()


class LockTable(Table[int, InodeLocks]):
    """Locks by inode."""

    __slots__ = ("by_session", "ended", "ending", "waiting", "waiting_owners")

    def __init__(self, tx: Transaction) -> None:
        super().__init__(tx, keys.locks, parse, encode, 2**62)
        self.by_session: dict[int, dict[int, None]] = {}  # inodes on which a session holds or awaits locks
        self.waiting: dict[tuple[int, int], int] = {}  # (session, sequence): inode
        self.waiting_owners: dict[tuple[int, int], dict[int, None]] = {}  # (session, owner): inodes it awaits
        self.ending: list[Ended] = []  # waits that the command under way ends
        self.ended: list[Ended] = []  # waits that kept commands ended; the machine takes them
        for key, row in tx.scan_prefix(keys.LOCKS):
            self._index(keys.parse_one(key), parse(row))

    def load(self, key: int) -> InodeLocks | None:
        """Every lock is in memory already."""
        return None

    def get(self, key: int) -> InodeLocks | None:
        if key in self.pending:
            return self.pending[key]
        return self.known.get(key)

    def set(self, inode: int, locks: InodeLocks) -> None:
        """Store an inode's locks."""
        self.pending[inode] = locks if locks.held or locks.waiting else None

    def rollback(self) -> None:
        self.pending.clear()
        self.ending.clear()

    def commit(self) -> None:
        self.ended += self.ending
        self.ending.clear()
        for inode, locks in self.pending.items():
            old = self.known.pop(inode, None)
            if old is not None:
                self._unindex(inode, old)
            if locks is not None:
                self._index(inode, locks)
        self.dirty.update(self.pending)
        self.pending.clear()

    def flush(self, rows: dict[bytes, bytes | None]) -> None:
        for inode in self.dirty:
            locks = self.known.get(inode)
            rows[keys.locks(inode)] = None if locks is None else encode(locks)

    def _index(self, inode: int, locks: InodeLocks) -> None:
        self.known[inode] = locks
        for lock in locks.held:
            self.by_session.setdefault(lock.session, {})[inode] = None
        for lock, sequence in locks.waiting:
            self.by_session.setdefault(lock.session, {})[inode] = None
            self.waiting[(lock.session, sequence)] = inode
            self.waiting_owners.setdefault((lock.session, lock.owner), {})[inode] = None

    def _unindex(self, inode: int, locks: InodeLocks) -> None:
        sessions = {lock.session for lock in locks.held} | {waiter.lock.session for waiter in locks.waiting}
        for session in sessions:
            _discard(self.by_session, session, inode)
        for lock, sequence in locks.waiting:
            del self.waiting[(lock.session, sequence)]
            _discard(self.waiting_owners, (lock.session, lock.owner), inode)


def _discard(index: dict[Name, dict[int, None]], name: Name, inode: int) -> None:
    members = index.get(name)
    if members is not None:
        members.pop(inode, None)
        if not members:
            del index[name]


def parse(row: bytes) -> InodeLocks:
    """Return a row's locks."""
    record = LocksRecord.FromString(row)
    return InodeLocks(
        tuple(lock_ranges.from_message(lock, lock.session) for lock in record.held),
        tuple(
            Waiter(lock_ranges.from_message(waiter.lock, waiter.lock.session), waiter.sequence)
            for waiter in record.waiting
        ),
    )


def encode(locks: InodeLocks) -> bytes:
    """Return locks as a row."""
    return LocksRecord(
        held=[lock_ranges.to_message(lock) for lock in locks.held],
        waiting=[
            WaitingLock(lock=lock_ranges.to_message(waiter.lock), sequence=waiter.sequence) for waiter in locks.waiting
        ],
    ).SerializeToString()


# --- Operations ------------------------------------------------------------------------------------------------------


def set_lock(state: "State", who: Caller, request: SetLockRequest, may_wait: bool = True) -> Empty | WaitingType:
    """F_SETLK, F_SETLKW and flock(2). Return WAITING when the lock cannot be had yet and the caller waits for it."""
    inode = state.inode(request.inode)
    wanted = lock_ranges.from_message(request.lock, state.session)
    locks = state.locks.get(inode.inode) or InodeLocks()
    if wanted.kind == LOCK_UNLOCK:
        _settle(state, inode.inode, locks._replace(held=with_lock(locks.held, wanted)))
        return Empty()
    _require_right(state, who, inode)
    obstacles = conflicts(locks.held, wanted)
    if not obstacles:
        held = with_lock(locks.held, wanted)
        if len(held) > LOCKS_PER_INODE:
            raise NoLocks(f"inode {inode.inode} has {LOCKS_PER_INODE} locks already")
        _settle(state, inode.inode, locks._replace(held=held))  # a weaker lock may let others in
        return Empty()
    if not (request.wait and may_wait):
        raise WouldBlock(f"another owner holds a lock on inode {inode.inode}")
    if len(locks.waiting) >= WAITERS_PER_INODE:
        raise NoLocks(f"inode {inode.inode} has {WAITERS_PER_INODE} waiting owners already")
    held = locks.held
    if wanted.flock:
        held = with_lock(held, wanted._replace(kind=LOCK_UNLOCK))
    elif _would_deadlock(state, wanted, obstacles):
        raise Deadlock(f"waiting for a lock on inode {inode.inode} would never end")
    _settle(state, inode.inode, InodeLocks(held, (*locks.waiting, Waiter(wanted, state.sequence))))
    return WAITING


def release_locks(state: "State", who: Caller, request: ReleaseLocksRequest) -> Empty:
    """Give back every lock of an owner on a file; no harm when the file is gone or there is none."""
    locks = state.locks.get(request.inode)
    if locks is not None:
        held = lock_ranges.without_owner(locks.held, state.session, request.owner, request.flock)
        _settle(state, request.inode, locks._replace(held=held))
    return Empty()


def get_lock(state: "State", who: Caller, request: GetLockRequest) -> GetLockReply:
    """F_GETLK: return the first lock that stands in the way."""
    inode = state.inode(request.inode)
    locks = state.locks.get(inode.inode) or InodeLocks()
    obstacles = conflicts(locks.held, lock_ranges.from_message(request.lock, request.session))
    return GetLockReply(conflict=lock_ranges.to_message(obstacles[0])) if obstacles else GetLockReply()


def cancel_lock(state: "State", request: CancelLockRequest) -> CancelLockReply:
    """End a wait, if it still lasts."""
    inode = state.locks.waiting.get((request.session, request.sequence))
    if inode is None:
        return CancelLockReply()
    locks = state.locks.get(inode)
    assert locks is not None
    waiting = tuple(
        waiter
        for waiter in locks.waiting
        if (waiter.lock.session, waiter.sequence) != (request.session, request.sequence)
    )
    state.locks.set(inode, locks._replace(waiting=waiting))
    state.locks.ending.append(
        Ended(request.session, request.sequence, Interrupted(f"the wait for a lock on inode {inode} was cancelled"))
    )
    return CancelLockReply(cancelled=True)


def end_session(state: "State", session: int) -> None:
    """Give back every lock of a session, and end its waits without an answer: nobody is there to hear it."""
    for inode in sorted(state.locks.by_session.get(session, ())):
        locks = state.locks.get(inode)
        if locks is not None:
            held = tuple(lock for lock in locks.held if lock.session != session)
            waiting = tuple(waiter for waiter in locks.waiting if waiter.lock.session != session)
            _settle(state, inode, InodeLocks(held, waiting))


def forget_inode(state: "State", inode: int) -> None:
    """Drop the locks of an inode that is being removed; whoever waits learns that it is gone."""
    locks = state.locks.get(inode)
    if locks is None:
        return
    for waiter in locks.waiting:
        error = StaleHandle(f"inode {inode} was removed")
        state.locks.ending.append(Ended(waiter.lock.session, waiter.sequence, error))
    state.locks.delete(inode)


def _require_right(state: "State", who: Caller, inode: Attributes) -> None:
    """Raise unless the session has the inode open, or the caller may read or write it."""
    if allows(inode, who, READ) or allows(inode, who, WRITE):
        return
    files = (state.open_files.get(handle) for handle in state.open_files.by_inode.get(inode.inode, ()))
    if not any(file is not None and file.session == state.session for file in files):
        raise PermissionDenied(f"user {who.uid} may neither read nor write inode {inode.inode}")


def _settle(state: "State", inode: int, locks: InodeLocks) -> None:
    locks, granted = grant(locks)
    state.locks.set(inode, locks)
    state.locks.ending.extend(Ended(waiter.lock.session, waiter.sequence) for waiter in granted)


def _would_deadlock(state: "State", wanted: Lock, obstacles: Iterable[Lock]) -> bool:
    """Return whether an owner of the obstacles waits, directly or through others, for the one that wants."""
    me = (wanted.session, wanted.owner)
    table = state.locks
    pending = [(lock.session, lock.owner) for lock in obstacles]
    seen = set(pending)
    while pending:
        owner = pending.pop()
        if owner == me:
            return True
        for inode in table.waiting_owners.get(owner, ()):
            locks = table.get(inode)
            if locks is None:
                continue
            for waiter in locks.waiting:
                if (waiter.lock.session, waiter.lock.owner) != owner or waiter.lock.flock:
                    continue
                for lock in conflicts(locks.held, waiter.lock):
                    blocker = (lock.session, lock.owner)
                    if blocker not in seen:
                        seen.add(blocker)
                        pending.append(blocker)
    return False
