"""Disks that fill up, fail or are slow, processes short of descriptors (RELIABILITY.md, rows 11, 13, 14, 18, 19)."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.blocks import page_checksums
from blockyard.proto.disk.stop import EXIT_STATUS
from blockyard.proto.storage_pb2 import PageChecksums, PutBlock, PutBlocksRequest

from tests.storagenode.faults.conftest import ZONES
from tests.storagenode.faults.disks import Mount, fill, injected, large_files
from tests.storagenode.faults.workload import Workload, content, until_serving, until_sound
from tests.support.storage_cluster import StorageCluster, wait_until

SECOND_US = 1_000_000


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[StorageCluster]:
    """Return a cluster whose first node has a disk of 160 MiB."""
    same = {"storagenode": {"capacity_bytes": 1 << 30}}
    cluster = StorageCluster(tmp_path / "cluster", ZONES, node_settings=same)
    disk = Mount(cluster.nodes["n1"].directory, "tmpfs", 160)
    try:
        with cluster:
            yield cluster
    finally:
        disk.close()


def put_alone(cluster: StorageCluster, work: Workload, name: str) -> None:
    """Put a block on one node and no other; nobody notes it. Raises what the node says."""
    view = cluster.view()
    node = view.node(cluster.id(name))
    block = next(block for block in iter(work.lease, 0) if view.holds(node.id, block >> 48))
    data = content(block, 3_000)
    put = PutBlock(block=block, length=len(data), checksums=PageChecksums(crc32c=page_checksums(data)))
    request = PutBlocksRequest(
        blocks=[put], chain=[node.in_chain()], durable=True, write_min=1, map_epoch=view.epoch, session=work.session
    )
    cluster.stub(name).PutBlocks(request, payload=data, timeout=20)


def test_a_full_disk_says_so_reads_and_deletes_go_on_and_so_do_writes_when_there_is_room(
    cramped: StorageCluster, tmp_path: Path
) -> None:
    with Workload(cramped, tmp_path / "manifest") as work:
        work.more(60)
        work.rest()
        filler = fill(cramped.nodes["n1"].directory)
        with pytest.raises(errors.NoSpace):
            put_alone(cramped, work, "n1")
        work.go_on()
        work.more(40, reads=20)  # the others take them
        work.rest()
        entries = work.manifest.snapshot()
        dead = work.bury(entries[: len(entries) // 2])
        wait_until(lambda: cramped.status().reclaim_blocks == 0, "a full disk drops what died")
        work.read_all()
        filler.unlink()
        wait_until(lambda: put_succeeds(cramped, work, "n1"), "the node takes blocks again")
        work.go_on()
        work.more(20)
        work.rest()
        until_sound(cramped, work.manifest, dead)
        assert "Traceback" not in cramped.nodes["n1"].output()


def put_succeeds(cluster: StorageCluster, work: Workload, name: str) -> bool:
    try:
        put_alone(cluster, work, name)
    except errors.NoSpace:
        return False
    return True


def test_a_disk_that_cannot_read_a_block_loses_no_reader_and_is_mended(four: StorageCluster, work: Workload) -> None:
    work.more(20)
    work.rest()
    known = {entry.block: entry for entry in work.manifest.snapshot()}
    node = four.nodes["n1"]
    bad = next(path for path in large_files(node.directory) if int(path.name, 16) in known)
    entry = known[int(bad.name, 16)]
    with injected(four, "n1", "sendfile,pread64,preadv,preadv2:error=EIO", bad):
        assert work.read_from(entry, four.view(), four.id("n1")) is not None, "the disk was to fail"
        assert work.read(entry, four.view())
        wait_until(lambda: "bad_replica" in node.output(), "the node finds that its replica is bad")
    until_sound(four, work.manifest)


def test_a_disk_that_cannot_sync_ends_its_node_and_the_others_go_on(four: StorageCluster, work: Workload) -> None:
    with injected(four, "n2", "fsync,fdatasync:error=EIO:when=1"):
        assert four.ended("n2", 30) == EXIT_STATUS
    assert "disk_failed" in four.nodes["n2"].output()
    work.more(20, reads=10)
    four.start("n2")
    until_serving(four, "n2")
    work.more(5)
    work.rest()
    until_sound(four, work.manifest)


@pytest.mark.parametrize("delay_s", [0.2, 6.0])
def test_a_slow_disk_does_not_stop_the_cluster(four: StorageCluster, work: Workload, delay_s: float) -> None:
    with injected(four, "n3", f"fsync,fdatasync:delay_enter={int(delay_s * SECOND_US)}"):
        work.more(20, reads=20)
    work.more(5)
    work.rest()
    until_sound(four, work.manifest)
    assert not work.unread


def test_a_node_short_of_descriptors_refuses_and_does_not_die(four: StorageCluster, work: Workload) -> None:
    pid = four.nodes["n4"].pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    open_now = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now + 2, before[1]))
    work.more(30, reads=20)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    until_serving(four, "n4")
    assert four.nodes["n4"].pid == pid
    assert four.nodes["n4"].running
    work.more(10)
    work.rest()
    until_sound(four, work.manifest)
