"""Blocks that nobody will read soon leave the page cache of every node of their chain."""

import ctypes
import mmap
import os

import pytest
from blockyard.proto.blocks import ChainSender, Channels

from tests.storagenode.service.nodes import Node, new_block, some_bytes

BLOCK_BYTES = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


def resident_pages(node: Node, block: int) -> int:
    """Return how many of the block's pages are in memory."""
    with node.store.open_range(block) as replica:
        length = os.fstat(replica.fd).st_size
        with mmap.mmap(replica.fd, length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            found = (ctypes.c_ubyte * (-(-length // mmap.PAGESIZE)))()
            start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
            assert _libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(length), found) == 0, ctypes.get_errno()
            return sum(page & 1 for page in found)


@pytest.mark.parametrize("cold", [True, False])
def test_a_cold_block_leaves_the_page_cache_of_every_node(channels: Channels, nodes: list[Node], cold: bool) -> None:
    block, chain = new_block(), [node.chain_node for node in nodes[:2]]
    with ChainSender(channels, block, chain, durable=True, write_min=2, map_epoch=0, cold=cold) as sender:
        sender.append(some_bytes(BLOCK_BYTES))
        sender.seal()
    for node in nodes[:2]:
        assert (resident_pages(node, block) == 0) == cold
