"""Small blocks of many callers that travel together: everyone gets an answer of their own."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait

import pytest
from blockyard.proto import errors
from blockyard.proto.blocks import Channels, PutOutcome, PutQueues

from tests.storagenode.service.nodes import Node, new_block, put_of, read_back, some_bytes

WAIT_S = 30.0


@pytest.fixture
def queues(channels: Channels) -> Iterator[PutQueues]:
    """A client's queues."""
    made = PutQueues(channels, stall_s=10.0)
    yield made
    made.close()


def submit(queues: PutQueues, nodes: list[Node], block: int, data: bytes, **other: int) -> "Future[PutOutcome]":
    chain = [node.chain_node for node in nodes]
    described = put_of(block, data)
    described.length += other.get("longer", 0)
    return queues.submit(chain, [described], data, durable=True, write_min=other.get("write_min", 1), map_epoch=0)


def test_puts_that_wait_leave_together_and_each_is_there(
    nodes: list[Node], channels: Channels, queues: PutQueues
) -> None:
    before = [node.store.usage() for node in nodes]
    blocks = {new_block(): some_bytes(1 + number * 37) for number in range(400)}
    futures = [submit(queues, nodes, block, data, write_min=3) for block, data in blocks.items()]
    for future in futures:
        assert future.result(WAIT_S) == ((1, 2, 3), ())
    for node, usage in zip(nodes, before, strict=True):
        after = node.store.usage()
        assert after.puts - usage.puts >= 400
        assert after.syncs - usage.syncs < 100, "a sync served fewer than four puts, though all were waiting"
        for block, data in blocks.items():
            assert read_back(channels, node.chain_node, block, len(data)) == data


def test_one_that_is_refused_spoils_no_other(nodes: list[Node], channels: Channels, queues: PutQueues) -> None:
    taken = new_block()
    submit(queues, nodes, taken, b"what is there").result(WAIT_S)
    good = {new_block(): some_bytes(500) for _ in range(60)}
    futures = {block: submit(queues, nodes, block, data) for block, data in good.items()}
    bad = [submit(queues, nodes, taken, b"something else"), submit(queues, nodes, new_block(), b"short", longer=9)]
    more = {new_block(): some_bytes(500) for _ in range(60)}
    futures |= {block: submit(queues, nodes, block, data) for block, data in more.items()}
    wait([*futures.values(), *bad], WAIT_S)
    assert isinstance(bad[0].exception(0), errors.Exists)
    assert isinstance(bad[1].exception(0), errors.InvalidArgument)
    for block, future in futures.items():
        assert future.result(0).nodes == (1, 2, 3)
        for node in nodes:
            assert read_back(channels, node.chain_node, block, 500) == {**good, **more}[block]
    assert read_back(channels, nodes[2].chain_node, taken, 13) == b"what is there"


def test_blocks_larger_than_a_request_together_take_several(
    nodes: list[Node], channels: Channels, queues: PutQueues
) -> None:
    blocks = {new_block(): some_bytes(900_000) for _ in range(12)}
    futures = [submit(queues, nodes, block, data) for block, data in blocks.items()]
    for future in futures:
        assert future.result(WAIT_S).nodes == (1, 2, 3)
    for block, data in blocks.items():
        assert read_back(channels, nodes[1].chain_node, block, len(data)) == data


def test_a_refusal_of_the_map_reaches_every_caller(nodes: list[Node], queues: PutQueues) -> None:
    nodes[1].guard.write_error = errors.StaleEpoch("fetch the map", map_epoch=12)
    for future in [submit(queues, nodes, new_block(), b"x") for _ in range(20)]:
        error = future.exception(WAIT_S)
        assert isinstance(error, errors.StaleEpoch)
        assert error.map_epoch == 12


def test_callers_of_two_clients_meet_at_the_first_node(nodes: list[Node], channels: Channels) -> None:
    before = nodes[1].store.usage()
    clients = [PutQueues(channels, stall_s=10.0) for _ in range(2)]
    done: list[PutOutcome] = []

    def call(queues: PutQueues) -> None:
        for _ in range(20):
            done.append(submit(queues, nodes, new_block(), b"y" * 100).result(WAIT_S))

    threads = [threading.Thread(target=call, args=(clients[number % 2],)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    for client in clients:
        client.close()
    assert len(done) == 32 * 20
    assert {outcome.nodes for outcome in done} == {(1, 2, 3)}
    assert nodes[1].store.usage().syncs - before.syncs < 32 * 20 / 2
