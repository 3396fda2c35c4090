"""The disk itself fails: the power is cut, it is full, a sync returns EIO.

Every run checks that something was at risk: the process was stopped in the middle, or saw the error.
"""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blockyard.proto.disk.failures import StorageFailed

from tests.metaserver.storage.disks import demand_root_and, loop_disk, small_memory_disk
from tests.metaserver.storage.harness import entries, new_log, new_state, open_log
from tests.metaserver.storage.processes import ROOT, make_backup, make_directory, run_worker
from tests.metaserver.storage.worker import verify


def wait_for_lines(path: Path, count: int, deadline_s: float = 60) -> None:
    limit = time.monotonic() + deadline_s
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < limit, f"{path} did not reach {count} lines in {deadline_s} s"
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_was_acknowledged_survives_power_cuts(tmp_path: Path, kind: str) -> None:
    acks, backup_file = tmp_path / "acks", make_backup(tmp_path / "peer")
    with loop_disk(tmp_path, kind) as disk:
        data = make_directory(disk.path / "data")
        for cut in range(4):
            arguments = [str(data), str(acks), "100000", *([str(backup_file)] if cut == 2 else [])]
            lines = acks.read_bytes().count(b"\n") if acks.exists() else 0
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.metaserver.storage.worker", *arguments],
                cwd=ROOT,
                stderr=subprocess.PIPE,
            )
            try:
                wait_for_lines(acks, lines + 150 + 61 * cut)
                disk.cut_power()
            finally:
                worker.send_signal(signal.SIGKILL)
                worker.communicate()
            assert worker.returncode in (-9, 3)
            disk.restart()
            verify(data, acks).close()


UNFLUSHED = """
import sys
from blockyard.proto.disk.failures import StorageFailed
from tests.metaserver.storage.disks import Disk
from tests.metaserver.storage.harness import *
disk = Path(sys.argv[1])
store = new_state(disk / "state")
put(store, 1, (b"a", b"1"))
store.flush()
for applied in range(2, 500):
    put(store, applied, (b"a", b"%d" % applied), (b"k%d" % applied, b""))
Disk(disk, disk).cut_power()
for call in (store.flush, store.flush, lambda: put(store, 1000)):
    try:
        call()
    except StorageFailed:
        print("refused")
"""


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_power_cut_takes_unflushed_state_and_leaves_an_older_whole_one(tmp_path: Path, kind: str) -> None:
    with loop_disk(tmp_path, kind) as disk:
        assert run_code(UNFLUSHED, disk.path).split() == ["refused"] * 3
        disk.restart()
        found = new_state(disk.path / "state")
        assert (found.applied_index(), found.get(b"a")) == (1, b"1")
        found.close()


FILL = """
import os, sys
from blockyard.proto.disk.failures import StorageFailed
from tests.metaserver.storage.harness import *
store, durable = new_state(Path(sys.argv[1]) / "state"), 0
try:
    for applied in range(1, 1000):
        put(store, applied, *[(os.urandom(16), os.urandom(1000)) for _ in range(100)])
        durable = store.flush()
except StorageFailed:
    print(durable, flush=True)
    try:
        put(store, 2000)
    except StorageFailed:
        os._exit(0)
os._exit(1)
"""


def run_code(code: str, path: Path) -> str:
    """Run `code` on `path` in a process of its own, so that nothing of it is left open; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_on_a_full_disk_the_log_ends_cleanly_and_keeps_every_entry(tmp_path: Path) -> None:
    with small_memory_disk(tmp_path, 2) as small:
        log, index = new_log(small / "log", 256 << 10), 2

        def fill() -> None:
            nonlocal index
            while True:
                log.append(entries(index, index + 10, size=4000))
                index += 10

        with pytest.raises(StorageFailed, match="No space left"):
            fill()
        assert index > 100
        with pytest.raises(StorageFailed):
            log.append(entries(index, index + 1))
        shutil.copytree(small / "log", tmp_path / "larger")
        found = open_log(tmp_path / "larger")
        assert found.last_index() == index - 1


def test_without_space_for_a_spare_the_log_goes_on(tmp_path: Path) -> None:
    with small_memory_disk(tmp_path, 1) as small:
        log = new_log(small / "log", 256 << 10)
        (small / "filler").write_bytes(bytes(600 << 10))
        with pytest.raises(OSError, match="No space left"):
            log.prepare_spare()
        log.append(entries(2, 10))
        (small / "filler").unlink()
        log.prepare_spare()
        assert not log.wants_spare


def test_on_a_full_disk_the_state_ends_cleanly_and_keeps_what_was_flushed(tmp_path: Path) -> None:
    with small_memory_disk(tmp_path, 8) as small:
        durable = int(run_code(FILL, small))
        assert durable > 10
        shutil.copytree(small / "state", tmp_path / "larger")
        found = new_state(tmp_path / "larger")
        assert found.applied_index() >= durable
        found.verify()


@pytest.mark.parametrize("when", [2, 5, 9])
def test_a_failed_sync_ends_the_process_and_takes_nothing_acknowledged(tmp_path: Path, when: int) -> None:
    demand_root_and("strace")
    data, acks = make_directory(tmp_path / "data"), tmp_path / "acks"
    segment = data / "log" / f"{1:020d}.log"
    tracer = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-P", str(segment), "-e", "trace=fdatasync"]
    failed = run_worker(data, acks, 40, under=[*tracer, "-e", f"inject=fdatasync:error=EIO:when={when}"])
    if "ptrace" in failed.stderr:
        pytest.skip(f"strace cannot trace here ({failed.stderr.strip()}): EIO from the kernel was not proven")
    assert failed.returncode == 3, failed.stderr
    assert "EIO" in (tmp_path / "trace").read_text()
    assert "Input/output error" in failed.stderr
    verify(data, acks).close()
