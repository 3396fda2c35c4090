"""Nodes that stop without dying, and links that break, in the middle of blocks (RELIABILITY.md, rows 4 and 9)."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from blockyard.proto.cluster_pb2 import NODE_UP

from tests.storagenode.faults.workload import Workload, until_serving, until_sound
from tests.support import networks
from tests.support.networks import Network
from tests.support.storage_cluster import StorageCluster


def names(cluster: StorageCluster, chain: Sequence[int]) -> list[str]:
    """Return the names of the nodes of a chain."""
    view = cluster.view()
    return [view.node(number).name for number in chain]


def test_nodes_paused_in_the_middle_of_a_block_are_cut_out_and_get_it_later(
    four: StorageCluster, work: Workload
) -> None:
    for place in range(3):  # head, middle, tail
        paused: list[str] = []

        def pause(chain: Sequence[int], place: int = place, paused: list[str] = paused) -> None:
            paused.append(names(four, chain)[place])
            four.pause(paused[0])

        entry = work.stream(work.lease(), 3_000_000, view=four.view(), midway=pause)
        assert len(entry.nodes) == 2
        assert four.id(paused[0]) not in entry.nodes
        work.more(10, reads=5)
        four.resume(paused[0])
        until_serving(four, paused[0])
        four.until_up()
    work.more(5)
    work.rest()
    until_sound(four, work.manifest)
    assert not work.unread, "one node was paused, and a reader found no replica"


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    reason = networks.missing()
    if reason is not None:
        pytest.skip(reason)
    made = Network(6)
    yield made
    made.close()


@pytest.fixture(scope="module")
def linked(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageCluster]:
    """Return a cluster of three nodes in networks of their own, that are not called down for a few seconds."""
    patient = {"placement": {"down_after_ms": 20_000}}
    with StorageCluster(tmp_path_factory.mktemp("linked"), meta_settings=patient, network=network) as cluster:
        yield cluster


ABANDONED_S = 180.0
"""A node whose predecessor went without a word keeps the open block, and fetches none, until it knows: a minute."""


def test_links_that_break_in_the_middle_of_a_block_hang_nobody_and_nodes_get_what_they_lack(
    linked: StorageCluster, network: Network, tmp_path: Path
) -> None:
    """The nodes are not called down, so they must hear from those that went on without them."""
    numbers = {linked.id(name): 4 + index for index, name in enumerate(linked.nodes)}

    def reset(one: int, others: Sequence[int]) -> None:
        for other in others:
            network.reset(one, other)
            network.reset(other, one)

    with Workload(linked, tmp_path / "manifest") as work:
        for cut in (network.cut_both, reset):
            lost: list[int] = []

            def break_links(
                chain: Sequence[int],
                cut: Callable[[int, Sequence[int]], None] = cut,
                lost: list[int] = lost,
            ) -> None:
                lost.append(chain[1])
                cut(numbers[chain[1]], [numbers[chain[0]], numbers[chain[2]]])

            entry = work.stream(work.lease(), 3_000_000, view=linked.view(), midway=break_links)
            assert len(entry.nodes) == 2
            assert lost[0] not in entry.nodes
            work.more(5, reads=5)
            network.heal()
            assert linked.view().node(lost[0]).state == NODE_UP, "it was to be missed by nobody but the chain"
        work.more(5)
        work.rest()
        until_sound(linked, work.manifest, timeout_s=ABANDONED_S)
        assert not work.unread
