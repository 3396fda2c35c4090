"""Which of the state directories is the state: switching to a received snapshot in one atomic step.

    state/current -> 7          a symbolic link; replaced by rename
    state/7/                    the living store
    state/8/                    a received snapshot; with `BASE` in it, it is complete
    state/8.unfinished/         a snapshot being received

Log and state must change together, and Raft's log says when. The order is: the snapshot is complete and synced; the
log's record "begin after index N" is synced, *which decides it*; the link is replaced. At a start, a log that begins
after what the current state has applied means that the switch was decided and not finished: it is finished then.
Whatever is neither current nor decided is removed.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from blockyard.metaserver.raft.types import BaseRecord, LogIndex
from blockyard.metaserver.state.transaction import WriteBatch
from blockyard.metaserver.storage import rocks
from blockyard.metaserver.storage.checkpoint import BASE, UNFINISHED, Checkpoint
from blockyard.metaserver.storage.failures import FETCH_FROM_PEER, CorruptSnapshot, CorruptState
from blockyard.metaserver.storage.snapshot_stream import SnapshotReceiver
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto import failpoints
from blockyard.proto.disk.failures import DirectoryRefused
from blockyard.proto.disk.sync import sync_directory
from blockyard.proto.ids import ClusterId

CURRENT: Final = "current"


class StateDirectory:
    """The directory `state` of a data directory."""

    def __init__(self, path: Path, cache_bytes: int = rocks.CACHE_BYTES) -> None:
        self.path = path
        self.cache_bytes = cache_bytes

    @staticmethod
    def create(path: Path, applied: LogIndex, content: Checkpoint | None = None) -> None:
        """Make the new directory `path` with a state that stands for everything up to `applied`, durable.

        The state is empty, or `content`, which is moved there.
        """
        path.mkdir()
        if content is not None:
            os.rename(content.path, path / "1")
        else:
            store = StateStore(path / "1")
            store.apply(WriteBatch(), applied)
            store.flush()
            store.close()
        StateDirectory(path).switch_to(path / "1")

    def open(self, log_base: BaseRecord) -> StateStore:
        """Open the current state, after finishing or forgetting what a crash interrupted.

        Raises CorruptState when the state is older than the log can bring up to date, DirectoryRefused without one.
        """
        store = self._open_current()
        if store.applied_index() < log_base.index:
            applied = store.applied_index()
            store.close()
            staged = self._complete(log_base)
            if staged is None:
                raise CorruptState(
                    f"The state in {self.path} has applied entry {applied}, and the log begins after {log_base.index}: "
                    f"what lies between is lost. {FETCH_FROM_PEER}."
                )
            self.switch_to(staged.path)
            store = self._open_current()
        self._remove_others()
        return store

    def receive(self, cluster: ClusterId | None) -> SnapshotReceiver:
        """Return a receiver for a snapshot, beside the living state; an unfinished one before it is removed."""
        return SnapshotReceiver(self.path / f"incoming{UNFINISHED}", cluster)

    def stage(self, received: SnapshotReceiver) -> Checkpoint:
        """Check a received snapshot and keep it, complete, until `switch_to` or `forget`. Raises CorruptSnapshot."""
        checkpoint = received.finish()
        number = max([int(name) for name in os.listdir(self.path) if name.isdigit()], default=0) + 1
        staged = self.path / str(number)
        os.rename(checkpoint.path, staged)
        sync_directory(self.path)
        return Checkpoint(staged, checkpoint.base)

    def forget(self, staged: Checkpoint) -> None:
        """Remove a staged snapshot that was not taken up."""
        doomed = staged.path.with_name(staged.path.name + UNFINISHED)
        os.rename(staged.path, doomed)
        shutil.rmtree(doomed)

    def switch_to(self, path: Path) -> None:
        """Make `path` the current state, durable. Raises OSError."""
        link = self.path / f"{CURRENT}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        os.rename(link, self.path / CURRENT)
        failpoints.hit("snapshot.switched")
        sync_directory(self.path)

    def _open_current(self) -> StateStore:
        link = self.path / CURRENT
        target = self.path / os.readlink(link) if link.is_symlink() else link
        if not (target / "CURRENT").exists():
            raise DirectoryRefused(f"{self.path} has lost its current state ({target.name}). {FETCH_FROM_PEER}.")
        return StateStore(target, cache_bytes=self.cache_bytes)

    def _complete(self, base: BaseRecord) -> Checkpoint | None:
        """Return the staged snapshot that the log was told to begin after."""
        current = os.readlink(self.path / CURRENT)
        for name in sorted(os.listdir(self.path)):
            if name.isdigit() and name != current and (self.path / name / BASE).exists():
                try:
                    found = Checkpoint.open(self.path / name)
                except CorruptSnapshot:
                    continue
                if (found.base.index, found.base.term) == (base.index, base.term):
                    return found
        return None

    def _remove_others(self) -> None:
        kept = {CURRENT, os.readlink(self.path / CURRENT)}
        for name in sorted(set(os.listdir(self.path)) - kept):
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
