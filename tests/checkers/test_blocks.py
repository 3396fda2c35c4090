"""The checker of blocks finds what it is there to find: each damage is planted, and its finding is demanded."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from blockyard.storagenode.store import BlockStore

from tests.checkers.blocks import Kind, Written, check, check_directory, stored_blocks
from tests.storagenode.faults.workload import Workload, until_serving, until_sound
from tests.support.storage_cluster import StorageCluster, wait_until


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StorageCluster, Workload]]:
    """Return a cluster with blocks on all its nodes, and who wrote them; nothing is under way."""
    root = tmp_path_factory.mktemp("checked")
    with StorageCluster(root / "cluster") as cluster, Workload(cluster, root / "manifest") as work:
        work.more(20)
        work.rest()
        until_sound(cluster, work.manifest)
        yield cluster, work


def test_a_block_that_nobody_has_is_lost(filled: tuple[StorageCluster, Workload]) -> None:
    cluster, work = filled
    made_up = Written(work.lease(), 5, 1)
    findings = check(cluster, {**work.manifest.written(), made_up.block: made_up})
    assert {finding.kind for finding in findings} == {Kind.LOST, Kind.MISSING}
    assert {finding.block for finding in findings} == {made_up.block}


def test_a_block_that_is_not_what_was_written_is_wrong(filled: tuple[StorageCluster, Workload]) -> None:
    cluster, work = filled
    written = work.manifest.written()
    told = next(iter(written.values()))
    written[told.block] = Written(told.block, told.length, told.crc32c ^ 1)
    findings = check(cluster, written)
    assert [finding.kind for finding in findings] == [Kind.WRONG] * 3
    assert {finding.block for finding in findings} == {told.block}


def test_a_dead_block_that_is_here_has_risen(filled: tuple[StorageCluster, Workload]) -> None:
    cluster, work = filled
    written = work.manifest.written()
    block = next(iter(written))
    findings = check(cluster, written, {block})
    assert [(finding.kind, finding.block) for finding in findings] == [(Kind.RISEN, block)] * 3


def test_damage_to_a_disk_is_found_there_and_by_the_cluster(filled: tuple[StorageCluster, Workload]) -> None:
    cluster, work = filled
    written = work.manifest.written()
    node = cluster.nodes["n1"]
    cluster.stop("n1")
    assert not check_directory(node.directory, written)
    store = BlockStore(node.directory / "blocks")
    store.open()
    large = [block for block in written if not store.find(block).in_pack]
    small = next(block for block in written if store.find(block).in_pack)
    store.drop([small])
    store.close()
    one, other = (node.directory / "blocks" / "blocks" / f"{block % 256:02x}" / f"{block:016x}" for block in large[:2])
    bytes_of_one = one.read_bytes()
    one.write_bytes(other.read_bytes()[: len(bytes_of_one)].ljust(len(bytes_of_one), b"\0"))
    other.with_name("0123456789abcdef").write_bytes(b"stray")
    found = {(finding.kind, finding.block) for finding in check_directory(node.directory, written)}
    assert found == {(Kind.WRONG, large[0]), (Kind.STRAY, 0)}
    assert stored_blocks(node.directory) == {*written} - {small, large[0]}
    cluster.start("n1")
    until_serving(cluster, "n1")
    assert (Kind.WRONG, large[0]) in {(each.kind, each.block) for each in check(cluster, written, repaired=False)}
    until_sound(cluster, work.manifest)


def test_orphans_are_found_once_they_are_old(filled: tuple[StorageCluster, Workload], tmp_path: Path) -> None:
    cluster, work = filled
    assert not check(cluster, work.manifest.written(), orphan_age_s=1)
    gone = Workload(cluster, tmp_path / "manifest", seed=9)
    entry = gone.put(gone.lease(), 100)
    gone.end_session()
    wait_until(lambda: check(cluster, work.manifest.written(), orphan_age_s=1), "the orphan is old enough")
    findings = check(cluster, work.manifest.written(), orphan_age_s=1)
    assert sorted((each.kind, each.node) for each in findings) == [(Kind.ORPHAN, node) for node in sorted(entry.nodes)]
    assert not check(cluster, work.manifest.written())
