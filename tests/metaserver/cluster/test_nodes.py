"""Who a node is, and what becomes of it."""

from collections.abc import Callable

import pytest
from blockyard.proto.cluster_pb2 import (
    NODE_DOWN,
    NODE_DRAINING,
    NODE_OUT,
    NODE_REMOVED,
    NODE_UP,
)
from blockyard.proto.errors import Busy, ForeignCluster, InvalidArgument, StaleIncarnation, UnknownNode

from tests.metaserver.cluster.harness import CLUSTER, Cluster

# ---------------------------------------------------------------------------------------------------- identity


def test_the_first_node_gets_id_one_and_holds_everything() -> None:
    cluster = Cluster()
    reply = cluster.register("a", incarnation=11)
    assert (reply.id, reply.cluster, reply.map.epoch) == (1, CLUSTER, 2)
    assert all(list(group.nodes) == [1] for group in reply.map.groups)


def test_a_restarted_node_is_the_same_node_and_the_map_stays() -> None:
    cluster = Cluster(nodes=3)
    epoch = cluster.epoch
    reply = cluster.register("n2", incarnation=2, number=2, starts=2, cluster=CLUSTER)
    assert (reply.id, cluster.epoch) == (2, epoch)


def test_a_restarted_node_that_lost_its_first_answer_keeps_its_id() -> None:
    cluster = Cluster(nodes=3)
    assert cluster.register("n2", incarnation=2, number=0, starts=2).id == 2


def test_a_repeated_registration_of_one_start_is_harmless() -> None:
    cluster = Cluster(nodes=2)
    epoch = cluster.epoch
    assert cluster.register("n2", incarnation=2, number=2, starts=1).id == 2
    assert cluster.epoch == epoch


def test_a_restarted_node_may_listen_elsewhere_and_the_map_says_so() -> None:
    cluster = Cluster(nodes=2)
    cluster.set_state(2, NODE_DOWN)
    epoch = cluster.epoch
    reply = cluster.register("n2", incarnation=2, number=2, starts=2, port=7001)
    assert reply.map.nodes[1].address.lane_port == 7001
    assert cluster.epoch == epoch + 1


def test_a_copied_directory_is_refused_because_its_starts_do_not_rise() -> None:
    cluster = Cluster(nodes=2)
    cluster.register("n2", incarnation=2, number=2, starts=5)
    with pytest.raises(StaleIncarnation, match="copy"):
        cluster.register("n2", incarnation=2, number=2, starts=5, port=7001)
    with pytest.raises(StaleIncarnation, match="copy"):
        cluster.register("n2", incarnation=2, number=2, starts=4)
    assert cluster.reopened().view.nodes[2].starts == 5


def test_a_copied_directory_that_starts_beside_a_living_node_does_not_become_that_node() -> None:
    cluster = Cluster(nodes=2)
    with pytest.raises(Busy, match="is up elsewhere"):
        cluster.register("n2", incarnation=2, number=2, starts=2, port=7001)
    assert cluster.register("n2", incarnation=2, number=2, starts=2).id == 2, "at its own address it restarted quickly"


def test_a_wiped_node_becomes_a_new_node_and_the_old_one_is_removed() -> None:
    cluster = Cluster(nodes=4)
    cluster.set_state(2, NODE_DOWN)
    epoch = cluster.epoch
    assert cluster.register("n2", incarnation=22).id == 5
    assert cluster.epoch == epoch + 1
    assert cluster.node_state(2) == NODE_REMOVED
    assert cluster.holders() == {1, 3, 4, 5}
    assert not any(2 in group.former for group in cluster.view.groups)


def test_the_old_incarnation_of_a_wiped_node_is_refused() -> None:
    cluster = Cluster(nodes=3)
    cluster.set_state(2, NODE_DOWN)
    cluster.register("n2", incarnation=22)
    with pytest.raises(StaleIncarnation):
        cluster.register("n2", incarnation=2, number=2, starts=9)
    with pytest.raises(StaleIncarnation):
        cluster.complete(2)


def test_a_wiped_node_under_its_old_id_is_refused() -> None:
    cluster = Cluster(nodes=3)
    cluster.set_state(2, NODE_DOWN)
    with pytest.raises(StaleIncarnation):
        cluster.register("n2", incarnation=22, number=2)


def test_a_second_machine_with_the_name_of_a_living_node_is_refused_and_told_to_wait() -> None:
    cluster = Cluster(nodes=3)
    with pytest.raises(Busy, match="up") as refused:
        cluster.register("n2", incarnation=22)
    assert refused.value.retry_after_ms > 0
    assert cluster.node_state(2) == NODE_UP


def test_a_node_of_another_cluster_is_refused() -> None:
    with pytest.raises(ForeignCluster):
        Cluster().register("a", incarnation=11, cluster="c" + "1" * 32)


def test_a_node_with_an_id_that_was_never_given_is_refused() -> None:
    with pytest.raises(UnknownNode):
        Cluster(nodes=1).register("x", incarnation=99, number=7)


@pytest.mark.parametrize(("name", "incarnation"), [("", 1), ("n" * 256, 1), ("a", 0)])
def test_a_node_without_a_name_or_an_incarnation_is_refused(name: str, incarnation: int) -> None:
    with pytest.raises(InvalidArgument):
        Cluster().register(name, incarnation=incarnation)


def test_weight_is_capacity_in_gib_until_an_operator_sets_it() -> None:
    cluster = Cluster(nodes=2)
    cluster.register("n1", incarnation=1, starts=2, gib=300)
    assert cluster.view.nodes[1].weight == 300
    cluster.change(1, weight=50)
    cluster.register("n1", incarnation=1, starts=3, gib=400)
    assert cluster.view.nodes[1].weight == 50


def test_a_disk_smaller_than_a_gib_counts_too() -> None:
    cluster = Cluster()
    cluster.register("small", incarnation=1, gib=0)
    assert cluster.holders() == {1}


# ---------------------------------------------------------------------------------------------------- states


def test_a_node_that_is_down_keeps_its_groups_and_one_that_is_out_gives_them_away() -> None:
    cluster = Cluster(nodes=4)
    cluster.set_state(2, NODE_DOWN)
    assert 2 in cluster.holders()
    cluster.set_state(2, NODE_OUT)
    assert cluster.holders() == {1, 3, 4}
    assert any(2 in group.former for group in cluster.view.groups)


def test_a_node_that_comes_back_from_out_holds_groups_again() -> None:
    cluster = Cluster(nodes=4)
    cluster.set_state(2, NODE_DOWN)
    cluster.set_state(2, NODE_OUT)
    cluster.register("n2", incarnation=2, number=2, starts=2)
    assert 2 in cluster.holders()
    assert cluster.node_state(2) == NODE_UP


def test_a_late_proposal_changes_nothing() -> None:
    cluster = Cluster(nodes=3)
    cluster.set_state(2, NODE_DOWN)
    epoch = cluster.epoch
    cluster.set_state(2, NODE_DOWN, before=NODE_UP)
    cluster.register("n2", incarnation=2, number=2, starts=2)
    cluster.set_state(2, NODE_OUT, before=NODE_DOWN)
    assert (cluster.node_state(2), cluster.epoch) == (NODE_UP, epoch + 1)


def test_every_change_counts_one_epoch() -> None:
    cluster = Cluster(nodes=4)
    changes: list[Callable[[], object]] = [
        lambda: cluster.set_state(1, NODE_DOWN),
        lambda: cluster.set_state(1, NODE_OUT),
        lambda: cluster.set_state(1, NODE_UP),
        lambda: cluster.change(2, weight=7),
        lambda: cluster.change(2, NODE_DRAINING),
        lambda: cluster.change(2, NODE_UP),
        lambda: cluster.change(2, NODE_REMOVED, force=True),
        lambda: cluster.register("n9", incarnation=9),
    ]
    for number, change in enumerate(changes, cluster.epoch + 1):
        change()
        assert cluster.epoch == number
        assert cluster.reopened().epoch == number


def test_draining_a_node_that_is_down_counts_an_epoch_although_the_same_nodes_hold_or_held_the_groups() -> None:
    cluster = Cluster(nodes=1)
    cluster.set_state(1, NODE_DOWN)
    epoch = cluster.epoch
    cluster.change(1, NODE_DRAINING)
    assert (cluster.group(0).nodes, cluster.group(0).former, cluster.epoch) == ((), (1,), epoch + 1)


def test_what_is_already_so_counts_no_epoch() -> None:
    cluster = Cluster(nodes=3)
    epoch = cluster.epoch
    cluster.change(2, NODE_UP)
    cluster.change(2)
    cluster.complete(2)
    assert cluster.epoch == epoch


def test_a_draining_node_stays_draining_after_it_was_down() -> None:
    cluster = Cluster(nodes=4)
    cluster.change(2, NODE_DRAINING)
    assert cluster.holders() == {1, 3, 4}
    cluster.set_state(2, NODE_DOWN)
    cluster.set_state(2, NODE_UP)
    assert cluster.node_state(2) == NODE_DRAINING
    cluster.set_state(2, NODE_DOWN)
    cluster.register("n2", incarnation=2, starts=2)
    assert cluster.node_state(2) == NODE_DRAINING
    cluster.change(2, NODE_UP)
    assert 2 in cluster.holders()


@pytest.mark.parametrize("state", [NODE_DOWN, NODE_OUT, 17])
def test_an_operator_cannot_set_what_the_clock_decides(state: int) -> None:
    with pytest.raises(InvalidArgument):
        Cluster(nodes=2).change(1, state)  # type: ignore[arg-type]


def test_silence_cannot_remove_a_node() -> None:
    with pytest.raises(InvalidArgument):
        Cluster(nodes=2).set_state(1, NODE_REMOVED)


# ---------------------------------------------------------------------------------------------------- handing over


def test_former_holders_stay_until_every_new_holder_is_complete() -> None:
    cluster = Cluster(nodes=4)
    cluster.change(2, NODE_DRAINING)
    moved = [number for number, group in enumerate(cluster.view.groups) if 2 in group.former]
    assert moved
    cluster.complete(1)
    cluster.complete(3)
    assert all(2 in cluster.group(number).former for number in moved)
    epoch = cluster.epoch
    cluster.complete(4)
    assert not any(cluster.group(number).former for number in moved)
    assert cluster.epoch == epoch + 1


def test_a_report_under_a_map_from_before_the_change_does_not_count() -> None:
    cluster = Cluster(nodes=4)
    before = cluster.epoch
    cluster.change(2, NODE_DRAINING)
    for node in (1, 3, 4):
        cluster.complete(node, epoch=before)
    assert any(2 in group.former for group in cluster.view.groups)


def test_a_report_counts_although_other_things_changed_in_the_map_since() -> None:
    cluster = Cluster(nodes=4)
    cluster.change(2, NODE_DRAINING)
    epoch = cluster.epoch
    cluster.set_state(2, NODE_DOWN)
    for node in (1, 3, 4):
        cluster.complete(node, epoch=epoch)
    assert not any(group.former for group in cluster.view.groups)


def test_a_second_move_asks_everybody_again() -> None:
    cluster = Cluster(nodes=5)
    cluster.change(2, NODE_DRAINING)
    for node in (1, 3, 4):
        cluster.complete(node)
    cluster.change(3, NODE_DRAINING)
    cluster.complete(5)
    for group in cluster.view.groups:
        if 3 in group.former:
            assert set(group.complete) <= {5}


def test_a_node_that_may_have_the_only_copies_is_not_removed_unless_forced() -> None:
    cluster = Cluster(nodes=4)
    with pytest.raises(Busy, match="only copies"):
        cluster.change(2, NODE_REMOVED)
    cluster.change(2, NODE_DRAINING)
    with pytest.raises(Busy, match="only copies"):
        cluster.change(2, NODE_REMOVED)
    for node in (1, 3, 4):
        cluster.complete(node)
    cluster.change(2, NODE_REMOVED)
    cluster.change(3, NODE_REMOVED, force=True)
    assert cluster.holders() == {1, 4}
    assert not any(group.former for group in cluster.view.groups)


def test_the_last_node_can_be_drained_but_not_removed_in_peace() -> None:
    cluster = Cluster(nodes=1)
    cluster.change(1, NODE_DRAINING)
    assert cluster.holders() == set()
    with pytest.raises(Busy):
        cluster.change(1, NODE_REMOVED)
    cluster.change(1, NODE_UP)
    assert cluster.holders() == {1}


def test_the_name_of_a_removed_node_is_free_and_its_id_is_not() -> None:
    cluster = Cluster(nodes=2)
    cluster.change(2, NODE_REMOVED, force=True)
    assert cluster.register("n2", incarnation=22).id == 3
    with pytest.raises(UnknownNode):
        cluster.change(2, NODE_UP)


def test_a_refused_command_leaves_the_map_as_it_was() -> None:
    cluster = Cluster(nodes=3)
    before, view = dict(cluster.store.rows), cluster.view
    with pytest.raises(Busy):
        cluster.change(2, NODE_REMOVED)
    assert cluster.view is view
    assert cluster.store.rows == before
