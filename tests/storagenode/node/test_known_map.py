"""The known map only gets newer, one thread fetches for all, and writes are judged by it."""

import threading
from collections.abc import Sequence

import pytest
from blockyard.proto import errors
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import (
    NODE_DOWN,
    NODE_DRAINING,
    NODE_UP,
    ClusterMap,
    NodeRecord,
    NodeState,
    PlacementGroupRecord,
)
from blockyard.proto.ids import BLOCK, PlacementGroup
from blockyard.storagenode.node.guard import Guard
from blockyard.storagenode.node.known_map import KnownMap
from hypothesis import given
from hypothesis import strategies as st


def cluster_map(epoch: int, groups: Sequence[Sequence[int]] = ((1, 2),), **states: NodeState) -> ClusterMap:
    nodes = [NodeRecord(id=n, name=f"n{n}", state=states.get(f"n{n}", NODE_UP)) for n in (1, 2, 3)]
    rows = [PlacementGroupRecord(nodes=row) for row in groups]
    return ClusterMap(epoch=epoch, replicas=2, write_min=1, nodes=nodes, groups=rows)


class Group:
    """A metadata group that has one map."""

    def __init__(self, newest: ClusterMap) -> None:
        self.newest = newest
        self.asked: list[int] = []
        self.began = threading.Event()
        self.hold = threading.Event()
        self.hold.set()

    def fetch(self, known_epoch: int, timeout_s: float) -> ClusterMap | None:
        self.asked.append(known_epoch)
        self.began.set()
        assert self.hold.wait(10)
        return self.newest if self.newest.epoch > known_epoch else None


def known(epoch: int, newest: int | None = None) -> tuple[KnownMap, Group]:
    group = Group(cluster_map(newest or epoch))
    return KnownMap(ClusterView(cluster_map(epoch)), group.fetch), group


@given(st.lists(st.integers(1, 50), max_size=30))
def test_the_epoch_never_goes_back_and_subscribers_hear_each_rise_once(epochs: list[int]) -> None:
    kept, _ = known(10)
    heard: list[int] = []
    kept.subscribe(lambda view: heard.append(view.epoch))
    for epoch in epochs:
        before = kept.view.epoch
        assert kept.offer(cluster_map(epoch)) == (epoch > before)
        assert kept.view.epoch == max(before, epoch)
    assert heard == sorted({*heard}), "in order, each once"
    assert heard[-1:] == ([max(epochs)] if max(epochs, default=0) > 10 else [])


def test_a_map_that_is_there_is_not_fetched() -> None:
    kept, group = known(10, newest=12)
    assert kept.at_least(10).epoch == 10
    assert group.asked == []
    assert kept.at_least(11).epoch == 12
    assert group.asked == [10]


def test_an_epoch_that_the_group_does_not_have_is_stale_the_other_way() -> None:
    kept, _ = known(10, newest=12)
    with pytest.raises(errors.StaleEpoch, match="newest map is 12") as caught:
        kept.at_least(13)
    assert caught.value.map_epoch == 12


def test_one_thread_fetches_for_all_who_wait() -> None:
    kept, group = known(10, newest=12)
    group.hold.clear()
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(kept.at_least(12).epoch)) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert group.began.wait(10)
    group.hold.set()
    for thread in threads:
        thread.join(10)
    assert found == [12] * 8
    assert group.asked == [10]


def test_a_waiter_is_woken_by_whoever_brings_the_map() -> None:
    kept, _ = known(10)
    found: list[ClusterView | None] = []
    waiter = threading.Thread(target=lambda: found.append(kept.wait_newer(10, 10)))
    waiter.start()
    kept.offer(cluster_map(11))
    waiter.join(10)
    assert [view.epoch for view in found if view] == [11]
    assert kept.wait_newer(11, 0.0) is None


def block(group: int) -> int:
    return BLOCK.join(PlacementGroup(group), 1)


def guard(message: ClusterMap, newest: ClusterMap | None = None) -> Guard:
    group = Group(newest or message)
    return Guard(1, KnownMap(ClusterView(message), group.fetch))


def test_a_write_through_the_groups_holders_is_taken() -> None:
    judge = guard(cluster_map(5))
    for epoch in (0, 4, 5):
        judge.check_write(block(0), [1, 2], epoch)
    judge.check_read(block(7), 99)


@pytest.mark.parametrize("chain", [[1, 2], [2, 1]])
def test_an_old_map_that_names_a_node_which_holds_the_group_no_longer_is_stale(chain: list[int]) -> None:
    judge = guard(cluster_map(5, [(2, 3)]))
    with pytest.raises(errors.StaleEpoch) as caught:
        judge.check_write(block(0), chain, 4)
    assert caught.value.map_epoch == 5


def test_a_group_that_moved_on_amid_a_write_is_noticed_at_its_end() -> None:
    judge = guard(cluster_map(5), cluster_map(6, [(2, 3)]))
    judge.check_holders(block(0), [1, 2])
    judge.end("it is shutting down")
    judge.check_holders(block(0), [1, 2])
    judge.learn(6)
    with pytest.raises(errors.StaleEpoch) as caught:
        judge.check_holders(block(0), [1, 2])
    assert caught.value.map_epoch == 6


def test_with_the_same_map_a_wrong_node_is_the_writers_mistake() -> None:
    with pytest.raises(errors.InvalidArgument, match="node 3 does not hold placement group 0"):
        guard(cluster_map(5)).check_write(block(0), [1, 3], 5)
    with pytest.raises(errors.InvalidArgument, match="group 9"):
        guard(cluster_map(5)).check_write(block(9), [1], 5)


def test_a_newer_map_is_fetched_before_the_write_is_judged() -> None:
    newest = cluster_map(6, [(1, 3)])
    guard(cluster_map(5), newest).check_write(block(0), [1, 3], 6)
    with pytest.raises(errors.InvalidArgument):
        guard(cluster_map(5), newest).check_write(block(0), [1, 2], 6)


def test_a_node_that_drains_takes_no_new_blocks_and_one_that_is_silent_is_the_chains_to_find() -> None:
    draining = cluster_map(5, n2=NODE_DRAINING)
    with pytest.raises(errors.Busy, match="node 2 is draining"):
        guard(draining).check_write(block(0), [1, 2], 5)
    with pytest.raises(errors.StaleEpoch):
        guard(draining).check_write(block(0), [1, 2], 4)
    guard(cluster_map(5, n2=NODE_DOWN)).check_write(block(0), [1, 2], 5)


def test_a_node_that_ends_takes_no_new_blocks() -> None:
    judge = guard(cluster_map(5))
    judge.end("it is shutting down")
    with pytest.raises(errors.ShuttingDown):
        judge.check_write(block(0), [1, 2], 5)
    judge.check_read(block(0), 5)
