"""A member's disk at work, as a process to be killed: `python worker.py DATA ACKS COUNT [BACKUP]`.

It opens DATA, replays, and appends and applies COUNT entries with everything that belongs to it: flushes, compaction,
replaced tails, checkpoints, and in the middle, with BACKUP, the installation of that snapshot. Before and after each
step it notes in ACKS, outside the disk under test and synced, what it is about to do and what it has been promised:

    acked INDEX TERM      append returned: the entry survives anything
    replacing INDEX       entries from here on may go
    beginning INDEX       a snapshot may now take the place of everything
    began INDEX           it has
    started COUNT         the identity's count of starts

The state is a function of the applied index alone, so it can be checked at any index. Exits 3 when the disk failed.
"""

import os
import sys
from pathlib import Path

from blockyard.metaserver.raft.types import BaseRecord, LogIndex, Term
from blockyard.metaserver.state.transaction import WriteBatch
from blockyard.metaserver.storage import backup
from blockyard.metaserver.storage.directory import DataDirectory
from blockyard.proto import ids
from blockyard.proto.disk.failures import StorageFailed

from tests.metaserver.storage.harness import CLUSTER, MEMBERSHIP, entries, hard

ROWS = 97
SEGMENT = 16384


def row(index: int) -> tuple[bytes, bytes]:
    """Return what applying entry `index` writes."""
    return b"n%03d" % (index % ROWS), b"%d" % index * 10


def state_at(applied: int) -> dict[bytes, bytes]:
    """Return the whole state at an applied index."""
    return dict(row(index) for index in range(max(2, applied - ROWS + 1), applied + 1))


def open_directory(path: Path) -> DataDirectory:
    return DataDirectory(
        path,
        CLUSTER,
        ids.MemberId(1),
        with_state=True,
        segment_size_bytes=SEGMENT,
        log_cache_bytes=4096,
        state_cache_bytes=1 << 20,
    )


class Worker:
    def __init__(self, data: Path, acks: Path) -> None:
        self.acks = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.directory = open_directory(data)
        self.note(f"started {self.directory.identity.starts}")
        self.term = self.directory.log.hard_state.term + 1
        self.replay()

    def note(self, line: str) -> None:
        os.write(self.acks, line.encode() + b"\n")
        os.fdatasync(self.acks)

    def replay(self) -> None:
        log, state = self.directory.log, self.directory.state
        for index in range(state.applied_index() + 1, log.last_index() + 1):
            state.apply(WriteBatch([row(index)]), LogIndex(index))

    def append(self, low: int, high: int) -> None:
        self.directory.log.append(entries(low, high, self.term, 300), hard(self.term, 1, low - 1))
        for index in range(low, high):
            self.note(f"acked {index} {self.term}")

    def base(self, index: int) -> BaseRecord:
        return BaseRecord(LogIndex(index), self.directory.log.term(LogIndex(index)), MEMBERSHIP)

    def work(self, step: int) -> None:
        directory, log = self.directory, self.directory.log
        last = int(log.last_index())
        self.append(last + 1, last + 1 + step % 4 + 1)
        if step % 7 == 3 and directory.state.applied_index() < last:
            self.note(f"replacing {last}")
            self.term += 1
            self.append(last, last + 2)
        limit = log.last_index() - 2  # as if the last ones were not committed yet
        for index in range(directory.state.applied_index() + 1, limit + 1):
            directory.state.apply(WriteBatch([row(index)]), LogIndex(index))
        if step % 10 == 5:
            directory.state.flush()
        if step % 10 == 9 and directory.compaction_limit() > log.base.index:
            directory.compact(self.base(directory.compaction_limit()))
            log.prepare_spare()
        if step % 20 == 15:
            taken = directory.take_checkpoint(lambda index: MEMBERSHIP)
            assert directory.checkpoints is not None
            for old in directory.checkpoints.list():
                if old.base.index < taken.base.index:
                    directory.checkpoints.delete(old)

    def install(self, backup_file: Path) -> None:
        directory = self.directory
        assert directory.states is not None
        receiver = directory.states.receive(CLUSTER)
        with open(backup_file, "rb") as file:
            for part in backup.read(file):
                receiver.take(part, part.data)
        staged = directory.states.stage(receiver)
        if staged.base.index <= directory.log.base.index:
            directory.states.forget(staged)
            return
        self.term = max(self.term, staged.base.term) + 1
        self.note(f"beginning {staged.base.index}")
        directory.install_snapshot(staged, hard(self.term, 1, staged.base.index))
        self.note(f"began {staged.base.index}")


def main(data: str, acks: str, count: str, backup_file: str = "") -> None:
    try:
        worker = Worker(Path(data), Path(acks))
        for step in range(int(count)):
            worker.work(step)
            if backup_file and step == int(count) // 2:
                worker.install(Path(backup_file))
        worker.directory.close()
    except StorageFailed as error:
        print(error, file=sys.stderr)
        os._exit(3)


def verify(data: Path, acks: Path) -> DataDirectory:
    """Open the directory and check it against the promises in `acks`; return it open."""
    promised: dict[int, int] = {}
    beginning = began = starts = 0
    for line in acks.read_text().splitlines() if acks.exists() else []:
        what, index, *rest = line.split()
        number = int(index)
        if what == "acked":
            promised[number] = int(rest[0])
        elif what == "replacing":
            promised = {i: t for i, t in promised.items() if i < number}
        elif what == "beginning":
            beginning = number
        elif what == "began":
            began = number
        else:
            starts = number
    directory = open_directory(data)
    log, state = directory.log, directory.state
    assert directory.identity.starts > starts
    assert log.base.index <= state.applied_index() <= log.last_index()
    found = {key: value for key, value in state.scan(b"", b"\xff") if not key.startswith(b"L")}
    assert found == state_at(state.applied_index()), f"the state is not that of index {state.applied_index()}"
    assert log.base.index >= began
    for acked, term in promised.items():
        if acked <= log.base.index or log.base.index == beginning:
            continue
        assert acked <= log.last_index(), f"acknowledged entry {acked} is gone: the log ends at {log.last_index()}"
        assert log.term(LogIndex(acked)) == Term(term), f"entry {acked} changed its term"
    low, high = log.first_index(), LogIndex(log.last_index() + 1)
    if low < high:
        assert [e.index for e in log.entries(low, high, 1 << 30)] == list(range(low, high))
    return directory


if __name__ == "__main__":
    main(*sys.argv[1:])
