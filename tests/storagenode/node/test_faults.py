"""Disks that fail, hang and fill up: the process ends, falls silent, or takes no more, and never pretends."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.cluster_pb2 import NODE_DOWN
from blockyard.proto.disk.stop import EXIT_STATUS
from blockyard.proto.storage_pb2 import VerifyBlockRequest

from tests.storagenode.node.conftest import Make
from tests.support.acknowledged import AcknowledgedBlocks
from tests.support.storage_cluster import StorageCluster, wait_until

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: failing and hanging disks are left unproven"
)
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="a small disk is mounted by root: full disks are left unproven"
)


def strace(what: str) -> list[str]:
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", f"inject=fdatasync:{what}"]


@needs_strace
def test_a_disk_that_fails_a_sync_ends_the_process(cluster: StorageCluster) -> None:
    cluster.kill("n1")
    cluster.start("n1", wrapper=strace("error=EIO:when=30+"))
    assert cluster.ended("n1", 60) == EXIT_STATUS
    assert "disk_failed" in cluster.nodes["n1"].output()
    cluster.until_state("n1", NODE_DOWN)


@needs_strace
def test_a_node_whose_disk_hangs_does_not_say_that_it_lives(
    cluster: StorageCluster, blocks: AcknowledgedBlocks
) -> None:
    cluster.kill("n1")
    cluster.start("n1", wrapper=strace("delay_enter=3600s:when=30+"))
    cluster.until_up("n1")
    wait_until(lambda: not blocks_reach(cluster, blocks, "n1"), "writes go on without the node that hangs", 60)
    cluster.until_state("n1", NODE_DOWN, timeout_s=60)
    assert cluster.nodes["n1"].running
    blocks.put(3)
    blocks.assert_readable()


def blocks_reach(cluster: StorageCluster, blocks: AcknowledgedBlocks, name: str) -> bool:
    number = cluster.id(name)
    return all(number in written.nodes for written in blocks.put(1))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 160 MiB in memory."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "blockyard-test", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@needs_root
def test_a_full_disk_takes_no_new_blocks_until_there_is_room_again(small_disk: Path, make: Make) -> None:
    cluster = make(node_settings={"storagenode": {"capacity_bytes": 1 << 30}})  # so that all weigh the same
    cluster.add("z4", name="small", directory=small_disk / "data")
    cluster.start("small")
    cluster.until_up()
    blocks = AcknowledgedBlocks(cluster)
    blocks.put(20)
    room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    filler = small_disk / "filler"
    filler.write_bytes(bytes(room - (1 << 20)))
    wait_until(lambda: free(cluster, "small") == 0, "the cluster hears that it is full")
    blocks.put(20)
    blocks.assert_readable()
    number = cluster.id("small")
    assert any(number in each.nodes for each in list(blocks.blocks.values())[:20])
    assert not any(number in each.nodes for each in list(blocks.blocks.values())[20:])
    filler.unlink()
    wait_until(lambda: free(cluster, "small") > 0, "the cluster hears that there is room")
    blocks.until_whole()
    wait_until(lambda: any(number in each.nodes for each in blocks.put(8)), "it takes new blocks again")
    blocks.close()


@needs_root
def test_a_node_starts_again_on_a_disk_without_a_byte_left(small_disk: Path, make: Make) -> None:
    cluster = make(node_settings={"storagenode": {"capacity_bytes": 1 << 30}})
    cluster.add("z4", name="small", directory=small_disk / "data")
    cluster.start("small")
    cluster.until_up()
    blocks = AcknowledgedBlocks(cluster)
    blocks.put(20)
    wait_until((small_disk / "data" / "probe").exists, "the disk was tried")
    cluster.kill("small")
    fill(small_disk / "filler")
    cluster.start("small")
    cluster.until_up("small")
    assert free(cluster, "small") == 0
    number = cluster.id("small")
    held = [block for block, written in blocks.blocks.items() if number in written.nodes]
    assert held
    stub = cluster.stub("small")
    assert all(stub.VerifyBlock(VerifyBlockRequest(block=block)).good for block in held)
    blocks.close()


def fill(path: Path) -> None:
    """Leave not a page of the disk."""
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


def free(cluster: StorageCluster, name: str) -> int:
    found = cluster.heard(name)
    return found.heartbeat.free_bytes if found else -1


def test_a_write_to_a_group_that_the_node_does_not_hold_is_refused(make: Make) -> None:
    cluster = make(zones=("z1", "z2", "z3", "z4"))
    blocks = AcknowledgedBlocks(cluster)
    view = cluster.view()
    [block] = blocks.lease(1)
    stranger = next(node for node in view.nodes.values() if not view.holds(node.id, view.group_of(block)))
    with pytest.raises(errors.InvalidArgument, match="does not hold placement group"):
        blocks.write_along(block, [stranger.in_chain()], view.epoch)
    with pytest.raises(errors.StaleEpoch) as caught:
        blocks.write_along(block, [stranger.in_chain()], view.epoch - 1)
    assert caught.value.map_epoch == view.epoch
    with pytest.raises(errors.StaleEpoch, match="newest map is"):
        blocks.write_along(block, view.chain(block), view.epoch + 1_000)
    blocks.write_along(block, view.chain(block), view.epoch)
    blocks.assert_whole()
    blocks.close()
