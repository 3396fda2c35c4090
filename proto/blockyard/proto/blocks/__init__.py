"""The two ends of the wire between storage nodes and those who write and read blocks.

`ChainSender` writes a large block along a chain of nodes, `PutQueues` small ones, `read_ranges` reads over the network
and `LocalBlocks` on the same machine. Nodes use the same parts to pass blocks on: `chain` decides (pure), `chain_link`
carries it out. `pages` is how blocks are checked.
"""

from blockyard.proto.blocks.chain import PIECE_BYTES, ChainCore, Patience
from blockyard.proto.blocks.chain_link import ChainLink
from blockyard.proto.blocks.chain_sender import ChainSender, SealedBlock
from blockyard.proto.blocks.channels import Channels
from blockyard.proto.blocks.local import LocalBlocks
from blockyard.proto.blocks.page_reader import BlockPlace, read_pages
from blockyard.proto.blocks.pages import BLOCK_LIMIT_BYTES, PAGE_BYTES, PageSums, page_checksums, page_count, widen
from blockyard.proto.blocks.puts import PutOutcome, PutQueues
from blockyard.proto.blocks.reading import Wanted, read_ranges
from blockyard.proto.blocks.refusals import is_refusal

__all__ = [
    "BLOCK_LIMIT_BYTES",
    "PAGE_BYTES",
    "PIECE_BYTES",
    "BlockPlace",
    "ChainCore",
    "ChainLink",
    "ChainSender",
    "Channels",
    "LocalBlocks",
    "PageSums",
    "Patience",
    "PutOutcome",
    "PutQueues",
    "SealedBlock",
    "Wanted",
    "is_refusal",
    "page_checksums",
    "page_count",
    "read_pages",
    "read_ranges",
    "widen",
]
