"""Power that goes while clients write (RELIABILITY.md, row 3 and section 4).

On the disk that lost it everything is there that was acknowledged as durable; what was not is at least on the machines
that kept theirs, and comes back from there.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkers.blocks import stored_blocks
from tests.storagenode.faults.conftest import ZONES
from tests.storagenode.faults.disks import Mount
from tests.storagenode.faults.workload import Workload, until_serving, until_sound
from tests.support.storage_cluster import StorageCluster, wait_until

MOST_CUTS = 3
"""Of each disk, until something was at risk."""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[StorageCluster, dict[str, Mount]]]:
    """Return a cluster whose nodes n1 and n2 have file systems of their own, and these."""
    same = {"storagenode": {"capacity_bytes": 1 << 30, "pack_size_bytes": 1 << 20}}
    cluster = StorageCluster(tmp_path / "cluster", ZONES, node_settings=same)
    disks: dict[str, Mount] = {}
    try:
        for name, kind in (("n1", "ext4"), ("n2", "xfs")):
            disks[name] = Mount(cluster.nodes[name].directory, kind, 320)
        with cluster:
            yield cluster, disks
    finally:
        for disk in disks.values():
            disk.close()


def freeze(cluster: StorageCluster, name: str) -> None:
    """Stop a node where it is: when power goes nobody is left to acknowledge what a dying disk says.

    (A sync that is under way while the file system is shut down may return success: only the processor's end makes
    that harmless.)
    """
    cluster.pause(name)
    tasks = Path(f"/proc/{cluster.nodes[name].pid}/task")
    wait_until(
        lambda: all((task / "stat").read_text().rpartition(")")[2].split()[0] in "TD" for task in tasks.iterdir()),
        f"every thread of {name} stands still",
    )


def test_a_disk_that_loses_power_has_all_that_was_durable_and_the_others_have_the_rest(
    mounted: tuple[StorageCluster, dict[str, Mount]], tmp_path: Path
) -> None:
    cluster, disks = mounted
    lost: set[int] = set()
    with Workload(cluster, tmp_path / "manifest") as work:
        for _ in range(MOST_CUTS):
            for name, disk in disks.items():
                work.more(20)
                number = cluster.id(name)
                freeze(cluster, name)
                disk.cut_power()
                entries = [entry for entry in work.manifest.snapshot() if number in entry.nodes]
                cluster.kill(name)
                disk.remount()
                here = stored_blocks(disk.place)
                gone = [entry for entry in entries if entry.durable and entry.block not in here]
                assert not gone, f"{len(gone)} of {len(entries)} blocks are gone from {name}: {gone}"
                lost |= {entry.block for entry in entries} - here
                cluster.start(name)
                until_serving(cluster, name)
                work.more(10)
            if lost:
                break
        work.rest()
        until_sound(cluster, work.manifest)
        work.read_all()
    assert lost, "every block was on the disk before the power went: nothing was at risk"
