"""Blocks against what was acknowledged: the cluster's fsck.

Compares three things: a manifest kept outside the cluster, what the cluster map wants where, and what every node really
has, each replica read twice: as readers get it, and from the disk past the page cache. `check_directory` looks at the
disk of a node that does not run: its rows against its files.

A check reads everything; it changes nothing but what nodes do by themselves about a bad replica that they are shown.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from blockyard.proto import errors
from blockyard.proto.blocks import Wanted, read_ranges
from blockyard.proto.cluster_map import ClusterView, MapNode
from blockyard.proto.cluster_pb2 import NODE_UP
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.proto.storage_pb2 import (
    CollectGarbageRequest,
    ListBlocksRequest,
    VerifyBlockReply,
    VerifyBlockRequest,
)
from blockyard.storagenode.store import BlockStore
from crc32c import crc32c

from tests.support.storage_cluster import StorageCluster

LISTED_AT_ONCE = 1_000
READ_AT_ONCE = 64
HOUR_S = 3_600


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "no node has an acknowledged block"
    MISSING = "a node that shall have a block lacks it, and nothing is being done about it"
    WRONG = "a replica is not what was acknowledged"
    DIFFERENT = "replicas of one block differ"
    RISEN = "a block is here that is dead"
    ORPHAN = "nothing refers to a block, and it is old"
    SILENT = "a node that the map calls up does not answer"
    STRAY = "a file is on the disk that is no block's"


@dataclass(frozen=True, slots=True)
class Written:
    """A block as its writer knows it."""

    block: int
    length: int
    crc32c: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong. `node` is 0 where it is about no node."""

    kind: Kind
    block: int
    node: int
    what: str = ""

    def __str__(self) -> str:
        return f"{self.kind.name} block {self.block:#x} node {self.node}: {self.kind.value} {self.what}"


@dataclass(frozen=True, slots=True)
class _Replica:
    """What one node has of one block; `wrong` says in which way it contradicts itself."""

    length: int
    crc32c: int
    wrong: str = ""


def check(
    cluster: StorageCluster,
    written: Mapping[int, Written],
    dead: Collection[int] = (),
    *,
    repaired: bool = True,
    orphan_age_s: int = HOUR_S,
) -> list[Finding]:
    """Return all that is wrong.

    `written`: what must be there; `dead`: what must not, once reclaim had its time. Unless `repaired`, a holder may
    lack a block while it is not up, or does not call the block's group complete.
    """
    view = cluster.view()
    nodes = [node for node in view.nodes.values() if node.state == NODE_UP]
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        inventories = dict(zip(nodes, pool.map(lambda node: _inventory(cluster, view, node), nodes), strict=True))
    complete = {} if repaired else _complete_groups(cluster)
    findings = [Finding(Kind.SILENT, 0, node.id, node.name) for node, found in inventories.items() if found is None]
    replicas: dict[int, dict[int, _Replica]] = {block: {} for block in written}
    for node, found in inventories.items():
        for block, replica in (found or {}).items():
            replicas.setdefault(block, {})[node.id] = replica
    for block, by_node in replicas.items():
        findings += _judge(block, by_node, written.get(block))
        if block in dead:
            findings += [Finding(Kind.RISEN, block, node) for node in by_node]
        elif block in written:
            findings += _missing(view, block, by_node, None if repaired else complete)
    findings += [finding for node in nodes if inventories[node] is not None
                 for finding in _orphans(cluster, node, orphan_age_s)]  # fmt: skip
    return findings


def assert_sound(cluster: StorageCluster, written: Mapping[int, Written], dead: Collection[int] = ()) -> None:
    """Demand that nothing is wrong."""
    findings = check(cluster, written, dead)
    assert not findings, f"{len(findings)} findings:\n" + "\n".join(map(str, findings[:20]))


# ------------------------------------------------------------------------------------------ what nodes have


def _inventory(cluster: StorageCluster, view: ClusterView, node: MapNode) -> dict[int, _Replica] | None:
    """Return every replica of a node, None when it does not answer."""
    stub = cluster.channels.stub(node.address())
    try:
        lengths = {block: length for group in range(len(view.groups)) for block, length in _listed(stub, group)}
        served = _served(cluster, view, node, lengths)
        return {block: _verified(stub, block, length, served[block]) for block, length in lengths.items()}
    except (errors.Unavailable, errors.ConnectionLost, errors.DeadlineExceeded):
        return None


def _listed(stub: Any, group: int) -> Iterator[tuple[int, int]]:
    after = 0
    while True:
        page = stub.ListBlocks(ListBlocksRequest(group=group, after=after, limit=LISTED_AT_ONCE))
        yield from zip(page.blocks, page.lengths, strict=True)
        if page.end:
            return
        after = page.blocks[-1]


def _served(
    cluster: StorageCluster, view: ClusterView, node: MapNode, lengths: Mapping[int, int]
) -> dict[int, int | errors.BlockyardError]:
    """Return the CRC32C of each block as readers get it, or why they do not."""
    served: dict[int, int | errors.BlockyardError] = {}
    blocks = list(lengths)
    for start in range(0, len(blocks), READ_AT_ONCE):
        wanted = [Wanted(block, 0, bytearray(lengths[block])) for block in blocks[start : start + READ_AT_ONCE]]
        outcomes = read_ranges(cluster.channels, node.in_chain(), wanted, map_epoch=view.epoch)
        for each, error in zip(wanted, outcomes, strict=True):
            served[each.block] = crc32c(each.into) if error is None else error
    return served


def _verified(stub: Any, block: int, length: int, served: int | errors.BlockyardError) -> _Replica:
    try:
        found: VerifyBlockReply = stub.VerifyBlock(VerifyBlockRequest(block=block, reason="the checker looks"))
    except errors.UnknownBlock as error:
        return _Replica(length, 0, f"listed and then unknown: {error}")
    if not found.good or found.length != length:
        return _Replica(length, found.crc32c, f"pages {list(found.bad_pages)} of {found.length} bytes are bad")
    if served != found.crc32c:
        return _Replica(length, found.crc32c, f"the disk has {found.crc32c:08x}, and readers get {served}")
    return _Replica(length, found.crc32c)


# ------------------------------------------------------------------------------------------ what that means


def _judge(block: int, by_node: Mapping[int, _Replica], written: Written | None) -> Iterator[Finding]:
    for node, replica in by_node.items():
        if replica.wrong:
            yield Finding(Kind.WRONG, block, node, replica.wrong)
        elif written is not None and (replica.length, replica.crc32c) != (written.length, written.crc32c):
            yield Finding(Kind.WRONG, block, node, f"it has {replica}, and {written} was written")
    if len({(replica.length, replica.crc32c) for replica in by_node.values() if not replica.wrong}) > 1:
        yield Finding(Kind.DIFFERENT, block, 0, str(by_node))


def _missing(
    view: ClusterView, block: int, by_node: Mapping[int, _Replica], complete: Mapping[int, Collection[int]] | None
) -> Iterator[Finding]:
    """`complete`: by node that is up, the groups that it calls complete; None: all must be."""
    group = block >> SEQUENCE_BITS
    if not by_node and (complete is None or all(node.answers for node in view.holders(block))):
        yield Finding(Kind.LOST, block, 0, f"holders {[node.name for node in view.holders(block)]}")
    for node in view.groups[group].nodes:
        if node not in by_node and (complete is None or group in complete.get(node, ())):
            yield Finding(Kind.MISSING, block, node)


def _complete_groups(cluster: StorageCluster) -> dict[int, frozenset[int]]:
    status = cluster.status()
    return {
        each.node.id: frozenset(each.heartbeat.complete_groups)
        for each in status.nodes
        if each.node.state == NODE_UP and each.heartbeat.map_epoch == status.map_epoch
    }


def _orphans(cluster: StorageCluster, node: MapNode, age_s: int) -> list[Finding]:
    stub = cluster.channels.stub(node.address())
    *_, last = stub.CollectGarbage(CollectGarbageRequest(dry_run=True, older_than_s=age_s))
    assert last.done, f"{node.name} broke its search off"
    return [Finding(Kind.ORPHAN, 0, node.id, f"{last.orphans} of them")] if last.orphans else []


# ------------------------------------------------------------------------------------------ one disk


def check_directory(directory: Path, written: Mapping[int, Written] | None = None) -> list[Finding]:
    """Open the store of a node that does not run, and return what is wrong: rows and files must be of each other.

    `written` blocks that are here must be what was written; whether they must be here is not this disk's to say.
    """
    store = BlockStore(directory / "blocks")
    report = store.open()
    try:
        listed = [block for group in store.groups() for block in _whole_group(store, group)]
        findings = [Finding(Kind.LOST, block, 0, why) for block, why in report.lost]
        findings += [Finding(Kind.WRONG, 0, 0, where) for where in report.damage]
        for block in listed:
            found = store.verify(block)
            told = (written or {}).get(block)
            if not found.good or (told is not None and (found.length, found.crc32c) != (told.length, told.crc32c)):
                findings.append(Finding(Kind.WRONG, block, 0, f"{found}, and {told} was written"))
        own_files = {block for block in listed if not store.find(block).in_pack}
        return [*findings, *_strays(directory / "blocks", own_files)]
    finally:
        store.close()


def stored_blocks(directory: Path) -> set[int]:
    """Return the blocks that a node that does not run has, each read in full and found good."""
    store = BlockStore(directory / "blocks")
    store.open()
    try:
        listed = [block for group in store.groups() for block in _whole_group(store, group)]
        return {block for block in listed if store.verify(block).good}
    finally:
        store.close()


def _whole_group(store: BlockStore, group: int) -> Iterator[int]:
    after = 0
    while page := store.list(group, after, LISTED_AT_ONCE):
        yield from (block for block, _ in page)
        after = page[-1][0]


def _strays(blocks: Path, own_files: Iterable[int]) -> Sequence[Finding]:
    wanted = {f"{block:016x}" for block in own_files}
    there = {name for _, _, names in os.walk(blocks / "blocks") for name in names}
    left_over = sorted(there - wanted) + sorted(os.listdir(blocks / "writing"))
    gone = sorted(wanted - there)
    return [
        *(Finding(Kind.STRAY, 0, 0, name) for name in left_over),
        *(Finding(Kind.LOST, int(name, 16), 0, "its file is gone") for name in gone),
    ]
