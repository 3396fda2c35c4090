"""Starting the worker, with failpoints or under strace, and making what it works on."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from blockyard.metaserver.raft.types import BaseRecord, LogIndex, Term
from blockyard.metaserver.state.transaction import WriteBatch
from blockyard.metaserver.storage import backup
from blockyard.metaserver.storage.checkpoint import Checkpoint, Checkpoints
from blockyard.metaserver.storage.directory import DataDirectory
from blockyard.metaserver.storage.snapshot_stream import join, send
from blockyard.proto import failpoints

from tests.metaserver.storage.harness import CLUSTER, IDENTITY, MEMBERSHIP, START, new_state
from tests.metaserver.storage.worker import SEGMENT, state_at

ROOT = Path(__file__).resolve().parents[3]
SNAPSHOT_INDEX = 5000


def make_directory(path: Path) -> Path:
    DataDirectory.create(path, IDENTITY, START, with_state=True, segment_size_bytes=SEGMENT)
    return path


def make_checkpoint(path: Path, index: int = SNAPSHOT_INDEX) -> Checkpoint:
    """Return a checkpoint of the state at `index`, below the new directory `path`."""
    path.mkdir()
    store = new_state(path / "store")
    store.apply(WriteBatch(list(state_at(index).items())), LogIndex(index))
    return Checkpoints(path / "checkpoints").create(store, lambda at: BaseRecord(at, Term(3), MEMBERSHIP))


def make_backup(path: Path, index: int = SNAPSHOT_INDEX) -> Path:
    """Return a backup file of the state at `index`, below the new directory `path`."""
    checkpoint = make_checkpoint(path, index)
    backup.write(path / "backup", (join(part, data) for part, data in send(checkpoint, CLUSTER)))
    return path / "backup"


def run_worker(
    data: Path, acks: Path, count: int, backup_file: Path | None = None, fail: str = "", under: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the worker to its end, `under` a command such as strace, with failpoints `fail`."""
    command = [*under, sys.executable, "-m", "tests.metaserver.storage.worker", str(data), str(acks), str(count)]
    return subprocess.run(
        command + ([str(backup_file)] if backup_file else []),
        cwd=ROOT,
        env={**os.environ, failpoints.VARIABLE: fail},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
