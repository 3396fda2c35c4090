"""A disk is tried while nobody else shows that it works; one that hangs is said to hang, one that fails is told of."""

import errno
import threading
from pathlib import Path

from blockyard.storagenode.node.disk_watch import PROBE_BYTES, DiskWatch

from tests.support.storage_cluster import wait_until


class Disk:
    """What the watch is told, and what it tells."""

    def __init__(self, path: Path, hung_after_s: float = 60.0) -> None:
        self.syncs = 0
        self.busy = False
        self.answers = threading.Event()
        self.answers.set()
        self.error: OSError | None = None
        self.failures: list[OSError] = []
        self.watch = DiskWatch(
            path / "probe", self._count, self.failures.append, period_s=0.01, hung_after_s=hung_after_s
        )

    def _count(self) -> int:
        assert self.answers.wait(30)
        if self.error is not None:
            raise self.error
        self.syncs += self.busy
        return self.syncs


def test_an_idle_disk_is_tried_by_a_write_and_a_sync(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.watch.start()
    wait_until(lambda: disk.watch.probes > 2, "the disk is tried")
    disk.watch.stop()
    assert (tmp_path / "probe").stat().st_size == PROBE_BYTES
    assert disk.watch.probe_us > 0
    assert not disk.watch.hung
    assert not disk.failures


def test_a_disk_that_others_sync_is_left_alone(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.busy = True
    disk.watch.start()
    wait_until(lambda: disk.syncs > 5, "the watch has looked a few times")
    disk.watch.stop()
    assert disk.watch.probes == 0


def test_a_disk_that_does_not_answer_is_hung_until_it_does(tmp_path: Path) -> None:
    disk = Disk(tmp_path, hung_after_s=0.05)
    disk.answers.clear()
    disk.watch.start()
    wait_until(lambda: disk.watch.hung, "the disk is said to hang")
    disk.answers.set()
    wait_until(lambda: not disk.watch.hung, "the disk is said to work again")
    disk.watch.stop()


def test_a_failing_disk_is_told_of_once(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.error = OSError(errno.EIO, "bad")
    disk.watch.start()
    wait_until(lambda: disk.failures, "the failure is told")
    disk.watch.stop()
    assert disk.failures == [disk.error]


def test_a_probe_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "gone")
    disk.watch.start()
    wait_until(lambda: disk.failures, "the failure is told")
    disk.watch.stop()
    assert disk.failures[0].errno == errno.ENOENT
