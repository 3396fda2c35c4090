"""Bits that flip, tails that tear, files that are another's or of another time (RELIABILITY.md, rows 15 to 17).

All of it is found and made good from the other replicas, and no reader ever gets a byte of it.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.storage_pb2 import NodeInfoRequest, StartScrubRequest
from blockyard.storagenode.store.pack import FIRST_RECORD

from tests.storagenode.faults.disks import flip_bit, large_files, packs
from tests.storagenode.faults.workload import Workload, until_serving, until_sound
from tests.support.storage_cluster import StorageCluster, wait_until

NAME = "n1"
EXIT_CONFIG = 78

Damage = Callable[[Path, random.Random], None]


def flip_large_file(directory: Path, chance: random.Random) -> None:
    for path in chance.sample(large_files(directory), 2):
        flip_bit(path, chance)


def flip_pack_records(directory: Path, chance: random.Random) -> None:
    """One bit in each 20 kB of records: payloads, headers, page tables."""
    for path in packs(directory):
        size = path.stat().st_size
        for start in range(FIRST_RECORD, size - 20_000, 20_000):
            flip_bit(path, chance, start, start + 20_000)


def flip_pack_header(directory: Path, chance: random.Random) -> None:
    for path in packs(directory):
        flip_bit(path, chance, 0, 40)


def flip_index_tables(directory: Path, chance: random.Random) -> None:
    tables = sorted((directory / "blocks" / "index").glob("*.sst"))
    for path in tables:
        flip_bit(path, chance)


def flip_index_manifest(directory: Path, chance: random.Random) -> None:
    for path in (directory / "blocks" / "index").glob("MANIFEST-*"):
        flip_bit(path, chance)


def lose_index_current(directory: Path, chance: random.Random) -> None:
    (directory / "blocks" / "index" / "CURRENT").write_bytes(b"")


def tear_tail(directory: Path, chance: random.Random) -> None:
    path = packs(directory)[-1]
    size = path.stat().st_size
    os.truncate(path, max(FIRST_RECORD, size - chance.randrange(1, 30_000)))


def zero_tail(directory: Path, chance: random.Random) -> None:
    path = packs(directory)[-1]
    size = path.stat().st_size
    cut = max(FIRST_RECORD, size - chance.randrange(1, 30_000))
    os.truncate(path, cut)
    os.truncate(path, size)


def swap_files(directory: Path, chance: random.Random) -> None:
    one, other = chance.sample(large_files(directory), 2)
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def put_other_bytes_of_the_same_length(directory: Path, chance: random.Random) -> None:
    path = chance.choice(large_files(directory))
    path.write_bytes(chance.randbytes(path.stat().st_size))


def lose_file(directory: Path, chance: random.Random) -> None:
    chance.choice(large_files(directory)).unlink()


def lose_pack(directory: Path, chance: random.Random) -> None:
    packs(directory)[0].unlink()


DAMAGES: dict[str, tuple[Damage, ...]] = {
    "large files": (flip_large_file, swap_files, put_other_bytes_of_the_same_length, lose_file),
    "records": (flip_pack_records, flip_pack_header, tear_tail),
    "a pack and a tail": (lose_pack, zero_tail),
    "tables": (flip_index_tables,),
    "manifest": (flip_index_manifest,),
    "current": (lose_index_current,),
}


def scrub(cluster: StorageCluster, name: str) -> None:
    """Let a node read everything it has; one that ends because its index cannot be read makes it anew and goes on."""
    begun = 0  # by the process of that id

    def through() -> bool:
        nonlocal begun
        until_serving(cluster, name, supervised=True)
        try:
            stub = cluster.stub(name)
            if begun != cluster.nodes[name].pid:
                stub.StartScrub(StartScrubRequest(), timeout=20)
                begun = cluster.nodes[name].pid
            return not stub.NodeInfo(NodeInfoRequest(), timeout=20).scrubbing
        except errors.BlockyardError:
            return False

    wait_until(through, f"{name} has read all it has")


@pytest.mark.parametrize("damaged", DAMAGES)
def test_what_rots_on_a_disk_is_found_and_made_good(four: StorageCluster, work: Workload, damaged: str) -> None:
    chance = random.Random(damaged)
    work.more(60)
    work.rest()
    four.stop(NAME)  # in good order, so that everything is where the damage looks for it
    for damage in DAMAGES[damaged]:
        damage(four.nodes[NAME].directory, chance)
    four.start(NAME)
    until_serving(four, NAME, supervised=True)
    work.read_all()
    scrub(four, NAME)
    until_sound(four, work.manifest)


def test_a_file_that_rots_under_a_running_node_reaches_no_reader(four: StorageCluster, work: Workload) -> None:
    chance = random.Random(17)
    work.more(40)
    work.rest()
    known = {entry.block: entry for entry in work.manifest.snapshot()}
    bad = next(path for path in large_files(four.nodes[NAME].directory) if int(path.name, 16) in known)
    flip_bit(bad, chance)
    entry = known[int(bad.name, 16)]
    assert work.read_from(entry, four.view(), four.id(NAME)) is not None, "bad bytes were served"
    assert work.bad_replicas == 1
    until_sound(four, work.manifest)


def test_an_index_of_another_time_raises_nothing_from_the_dead(
    four: StorageCluster, work: Workload, tmp_path: Path
) -> None:
    index = four.nodes[NAME].directory / "blocks" / "index"
    work.more(60)
    four.stop(NAME)
    shutil.copytree(index, tmp_path / "index")
    four.start(NAME)
    until_serving(four, NAME)
    work.more(40)
    entries = work.manifest.snapshot()
    dead = work.bury(entries[: len(entries) // 2])
    wait_until(lambda: four.status().reclaim_blocks == 0, "what died is reclaimed")
    work.rest()
    four.stop(NAME)
    shutil.rmtree(index)
    shutil.copytree(tmp_path / "index", index)
    four.start(NAME)
    until_serving(four, NAME)
    until_sound(four, work.manifest, dead)


def test_a_block_file_that_comes_back_after_its_block_was_dropped_is_nobodys(
    four: StorageCluster, work: Workload, tmp_path: Path
) -> None:
    work.more(60)
    known = {entry.block: entry for entry in work.manifest.snapshot()}
    path = next(path for path in large_files(four.nodes[NAME].directory) if int(path.name, 16) in known)
    shutil.copy(path, tmp_path / path.name)
    dead = work.bury([known[int(path.name, 16)]])
    wait_until(lambda: not path.exists(), "the block is dropped")
    work.rest()
    shutil.copy(tmp_path / path.name, path)
    until_sound(four, work.manifest, dead)
    four.restart(NAME)
    until_serving(four, NAME)
    until_sound(four, work.manifest, dead)
    path.unlink(missing_ok=True)  # a start may have swept it


def test_an_identity_that_rots_is_not_believed(four: StorageCluster, work: Workload) -> None:
    work.rest()
    four.stop(NAME)
    flip_bit(four.nodes[NAME].directory / "identity", random.Random(5))
    four.start(NAME)
    assert four.ended(NAME) == EXIT_CONFIG
    assert "cannot be trusted" in four.nodes[NAME].output()
    four.wipe(NAME)
    four.start(NAME)
    until_serving(four, NAME)
    work.go_on()
    work.more(5)
    work.rest()
    until_sound(four, work.manifest)
