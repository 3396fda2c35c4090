"""Nodes that die, stop and come back while blocks pass through them: what was acknowledged is where the answer says."""

import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.blocks import (
    PAGE_BYTES,
    ChainSender,
    Channels,
    Patience,
    PutOutcome,
    PutQueues,
    SealedBlock,
)

from tests.storagenode.service.node_process import NodeProcess
from tests.storagenode.service.nodes import PATIENCE, new_block, put_of, read_back, some_bytes

BLOCK_BYTES = 6 * (1 << 20) + 12345
APPEND_BYTES = 16 * PAGE_BYTES
WRITE_POINTS = (
    "write.opened=kill",
    "write.appended=kill@3",
    "seal.forwarded=kill",
    "seal.sealed=kill",
    "seal.acknowledged=kill",
)
PUT_POINTS = ("put.received=kill", "put.stored=kill", "put.acknowledging=kill")


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[list[NodeProcess]]:
    """Three nodes that have not been started."""
    nodes = [NodeProcess(number, tmp_path) for number in (1, 2, 3)]
    yield nodes
    for node in nodes:
        node.kill()


def write(
    channels: Channels,
    nodes: Sequence[NodeProcess],
    data: bytes,
    *,
    block: int = 0,
    write_min: int = 2,
    durable: bool = True,
    at: dict[int, object] | None = None,
) -> SealedBlock:
    """Write a block; before the append number n, at[n] is called."""
    chain = [node.chain_node for node in nodes]
    with ChainSender(
        channels,
        block or new_block(),
        chain,
        durable=durable,
        write_min=write_min,
        map_epoch=0,
        patience=PATIENCE,
    ) as sender:
        for number, start in enumerate(range(0, len(data), APPEND_BYTES)):
            if at and number in at:
                at[number]()  # type: ignore[operator]
            sender.append(data[start : start + APPEND_BYTES])
        return sender.seal()


def put(channels: Channels, nodes: Sequence[NodeProcess], block: int, data: bytes, write_min: int = 2) -> PutOutcome:
    """Put a small block, durably."""
    queues = PutQueues(channels, stall_s=PATIENCE.stall_s, hop_s=PATIENCE.hop_s)
    try:
        chain = [node.chain_node for node in nodes]
        future = queues.submit(chain, [put_of(block, data)], data, durable=True, write_min=write_min, map_epoch=0)
        return future.result(30)
    finally:
        queues.close()


def demand(channels: Channels, nodes: Sequence[NodeProcess], holders: Sequence[int], block: int, data: bytes) -> None:
    """The named nodes have the block; what others have of it is right or nothing."""
    for node in nodes:
        try:
            assert read_back(channels, node.chain_node, block, len(data)) == data
        except errors.UnknownBlock:
            assert node.number not in holders, f"node {node.number} lost block {block}"


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("point", WRITE_POINTS)
def test_a_node_killed_anywhere_in_a_write(
    trio: list[NodeProcess], channels: Channels, point: str, position: int
) -> None:
    victim, data = trio[position], some_bytes(BLOCK_BYTES)
    for node in trio:
        node.start(point if node is victim else "")
    sealed = write(channels, trio, data)
    victim.await_death()
    assert len(sealed.nodes) >= 2
    if point != "seal.acknowledged=kill":
        assert victim.number not in sealed.nodes
        assert sealed.failed == (victim.number,)
    victim.start()
    demand(channels, trio, sealed.nodes, sealed.block, data)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("point", PUT_POINTS)
def test_a_node_killed_anywhere_in_a_put(
    trio: list[NodeProcess], channels: Channels, point: str, position: int
) -> None:
    victim, data, block = trio[position], some_bytes(4096), new_block()
    for node in trio:
        node.start(point if node is victim else "")
    outcome = put(channels, trio, block, data)
    victim.await_death()
    assert sorted((*outcome.nodes, *outcome.failed)) == [1, 2, 3]
    assert outcome.failed == (victim.number,)
    victim.start()
    demand(channels, trio, outcome.nodes, block, data)
    assert put(channels, trio, block, data, write_min=3).nodes == (1, 2, 3)  # the retry brings the third replica
    demand(channels, trio, (1, 2, 3), block, data)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_node_that_stops_in_the_middle_of_a_block_is_cut_out(
    trio: list[NodeProcess], channels: Channels, position: int
) -> None:
    for node in trio:
        node.start()
    victim, data = trio[position], some_bytes(4 * BLOCK_BYTES)
    sealed = write(channels, trio, data, at={3: victim.pause})
    assert sealed.failed == (victim.number,), "the one that stopped, and nobody else"
    assert len(sealed.nodes) == 2
    outcome = put(channels, trio, block := new_block(), b"small")
    assert outcome.failed == (victim.number,)
    victim.go_on()
    demand(channels, trio, sealed.nodes, sealed.block, data)
    demand(channels, trio, outcome.nodes, block, b"small")


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_node_that_stops_before_the_seal_is_cut_out(
    trio: list[NodeProcess], channels: Channels, position: int
) -> None:
    for node in trio:
        node.start()
    data = some_bytes(3 * APPEND_BYTES)
    sealed = write(channels, trio, data, at={2: trio[position].pause})  # all of it fits into buffers of the kernel
    assert sealed.failed == (position + 1,)
    trio[position].go_on()
    demand(channels, trio, sealed.nodes, sealed.block, data)


def test_two_nodes_lost_in_one_block_leave_it_below_the_minimum_and_nothing_behind(
    trio: list[NodeProcess], channels: Channels
) -> None:
    for node in trio:
        node.start()
    block = new_block()
    with pytest.raises(errors.BelowWriteMin):
        write(channels, trio, some_bytes(BLOCK_BYTES), block=block, at={2: trio[1].kill, 4: trio[2].kill})
    with pytest.raises(errors.UnknownBlock):
        read_back(channels, trio[0].chain_node, block, 1)
    data = some_bytes(5)
    assert write(channels, trio[:1], data, block=block, write_min=1).nodes == (1,)  # it can be written anew
    demand(channels, trio[:1], [1], block, data)
    with pytest.raises(errors.BelowWriteMin):
        put(channels, trio, new_block(), b"x")


def test_a_node_that_comes_back_in_the_middle_is_not_trusted_with_the_rest(
    trio: list[NodeProcess], channels: Channels
) -> None:
    for node in trio:
        node.start()

    def restart() -> None:
        trio[1].kill()
        trio[1].start()

    data = some_bytes(BLOCK_BYTES)
    sealed = write(channels, trio, data, at={3: restart})
    assert (sealed.nodes, sealed.failed) == ((1, 3), (2,))
    demand(channels, trio, sealed.nodes, sealed.block, data)


def test_everything_acknowledged_as_durable_is_there_after_all_died(
    trio: list[NodeProcess], channels: Channels
) -> None:
    for node in trio:
        node.start()
    blocks: dict[int, bytes] = {}
    for _ in range(5):
        data = some_bytes(BLOCK_BYTES // 4)
        blocks[write(channels, trio, data, write_min=3).block] = data
        blocks[block := new_block()] = some_bytes(4000)
        put(channels, trio, block, blocks[block], write_min=3)
    for node in trio:
        node.kill()
    for node in trio:
        node.start()
    for block, data in blocks.items():
        demand(channels, trio, (1, 2, 3), block, data)


def test_writers_go_on_while_nodes_come_and_go(trio: list[NodeProcess], channels: Channels) -> None:
    for node in trio:
        node.start()
    acknowledged: dict[int, tuple[bytes, tuple[int, ...]]] = {}
    failed_over = 0
    chance, over = random.Random(7), threading.Event()
    queues = PutQueues(channels, stall_s=PATIENCE.stall_s, hop_s=PATIENCE.hop_s)
    chain = [node.chain_node for node in trio]

    def puts() -> None:
        while not over.is_set():
            block, data = new_block(), some_bytes(3000)
            try:
                outcome = queues.submit(
                    chain, [put_of(block, data)], data, durable=True, write_min=2, map_epoch=0
                ).result(30)
            except errors.BelowWriteMin:
                continue
            acknowledged[block] = (data, outcome.nodes)

    threads = [threading.Thread(target=puts) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for round_number in range(8):
            victim = chance.choice(trio)
            harm = victim.kill if round_number % 2 else victim.pause
            data = some_bytes(BLOCK_BYTES)
            sealed = write(channels, chance.sample(trio, 3), data, at={chance.randrange(6): harm})
            acknowledged[sealed.block] = (data, sealed.nodes)
            failed_over += victim.number in sealed.failed
            if victim.running:
                victim.go_on()
            else:
                victim.kill()
                victim.start()
    finally:
        over.set()
        for thread in threads:
            thread.join()
        queues.close()
    assert failed_over >= 4, "too few of the deaths hit a write"
    assert len(acknowledged) > 100
    for block, (data, holders) in acknowledged.items():
        demand(channels, trio, holders, block, data)


def test_the_patience_of_a_client_outlasts_that_of_the_nodes_behind() -> None:
    patience = Patience()
    assert patience.of(1) < patience.of(2) < patience.of(3) <= 3.0
