"""A metadata server's data directory: identity, log, state and checkpoints, opened together and kept in step.

    identity       whose it is                      log/           Raft's log
    lock           held while a process uses it     state/         the namespace; a witness has none
    checkpoints/   copies of the state              (all on one file system)

Invariants: one process at a time; the identity is written last when a directory is made, so a directory with one is
complete; the log never begins after what the state has durably.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from blockyard.metaserver.raft.types import BaseRecord, DurableState, Entry, HardState, LogIndex, Membership
from blockyard.metaserver.storage import backup, log_store, rocks
from blockyard.metaserver.storage.checkpoint import Checkpoint, Checkpoints
from blockyard.metaserver.storage.failures import FETCH_FROM_PEER
from blockyard.metaserver.storage.identity import HOW_TO_MAKE_ONE, Identity
from blockyard.metaserver.storage.log_store import LogStore
from blockyard.metaserver.storage.state_directory import StateDirectory
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto import failpoints
from blockyard.proto.disk.directory_lock import LOCK, DirectoryLock
from blockyard.proto.disk.failures import DirectoryRefused
from blockyard.proto.ids import ClusterId, MemberId

LOG: Final = "log"
STATE: Final = "state"
CHECKPOINTS: Final = "checkpoints"


class DataDirectory:
    """An open data directory. `state`, `states` and `checkpoints` are None on a witness."""

    def __init__(
        self,
        path: Path,
        cluster: ClusterId,
        member: MemberId,
        *,
        with_state: bool,
        segment_size_bytes: int = log_store.SEGMENT_SIZE_BYTES,
        log_cache_bytes: int = log_store.CACHE_BYTES,
        state_cache_bytes: int = rocks.CACHE_BYTES,
    ) -> None:
        """Open the directory for this process alone, check it, and count the start.

        Raises DirectoryRefused, CorruptLog, CorruptState, StorageFailed and OSError: after any of them, do not serve.
        """
        self.path = path
        self._lock = DirectoryLock(path, HOW_TO_MAKE_ONE)
        try:
            found = Identity.read(path)
            found.check(path, cluster, member)
            _demand_pieces(path, [LOG, STATE] if with_state else [LOG])
            self.log = LogStore(path / LOG, segment_size_bytes=segment_size_bytes, cache_bytes=log_cache_bytes)
            self.states = StateDirectory(path / STATE, state_cache_bytes) if with_state else None
            self._state = self.states.open(self.log.base) if self.states else None
            self.checkpoints = Checkpoints(path / CHECKPOINTS) if with_state else None
            self.identity = found.started(path)
        except BaseException:
            self._lock.release()
            raise

    @staticmethod
    def create(
        path: Path,
        identity: Identity,
        durable: DurableState,
        *,
        with_state: bool,
        state_from: Checkpoint | None = None,
        segment_size_bytes: int = log_store.SEGMENT_SIZE_BYTES,
    ) -> None:
        """Make a data directory in `path`, which is missing or empty; `state_from` becomes its state.

        Raises DirectoryRefused and OSError.
        """
        path.mkdir(parents=True, exist_ok=True)
        lock = DirectoryLock(path, HOW_TO_MAKE_ONE)
        try:
            content = sorted(set(os.listdir(path)) - {LOCK})
            if content:
                raise DirectoryRefused(
                    f"{path} is not empty (it holds {', '.join(content[:5])}). "
                    "Give an empty directory, or empty this one if nothing in it is needed."
                )
            LogStore.create(path / LOG, durable.hard_state, durable.base, segment_size_bytes=segment_size_bytes)
            if with_state:
                StateDirectory.create(path / STATE, durable.applied, state_from)
            identity.write(path)
        finally:
            lock.release()

    @staticmethod
    def restore(path: Path, identity: Identity, backup_file: Path, membership: Membership) -> DurableState:
        """Make the data directory of a new group's first member from a backup, in `path`, missing or empty.

        `identity` is of a new cluster; `membership` is the new group's. Raises as `create`, and CorruptSnapshot.
        """
        path.mkdir(parents=True, exist_ok=True)
        staging = path.with_name(path.name + backup.UNFINISHED)
        checkpoint, _ = backup.restore(backup_file, staging)
        durable = backup.restored_state(checkpoint.base, membership)
        DataDirectory.create(path, identity, durable, with_state=True, state_from=checkpoint)
        return durable

    @property
    def state(self) -> StateStore:
        """The current state store; another object after `install_snapshot`."""
        assert self._state is not None, "a witness has no state"
        return self._state

    def durable_state(self) -> DurableState:
        """Return what a `RaftCore` starts from."""
        applied = LogIndex(0) if self._state is None else self._state.applied_index()
        return DurableState(self.log.hard_state, self.log.base, applied)

    def compaction_limit(self) -> LogIndex:
        """Return the index up to which the log may be dropped: what the state would still know after a crash."""
        return self.log.last_index() if self._state is None else self._state.durable_index()

    def compact(self, base: BaseRecord) -> None:
        """Drop the log up to `base`, at most `compaction_limit()`. Raises StorageFailed."""
        limit = self.compaction_limit()
        assert base.index <= limit, f"compaction to {base.index}, and only {limit} is durable in the state"
        self.log.compact(base)

    def install_snapshot(
        self, staged: Checkpoint, hard_state: HardState | None = None, entries: Sequence[Entry] = ()
    ) -> StateStore:
        """Make a staged snapshot the state, and begin the log after it, in one atomic step; return the new store.

        Nothing may use the old store or its scans from here on. Raises StorageFailed, CorruptState and OSError; after
        any of them the process must end, and the next start finds the old or the new.
        """
        assert self.states is not None
        assert self._state is not None
        self._state.close()
        self.log.append(entries, hard_state, staged.base)
        failpoints.hit("snapshot.logged")
        self.states.switch_to(staged.path)
        self._state = self.states.open(self.log.base)
        return self._state

    def take_checkpoint(self, membership_at: Callable[[LogIndex], Membership]) -> Checkpoint:
        """Make a checkpoint of the state as it is now. Raises StorageFailed and OSError."""
        assert self.checkpoints is not None

        def describe(index: LogIndex) -> BaseRecord:
            return BaseRecord(index, self.log.term(index), membership_at(index))

        return self.checkpoints.create(self.state, describe)

    def close(self) -> None:
        """Close everything, flushed, and let another process have the directory."""
        if self._state is not None:
            self._state.close()
        self.log.close()
        self._lock.release()


def _demand_pieces(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not (path / name).is_dir()]
    if missing:
        raise DirectoryRefused(f"{path} has lost its {' and '.join(missing)}. {FETCH_FROM_PEER}.")
