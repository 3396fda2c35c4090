"""Copies that are lost, and nodes that come back with too little or too much (RELIABILITY.md, rows 21 and 22)."""

import pytest
from blockyard.proto import errors
from blockyard.proto.cluster_pb2 import NODE_DOWN

from tests.storagenode.faults.workload import Workload, until_serving, until_sound
from tests.support.storage_cluster import StorageCluster, wait_until


def test_with_two_of_three_copies_gone_reads_serve_writes_pause_and_repair_makes_three(
    four: StorageCluster, work: Workload
) -> None:
    work.more(80)
    work.rest()
    view = four.view()
    block = work.lease()
    first, *others = view.groups[block >> 48].nodes
    victims = [view.node(number).name for number in others]
    four.kill(*victims)
    for name in victims:
        four.until_state(name, NODE_DOWN)
    work.read_all()
    with pytest.raises(errors.BelowWriteMin):
        work.put(block, 1_000, view=four.view())
    more = (each for each in iter(work.lease, 0) if each >> 48 == block >> 48)
    with pytest.raises(errors.BelowWriteMin):
        work.put(next(more), 1_000, view=view)  # under the map from before
    with pytest.raises(errors.BelowWriteMin):
        work.stream(next(more), 600_000, view=view)
    for name in victims:
        four.wipe(name)
        four.start(name)
        until_serving(four, name)
    four.until_up()
    until_sound(four, work.manifest)
    again = four.view()
    assert first in again.groups[block >> 48].nodes
    assert not any(again.groups_of(number) for number in others), "a wiped node is a new one"
    work.go_on()
    work.more(10)
    work.rest()
    until_sound(four, work.manifest)


def test_a_node_that_was_away_while_its_blocks_died_brings_none_of_them_back(
    four: StorageCluster, work: Workload
) -> None:
    work.more(80)
    work.rest()
    number = four.id("n2")
    four.kill("n2")
    four.until_state("n2", NODE_DOWN)
    entries = work.manifest.snapshot()
    dead = work.bury(entries[::2])
    assert any(number in entry.nodes for entry in entries[::2]), "nothing was at risk"
    work.go_on()
    work.more(20)
    work.rest()
    four.start("n2")
    until_serving(four, "n2")
    wait_until(lambda: four.status().reclaim_blocks == 0, "every holder has dropped what died")
    until_sound(four, work.manifest, dead)
