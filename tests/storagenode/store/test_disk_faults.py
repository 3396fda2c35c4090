"""The disk itself fails: the power is cut, it is full, it answers EIO. Each run checks that something was at risk."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blockyard.proto.errors import NoSpace
from blockyard.storagenode.store import BlockStore, StoreSettings

from tests.metaserver.storage.disks import demand_root_and, loop_disk, small_memory_disk
from tests.storagenode.store.harness import SMALL_LIMIT, block_id, check, opened, put, seal
from tests.storagenode.store.processes import ROOT, run_worker, start_worker
from tests.storagenode.store.worker import verify

MIB = 1 << 20


def wait_for_lines(path: Path, count: int, worker: "subprocess.Popen[bytes]", deadline_s: float = 60) -> None:
    limit = time.monotonic() + deadline_s
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert worker.poll() is None, worker.communicate()[1]
        assert time.monotonic() < limit, f"{path} did not reach {count} lines in {deadline_s} s"
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_was_durable_survives_power_cuts_and_what_was_dropped_stays_away(tmp_path: Path, kind: str) -> None:
    acks = tmp_path / "acks"
    vanished = 0
    with loop_disk(tmp_path, kind) as disk:
        data = disk.path / "data"
        for cut in range(5):
            lines = acks.read_bytes().count(b"\n") if acks.exists() else 0
            worker = start_worker(data, acks, 100_000, cut)
            try:
                wait_for_lines(acks, lines + 400 + 161 * cut, worker)
                disk.cut_power()
            finally:
                worker.send_signal(signal.SIGKILL)
                worker.communicate()
            assert worker.returncode in (-9, 3)
            disk.restart()
            promises = verify(data, acks, power_cut=True)
            with opened(data) as store:
                found = {block for group in store.groups() for block, _ in store.list(group, 0, 1_000_000)}
            vanished += len(promises.tried.keys() - found - promises.dropping - promises.durable)
            forget(acks, promises.tried.keys() - found - promises.durable)
    assert vanished, "nothing unsynced was lost: the cuts cut nothing"


def forget(acks: Path, blocks: set[int]) -> None:
    """Strike what a power cut was allowed to take, so that the next cut is judged by itself."""
    kept = [line for line in acks.read_text().splitlines() if int(line.split()[1]) not in blocks]
    highest = max(int(line.split()[1]) for line in acks.read_text().splitlines())
    acks.write_text("".join(line + "\n" for line in [*kept, f"trying {highest} 1", f"dropping {highest}"]))


def test_a_full_disk_refuses_puts_and_seals_cleanly_and_lets_drops_make_room(tmp_path: Path) -> None:
    settings = StoreSettings(small_block_limit_bytes=SMALL_LIMIT, pack_size_bytes=4 * MIB, sync_interval_s=3600)
    with small_memory_disk(tmp_path, 64) as small:
        expected: dict[int, int] = {}
        with opened(small / "data", settings) as store:
            number = fill(store, expected, reserve=False)
            assert store.usage().read_only
            fill(store, expected, reserve=True, first=number)
            with pytest.raises(NoSpace):
                seal(store, block_id(900_000), 5 * MIB, reserve=True)
            (small / "data" / "filler").write_bytes(b"")
            fill_to_the_last_byte(small / "data" / "filler")
            for reserve in (False, True):
                with pytest.raises(NoSpace):
                    put(store, [(block_id(900_000 + n), 60_000) for n in range(60)], reserve=reserve)
                with pytest.raises(NoSpace):
                    seal(store, block_id(900_000), 200_000, reserve=reserve)
            check(store, expected)
            leaving = [block for block in expected if block % 3]
            store.drop(leaving)
            for block in leaving:
                del expected[block]
            assert store.rewrite_packs(1 << 30) > 0
            (small / "data" / "filler").unlink()
            while store.rewrite_packs(1 << 30) > 0:
                pass
            assert not store.usage().read_only
            put(store, [(block_id(1_000_000), 60_000)])
            expected[block_id(1_000_000)] = 60_000
            check(store, expected)
        with opened(small / "data", settings) as store:
            check(store, expected)


def fill(store: BlockStore, expected: dict[int, int], *, reserve: bool, first: int = 1) -> int:
    """Put and seal until there is no space; return the next number."""
    number = first
    try:
        while True:
            blocks = [(block_id(number + n), 20_000) for n in range(10)]
            put(store, blocks, reserve=reserve)
            expected.update(blocks)
            number += 10
            if number % 100 == 1:
                seal(store, block_id(500_000 + number), 300_000, reserve=reserve)
                expected[block_id(500_000 + number)] = 300_000
    except NoSpace:
        return number


def fill_to_the_last_byte(path: Path) -> None:
    size = MIB
    with path.open("ab", buffering=0) as file:
        while size >= 4096:
            try:
                if file.write(bytes(size)) < size:
                    size //= 2
            except OSError:
                size //= 2


def test_a_store_that_is_told_its_capacity_keeps_to_it(tmp_path: Path) -> None:
    settings = StoreSettings(capacity_bytes=24 * MIB, pack_size_bytes=4 * MIB, sync_interval_s=3600)
    expected: dict[int, int] = {}
    with opened(tmp_path, settings) as store:
        fill(store, expected, reserve=False)
        usage = store.usage()
        assert 16 * MIB < usage.used_bytes <= 24 * MIB
        assert usage.free_bytes < 2 * MIB


@pytest.mark.parametrize(("call", "when"), [("fdatasync", 2), ("fdatasync", 5), ("fsync", 12), ("pwritev,pwritev2", 7)])
def test_a_failed_write_or_sync_ends_the_process_and_takes_nothing_acknowledged(
    tmp_path: Path, call: str, when: int
) -> None:
    demand_root_and("strace")
    data, acks = tmp_path / "data", tmp_path / "acks"
    trace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={call}"]
    path = ["-P", str(data / "packs" / "00000001-000000.pack")] if call != "fsync" else []
    done = run_worker(data, acks, 60, under=[*trace, *path, "-e", f"inject={call}:error=EIO:when={when}"])
    if "ptrace" in done.stderr:
        pytest.skip(f"strace cannot trace here ({done.stderr.strip()}): EIO from the kernel was not proven")
    assert "EIO" in (tmp_path / "trace").read_text(), "nothing was at risk"
    assert done.returncode == 3, done.stderr
    assert "Input/output error" in done.stderr
    verify(data, acks, power_cut=False)


READ = """
import sys
from pathlib import Path
from tests.storagenode.store.harness import SETTINGS, block_id
from blockyard.storagenode.store import BlockStore
store = BlockStore(Path(sys.argv[1]), SETTINGS)
store.open()
print(store.verify(block_id(1)), store.verify(block_id(2)))
store.close()
"""


def test_what_cannot_be_read_is_a_bad_page_and_ends_nothing(tmp_path: Path) -> None:
    demand_root_and("strace")
    data = tmp_path / "data"
    with opened(data) as store:
        put(store, [(block_id(1), 5000)])
        seal(store, block_id(2), 300_000)
    file = next((data / "blocks").glob("*/*"))
    trace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-P", str(file), "-e", "trace=preadv,preadv2"]
    command = [*trace, "-e", "inject=preadv,preadv2:error=EIO:when=3", sys.executable, "-c", READ, str(data)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if "ptrace" in done.stderr:
        pytest.skip(f"strace cannot trace here ({done.stderr.strip()}): EIO from the kernel was not proven")
    assert "EIO" in (tmp_path / "trace").read_text(), "nothing was at risk"
    assert "good=True, length=5000" in done.stdout, done.stderr
    assert "bad_pages=(2,)" in done.stdout


def test_a_store_is_opened_on_a_disk_that_is_full(tmp_path: Path) -> None:
    settings = StoreSettings(pack_size_bytes=MIB, sync_interval_s=3600)
    with small_memory_disk(tmp_path, 16) as small:
        expected = {block_id(number): 50_000 for number in range(1, 60)}
        with opened(small / "data", settings) as store:
            put(store, expected.items())
        fill_to_the_last_byte(small / "filler")
        assert os.statvfs(small).f_bavail == 0
        with opened(small / "data", settings) as store:
            check(store, expected)
            with pytest.raises(NoSpace):
                put(store, [(block_id(100), 50_000)])
            store.drop([block_id(1)])
            del expected[block_id(1)]
        with opened(small / "data", settings) as store:
            check(store, expected)
