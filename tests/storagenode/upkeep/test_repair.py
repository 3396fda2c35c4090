"""Repair between real processes: replicas that are lost are made again, the most endangered first."""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from blockyard.proto.blocks import ChainSender, PutQueues, page_checksums
from blockyard.proto.cluster_pb2 import NODE_DOWN, NODE_OUT
from blockyard.proto.errors import BlockyardError
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.proto.storage_pb2 import ChainNode, PageChecksums, PutBlock, VerifyBlockRequest

from tests.storagenode.upkeep.files import Files, answers, held, metric, spoil, start_again
from tests.support.storage_cluster import StorageCluster, wait_until

SOON = {"placement": {"out_after_s": 2}}
MIB = 1 << 20


@pytest.fixture
def three(tmp_path: Path) -> Iterator[StorageCluster]:
    with StorageCluster(tmp_path, ("z1", "z2", "z3")) as cluster:
        yield cluster


@pytest.fixture
def four(tmp_path: Path) -> Iterator[StorageCluster]:
    with StorageCluster(tmp_path, ("z1", "z2", "z3", "z4"), SOON) as cluster:
        yield cluster


def until_nothing_is_degraded(cluster: StorageCluster) -> None:
    wait_until(lambda: cluster.status().degraded_groups == 0, "no group is degraded")


def test_a_node_that_is_out_is_replaced_while_writes_go_on(four: StorageCluster) -> None:
    writer = Files(four)
    writer.put(100)
    writer.write(8)
    stopping = threading.Event()
    refused: list[BlockyardError] = []

    def write_on() -> None:
        while not stopping.is_set():
            try:
                writer.put(5)
                writer.write(1)
            except BlockyardError as error:  # below write_min, or a chain through the dead: the writer goes elsewhere
                refused.append(error)

    load = threading.Thread(target=write_on)
    load.start()
    before = len(writer.blocks)
    four.kill("n2")
    four.until_state("n2", NODE_OUT)
    wait_until(lambda: len(writer.blocks) > before + 20, "writes go on")
    stopping.set()
    load.join()
    until_nothing_is_degraded(four)
    writer.until_whole()
    writer.assert_readable()
    gone = four.id("n2")
    assert all(gone not in (*row.nodes, *row.former_nodes) for row in four.view().groups)


def test_a_wiped_node_gets_everything_anew(three: StorageCluster) -> None:
    writer = Files(three)
    written = [*writer.put(60), *writer.write(6)]
    writer.until_whole()
    three.kill("n2")
    three.wipe("n2")
    start_again(three, "n2")
    writer.until_whole()
    until_nothing_is_degraded(three)
    assert held(three, "n2", writer.blocks) == set(writer.blocks)
    assert metric(three, "n2", "blockyard_repair_bytes_total") == sum(len(each.data) for each in written)
    assert metric(three, "n2", "blockyard_repair_left_blocks") == 0


def test_the_deleted_do_not_rise_with_a_node_that_is_back(three: StorageCluster) -> None:
    writer = Files(three)
    written = [*writer.put(40), *writer.write(4)]
    writer.commit(written)
    three.kill("n2")
    three.until_state("n2", NODE_DOWN)
    dead = writer.delete(written[::2])
    wait_until(lambda: not held(three, "n1", dead) and not held(three, "n3", dead), "the living dropped the dead")
    assert three.status().reclaim_blocks == len(dead), "the node that is away still owes its word"
    three.start("n2")
    wait_until(lambda: three.heard("n2") and not held(three, "n2", dead), "the node that was away dropped them too")
    wait_until(lambda: three.status().reclaim_blocks == 0, "nobody needs to remember them")
    until_nothing_is_degraded(three)
    for name in three.nodes:
        assert not held(three, name, dead)
    writer.assert_whole()


def test_the_deleted_do_not_rise_when_all_other_holders_were_away(three: StorageCluster) -> None:
    """The one that stayed dropped them, and forgot so with its process; the others both still have them."""
    writer = Files(three)
    written = [*writer.put(30), *writer.write(3)]
    writer.commit(written)
    three.kill("n2", "n3")
    three.until_state("n2", NODE_DOWN)
    three.until_state("n3", NODE_DOWN)
    dead = writer.delete(written[::2])
    wait_until(lambda: metric(three, "n1", "blockyard_reclaimed_blocks_total") == len(dead), "n1 dropped the dead")
    three.kill("n1")
    three.start("n1")
    wait_until(lambda: answers(three, "n1"), "n1 serves again")
    surveys = metric(three, "n1", "blockyard_repair_surveys_total")
    three.start("n2", "n3")
    wait_until(lambda: three.status().reclaim_blocks == 0, "nobody needs to remember them")
    wait_until(lambda: metric(three, "n1", "blockyard_repair_surveys_total") > surveys + 31, "n1 compared all groups")
    until_nothing_is_degraded(three)
    for name in three.nodes:
        assert not held(three, name, dead)
    writer.assert_whole()


def test_blocks_that_everybody_forgot_are_not_copied_from_a_node_that_comes_back_from_out(four: StorageCluster) -> None:
    writer = Files(four)
    written = [*writer.put(60), *writer.write(4)]
    writer.commit(written)
    four.kill("n2")
    four.until_state("n2", NODE_OUT)
    until_nothing_is_degraded(four)
    dead = writer.delete(written[::2])
    wait_until(lambda: four.status().reclaim_blocks == 0, "the dead are forgotten")
    start_again(four, "n2")
    until_nothing_is_degraded(four)
    writer.until_whole()
    here = held(four, "n2", dead)
    assert here, "the node brought none back, so nothing was at risk"
    for name in ("n1", "n3", "n4"):
        assert not held(four, name, dead), f"{name} raised the dead"


def test_the_last_copies_are_multiplied(three: StorageCluster) -> None:
    writer = Files(three)
    writer.commit(writer.put(40))
    writer.write(5)
    three.kill("n1", "n2")
    three.wipe("n1")
    three.wipe("n2")
    start_again(three, "n1", "n2")
    writer.until_whole()
    until_nothing_is_degraded(three)
    writer.assert_readable()


def test_a_node_that_the_map_forgot_offers_what_only_it_has(four: StorageCluster) -> None:
    """Out, let go, and then everybody else loses everything: what it alone has must be found."""
    writer = Files(four)
    writer.put(60)
    writer.write(4)
    four.kill("n4")
    four.until_state("n4", NODE_OUT)
    until_nothing_is_degraded(four)
    mine = {block for block, written in writer.blocks.items() if four.id("n4") in written.nodes}
    others = ("n1", "n2", "n3")
    four.kill(*others)
    for name in others:
        four.wipe(name)
    start_again(four, *others)
    start_again(four, "n4")
    strays = {b for b in mine if four.id("n4") not in four.view().groups[b >> SEQUENCE_BITS].nodes}
    assert strays, "the map gave all groups back, so nothing was at risk"
    for block in set(writer.blocks) - mine:
        del writer.blocks[block]
    writer.until_whole()
    wait_until(lambda: not held(four, "n4", strays), "what others have now is dropped")


@pytest.mark.parametrize("point", ["put.received", "write.appended"])
def test_a_node_that_failed_in_a_chain_hears_of_what_it_lacks(tmp_path: Path, point: str) -> None:
    """It never was down, so nothing but the hint tells it before its next exchange, minutes from now."""
    with StorageCluster(tmp_path, ("z1", "z2")) as cluster:
        cluster.add("z3")
        cluster.start("n3", environment={"BLOCKYARD_FAILPOINTS": f"{point}=error@1"})
        cluster.until_up("n3")
        until_nothing_is_degraded(cluster)
        writer = Files(cluster)
        view, last = cluster.view(), cluster.id("n3")
        [block] = writer.lease(1)
        chain = sorted(view.chain(block), key=lambda each: each.node == last)
        nodes = put(cluster, block, chain) if point == "put.received" else write(cluster, block, chain)
        assert last not in nodes, "the chain was whole, so nothing was lacking"
        wait_until(lambda: held(cluster, "n3", {block}) == {block}, "n3 has what it was left out of")
        assert cluster.view().epoch == view.epoch, "the map changed, which would have been reason enough"


def test_the_most_endangered_groups_are_filled_first(tmp_path: Path) -> None:
    with StorageCluster(tmp_path, ("z1", "z2")) as cluster:
        cluster.add("z3", repair_bytes_per_second=1)  # it loses blocks below, and must not get them back
        start_again(cluster, "n3")
        writer = Files(cluster)
        written = writer.write(40, length=300_000)
        groups = sorted({each.block >> SEQUENCE_BITS for each in written})
        endangered = set(groups[len(groups) // 2 :])
        assert 0 < len(endangered) < len(groups)
        for each in written:
            if each.block >> SEQUENCE_BITS in endangered:
                spoil(cluster, "n3", each)
                assert not cluster.stub("n3").VerifyBlock(VerifyBlockRequest(block=each.block)).good
        cluster.kill("n2")
        cluster.wipe("n2")
        cluster.nodes["n2"].log.unlink()
        start_again(cluster, "n2")
        wait_until(lambda: held(cluster, "n2", writer.blocks) == set(writer.blocks), "n2 has everything")
        filled = [int(found) for found in re.findall(r"group_fill.*?group=.*?(\d+)", plain(cluster, "n2"))]
        order = list(dict.fromkeys(filled))
        assert set(order) == set(groups)
        assert set(order[: len(endangered)]) == endangered, f"{order} should begin with {sorted(endangered)}"


def test_repair_moves_no_more_than_it_may(tmp_path: Path) -> None:
    rate, burst = 2 * MIB, 2 * MIB
    with StorageCluster(tmp_path, ("z1", "z2", "z3"), node_settings=settings(rate)) as cluster:
        writer = Files(cluster)
        written = writer.write(10, length=MIB)
        cluster.kill("n2")
        cluster.wipe("n2")
        begun = time.monotonic()
        start_again(cluster, "n2")
        looks = 0
        while (moved := metric(cluster, "n2", "blockyard_repair_bytes_total")) < len(written) * MIB:
            looks += 1
            assert moved <= rate * (time.monotonic() - begun) + burst
        assert time.monotonic() - begun >= (len(written) * MIB - burst) / rate
        assert looks, "it was never seen in the middle"


def test_a_node_killed_in_the_middle_of_its_repair_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    with StorageCluster(tmp_path, ("z1", "z2", "z3"), node_settings=settings(3 * MIB)) as cluster:
        writer = Files(cluster)
        written = [*writer.write(12, length=MIB), *writer.put(60)]
        cluster.kill("n2")
        cluster.wipe("n2")
        start_again(cluster, "n2")
        wait_until(lambda: metric(cluster, "n2", "blockyard_repair_blocks_total") >= 4, "some blocks are there")
        cluster.kill("n2")
        cluster.configure("n2", storagenode={"repair_bytes_per_second": 0})
        start_again(cluster, "n2")
        writer.until_whole()
        again = metric(cluster, "n2", "blockyard_repair_blocks_total")
        assert 0 < again <= len(written) - 4, "what was there already was not fetched again"
        leftovers = [path for path in cluster.nodes["n2"].directory.rglob("*") if "tmp" in path.suffix]
        assert not leftovers


def put(cluster: StorageCluster, block: int, chain: list[ChainNode]) -> Sequence[int]:
    """Put a small block as a writer would that tells nobody of failures; return who has it."""
    data = b"small" * 100
    queues = PutQueues(cluster.channels)
    message = PutBlock(block=block, length=len(data), checksums=PageChecksums(crc32c=page_checksums(data)))
    outcome = queues.submit(chain, [message], data, durable=True, write_min=2, map_epoch=cluster.view().epoch)
    nodes = outcome.result(30).nodes
    queues.close()
    return nodes


def write(cluster: StorageCluster, block: int, chain: list[ChainNode]) -> Sequence[int]:
    """Write a large block in the same way."""
    epoch = cluster.view().epoch
    with ChainSender(cluster.channels, block, chain, durable=True, write_min=2, map_epoch=epoch) as sender:
        sender.append(bytes(2 * MIB))
        return sender.seal().nodes


def settings(bytes_per_second: int) -> dict[str, dict[str, int]]:
    return {"storagenode": {"repair_bytes_per_second": bytes_per_second}}


def plain(cluster: StorageCluster, name: str) -> str:
    """Return what a node logged, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", cluster.nodes[name].output())
