"""The form of requests: what can be said of them without looking at the disk or the map."""

import time
from collections.abc import Sequence

from blockyard.proto import errors
from blockyard.proto.blocks import BLOCK_LIMIT_BYTES, PAGE_BYTES, page_count
from blockyard.proto.blocks.puts import REQUEST_LIMIT_BLOCKS, REQUEST_LIMIT_BYTES
from blockyard.proto.storage_pb2 import (
    BlockRange,
    BlockToken,
    ChainNode,
    PageChecksums,
    PutBlocksRequest,
    ReadBlocksRequest,
    WriteOpen,
)

READ = 4
WRITE = 2
CHAIN_LIMIT_NODES = 16
PUT_LIMIT_BYTES = 1 << 20
RANGE_LIMIT = 1024
READ_LIMIT_BYTES = 256 << 20


def check_chain(chain: Sequence[ChainNode], write_min: int, node: int) -> list[int]:
    """Return the node ids of a chain that begins with `node`. Raises InvalidArgument, and UnknownNode for another's."""
    nodes = [each.node for each in chain]
    if not 1 <= len(nodes) <= CHAIN_LIMIT_NODES:
        raise errors.InvalidArgument(f"a chain of {len(nodes)} nodes; 1 to {CHAIN_LIMIT_NODES} are allowed")
    if len(set(nodes)) < len(nodes):
        raise errors.InvalidArgument(f"the chain {nodes} has a node twice")
    if nodes[0] != node:
        raise errors.UnknownNode(f"the chain begins with node {nodes[0]} and this is node {node}: fetch the map")
    if not 1 <= write_min <= len(nodes):
        raise errors.InvalidArgument(f"write_min {write_min} for a chain of {len(nodes)} nodes")
    return nodes


def check_open(opening: WriteOpen, node: int) -> list[int]:
    """Return the node ids of a write's chain; raises what is wrong with the request."""
    nodes = check_chain(opening.chain, opening.write_min, node)
    if not opening.block:
        raise errors.InvalidArgument("block 0 is no block")
    if opening.expected_bytes > BLOCK_LIMIT_BYTES:
        raise errors.InvalidArgument(f"{opening.expected_bytes:,} bytes; a block has at most {BLOCK_LIMIT_BYTES:,}")
    if opening.HasField("token"):
        check_token(opening.token, opening.block, WRITE)
    return nodes


def check_put(request: PutBlocksRequest, payload_bytes: int, node: int) -> list[int]:
    """Return the node ids of a put's chain; raises what is wrong with the request."""
    nodes = check_chain(request.chain, request.write_min, node)
    if not 1 <= len(request.blocks) <= REQUEST_LIMIT_BLOCKS:
        raise errors.InvalidArgument(f"{len(request.blocks)} blocks; 1 to {REQUEST_LIMIT_BLOCKS} are allowed")
    total = 0
    for block in request.blocks:
        if not block.block or not 1 <= block.length <= PUT_LIMIT_BYTES:
            raise errors.InvalidArgument(f"block {block.block} of {block.length:,} bytes cannot be put")
        check_checksums(block.checksums, page_count(block.length))
        total += block.length
    if total != payload_bytes or total > REQUEST_LIMIT_BYTES:
        raise errors.InvalidArgument(f"blocks of {total:,} bytes in all, and {payload_bytes:,} bytes came with them")
    if len({block.block for block in request.blocks}) < len(request.blocks):
        raise errors.InvalidArgument("a block is put twice in one request")
    check_tokens(request.tokens, [block.block for block in request.blocks], WRITE)
    return nodes


def check_read(request: ReadBlocksRequest) -> None:
    """Raise InvalidArgument where a read is too large; ranges are checked one by one."""
    if not 1 <= len(request.ranges) <= RANGE_LIMIT:
        raise errors.InvalidArgument(f"{len(request.ranges)} ranges; 1 to {RANGE_LIMIT} are allowed")
    total = sum(each.length for each in request.ranges)
    if total > READ_LIMIT_BYTES:
        raise errors.InvalidArgument(f"ranges of {total:,} bytes; {READ_LIMIT_BYTES:,} are allowed")
    check_tokens(request.tokens, list(dict.fromkeys(each.block for each in request.ranges)), READ)


def check_range(wanted: BlockRange, block_length: int) -> None:
    """Raise InvalidArgument for a range that does not lie within a block of that length."""
    if wanted.length == 0 or wanted.offset + wanted.length > block_length:
        raise errors.InvalidArgument(
            f"bytes {wanted.offset:,} to {wanted.offset + wanted.length:,} of a block that has {block_length:,}",
            str(wanted.block),
        )


def check_checksums(checksums: PageChecksums, expected: int) -> None:
    """Raise InvalidArgument where pages are not ours, or there are not as many checksums as expected."""
    check_page_bytes(checksums)
    if len(checksums.crc32c) != expected:
        raise errors.InvalidArgument(f"{len(checksums.crc32c)} checksums for {expected} pages")


def check_page_bytes(checksums: PageChecksums) -> None:
    """Raise InvalidArgument for checksum pages of another size."""
    if checksums.page_bytes not in (0, PAGE_BYTES):
        raise errors.InvalidArgument(f"checksum pages of {checksums.page_bytes} bytes; {PAGE_BYTES} are used here")


def check_tokens(tokens: Sequence[BlockToken], blocks: Sequence[int], right: int) -> None:
    """Check one token per block, in order; no tokens at all are fine while capabilities are off."""
    if tokens and len(tokens) != len(blocks):
        raise errors.PermissionDenied(f"{len(tokens)} tokens for {len(blocks)} blocks")
    for token, block in zip(tokens, blocks, strict=False):
        check_token(token, block, right)


def check_token(token: BlockToken, block: int, right: int) -> None:
    """Raise PermissionDenied for a token of another block, one without the right, and one that has ended."""
    if token.block != block:
        raise errors.PermissionDenied(f"the token is for block {token.block}", str(block))
    if not token.rights & right:
        raise errors.PermissionDenied(f"the token gives rights {token.rights}; {right} is needed", str(block))
    if token.expires_ns and token.expires_ns < time.time_ns():
        raise errors.PermissionDenied("the token has ended", str(block))
