"""What a former holder of a group lists is all that it will ever store of it under the old map."""

import threading
from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.blocks import PAGE_BYTES, ChainSender, Channels, PutQueues
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.proto.storage_pb2 import ListBlocksRequest
from blockyard.storagenode.service.landings import Landings

from tests.storagenode.service.nodes import PATIENCE, AnyMap, new_block, put_of, read_back, running, some_bytes

MOVED = errors.StaleEpoch("the group has moved on", map_epoch=9)


def test_a_list_waits_for_what_was_judged_before_it() -> None:
    landings = Landings(guard := AnyMap())
    listing = threading.Thread(target=landings.settle, args=(7,))
    with landings.storing([new_block()], [1]):
        listing.start()
        listing.join(0.2)
        assert listing.is_alive()
        with landings.storing([new_block()], [1]):
            pass  # what comes and goes meanwhile changes nothing
        assert listing.is_alive()
    listing.join(10)
    assert not listing.is_alive()
    assert guard.learned == [7]


def test_what_is_refused_is_not_waited_for() -> None:
    landings = Landings(guard := AnyMap())
    guard.holders_error = MOVED
    with pytest.raises(errors.StaleEpoch), landings.storing([new_block()], [1]):
        pytest.fail("it is stored")
    landings.settle(9)


def test_a_block_whose_group_moved_on_amid_its_writing_is_not_sealed(tmp_path: Path) -> None:
    data = some_bytes(5 * PAGE_BYTES)
    with running(2, tmp_path) as nodes:
        channels, block, chain = Channels(), new_block(), [node.chain_node for node in nodes]
        with ChainSender(channels, block, chain, durable=True, write_min=1, map_epoch=0, patience=PATIENCE) as sender:
            sender.append(data)
            nodes[1].guard.holders_error = MOVED
            with pytest.raises(errors.StaleEpoch) as refused:
                sender.seal()
        assert refused.value.map_epoch == 9
        for node in chain:
            with pytest.raises(errors.UnknownBlock):
                read_back(channels, node, block, len(data))
        channels.close()


def test_nor_is_it_put(tmp_path: Path) -> None:
    data = some_bytes(300)
    with running(1, tmp_path) as nodes:
        channels, block, chain = Channels(), new_block(), [nodes[0].chain_node]
        puts = PutQueues(channels)
        nodes[0].guard.holders_error = MOVED
        with pytest.raises(errors.StaleEpoch):
            puts.submit(chain, [put_of(block, data)], data, durable=True, write_min=1, map_epoch=0).result()
        with pytest.raises(errors.UnknownBlock):
            read_back(channels, chain[0], block, len(data))
        group = block >> SEQUENCE_BITS
        channels.stub(chain[0].address).ListBlocks(ListBlocksRequest(group=group, limit=1, map_epoch=9), timeout=10)
        assert nodes[0].guard.learned == [9], "whoever lists knows the map of whoever asks"
        puts.close()
        channels.close()
