"""What is looked at next, what is filled first, what is complete; on a clock that the test turns."""

import itertools

from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import (
    NODE_DOWN,
    NODE_OUT,
    NODE_UP,
    ClusterMap,
    NodeRecord,
    NodeState,
    PlacementGroupRecord,
)
from blockyard.storagenode.upkeep.agenda import RETRY_S, SECOND_LOOK_S, SETTLE_S, Agenda, Survey

ME = 1
PERIOD_S = 600.0
Row = tuple[tuple[int, ...], tuple[int, ...]]


class Node:
    """An agenda, its clock, and the map it was told last."""

    def __init__(self, *rows: Row, states: dict[int, NodeState] | None = None) -> None:
        self.agenda = Agenda(ME, PERIOD_S)
        self.now = 1000.0
        self.epoch = 0
        self.rows: tuple[Row, ...] = ()
        self.states: dict[int, NodeState] = {}
        self.map(*rows, states=states)

    def map(self, *rows: Row, states: dict[int, NodeState] | None = None, skip: int = 0) -> None:
        self.epoch += 1 + skip
        self.rows = rows or self.rows
        self.states = states if states is not None else self.states
        message = ClusterMap(
            epoch=self.epoch,
            replicas=3,
            write_min=2,
            nodes=[NodeRecord(id=n, state=self.states.get(n, NODE_UP)) for n in range(1, 10)],
            groups=[PlacementGroupRecord(nodes=nodes, former_nodes=former) for nodes, former in self.rows],
        )
        self.agenda.map_is(ClusterView(message), self.now)

    def survey(self, missing: int = 0, fewest: int = 0, settled: bool = True) -> int | None:
        """Survey what is due, with this outcome; return the group."""
        group = self.agenda.take_survey(self.now)
        if group is not None:
            self.report(group, missing, fewest, settled)
        return group

    def report(self, group: int, missing: int = 0, fewest: int = 0, settled: bool = True) -> None:
        row = self.agenda.row(group)
        assert row is not None
        self.agenda.surveyed(Survey(group, missing, missing * 10, fewest, settled), row, self.now)

    def survey_all(self) -> list[int]:
        found = []
        while (group := self.survey()) is not None:
            found.append(group)
        return found


THREE: Row = ((1, 2, 3), ())


def test_at_the_start_nothing_is_complete_and_everything_is_due() -> None:
    node = Node(THREE, THREE, ((2, 3, 4), ()))
    assert node.agenda.complete() == []
    assert sorted(node.survey_all()) == [0, 1]
    assert node.agenda.complete() == [0, 1]
    assert node.agenda.wait_s(node.now) > 0


def test_the_groups_with_the_fewest_other_holders_are_surveyed_first() -> None:
    node = Node(THREE, ((1, 4, 5), ()), ((1, 4, 2), (3,)), states={4: NODE_DOWN, 5: NODE_DOWN})
    assert node.survey_all() == [1, 0, 2]


def test_fills_go_in_the_order_of_danger() -> None:
    node = Node(THREE, THREE, THREE, THREE)
    for group, fewest in enumerate((2, 1, 3, 1)):
        assert node.agenda.take_survey(node.now) == group
        node.report(group, missing=5, fewest=fewest)
    order = []
    while (first := node.agenda.next_fill()) is not None:
        order.append(first)
        node.agenda.filled(first, node.now, gained=False)
    assert order == [1, 3, 0, 2]


def test_a_fill_is_followed_by_a_survey_that_says_whether_the_group_is_complete() -> None:
    node = Node(THREE)
    node.survey(missing=5, fewest=2)
    assert (node.agenda.left().blocks, node.agenda.left().bytes) == (5, 50)
    node.agenda.pulled(0, 5, 50)
    node.agenda.filled(0, node.now, gained=True)
    assert node.agenda.complete() == []
    assert node.survey() == 0
    assert node.agenda.complete() == [0]
    assert node.agenda.left().groups == 0


def test_a_group_that_has_become_complete_is_looked_at_once_more_for_what_old_maps_brought() -> None:
    node = Node(THREE)
    assert node.survey_all() == [0]
    node.now += 2 * SECOND_LOOK_S
    assert node.survey_all() == [0]
    node.now += 2 * SECOND_LOOK_S
    assert node.survey_all() == []


def test_a_fill_that_gained_nothing_is_not_tried_again_at_once() -> None:
    node = Node(THREE)
    node.survey(missing=5, fewest=1)
    node.agenda.filled(0, node.now, gained=False)
    assert node.agenda.next_fill() is None
    assert node.survey() is None
    assert node.agenda.left().blocks == 5
    node.now += RETRY_S
    assert node.survey(missing=5, fewest=1) == 0
    assert node.agenda.next_fill() == 0


def test_a_survey_that_did_not_hear_everybody_settles_nothing_and_is_repeated_soon() -> None:
    node = Node(THREE)
    node.survey(settled=False)
    assert node.agenda.complete() == []
    node.now += RETRY_S
    assert node.survey() == 0
    assert node.agenda.complete() == [0]


def test_a_holder_that_is_down_is_waited_for_and_one_that_is_out_is_not() -> None:
    node = Node(((1, 2, 3), (4,)), states={4: NODE_DOWN})
    node.survey_all()
    assert node.agenda.complete() == []
    node.map(states={4: NODE_OUT})
    assert node.survey_all() == [0]
    assert node.agenda.complete() == [0]


def test_a_node_that_is_back_is_asked_what_it_has() -> None:
    node = Node(THREE, ((1, 4, 5), ()), states={3: NODE_DOWN})
    node.survey_all()
    node.map(states={})
    assert node.survey_all() == [], "first it drops what died while it was away"
    node.now += SETTLE_S
    assert node.survey_all() == [0]


def test_a_node_that_was_away_itself_looks_at_everything() -> None:
    node = Node(THREE, ((1, 4, 5), ()))
    node.survey_all()
    node.map(states={ME: NODE_DOWN})
    assert node.survey_all() == []
    node.map(states={})
    node.now += SETTLE_S
    assert node.survey_all() == [0, 1]


def test_a_node_that_missed_maps_may_have_been_called_down_in_one_of_them_and_looks_at_everything() -> None:
    node = Node(THREE, ((1, 4, 5), ()))
    node.survey_all()
    node.map(skip=2)
    node.now += SETTLE_S
    assert node.survey_all() == [0, 1]


def test_a_group_with_other_holders_is_not_complete_before_it_was_surveyed_anew() -> None:
    node = Node(THREE, THREE)
    node.survey_all()
    node.map(((1, 2, 4), (3,)), THREE)
    assert node.agenda.complete() == [1]
    assert node.agenda.listed(0) == (2, 3, 4)
    assert node.survey_all() == [0]
    assert node.agenda.complete() == [0, 1]


def test_letting_former_holders_go_and_preferring_others_changes_nothing() -> None:
    node = Node(((1, 2, 4), (3,)))
    node.survey_all()
    node.map(((4, 1, 2), ()))
    assert node.agenda.complete() == [0]
    assert node.survey_all() == []


def test_a_group_that_may_have_gone_to_others_and_come_back_unseen_is_surveyed_anew() -> None:
    node = Node(((1, 2, 4), (3,)), THREE)
    node.survey_all()
    node.map(skip=1)
    assert node.agenda.complete() == [1]
    assert node.survey_all() == [0]


def test_a_survey_of_holders_that_are_no_longer_does_not_make_complete() -> None:
    node = Node(THREE)
    assert node.agenda.take_survey(node.now) == 0
    row = node.agenda.row(0)
    assert row is not None
    node.map(((1, 2, 4), (3,)))
    node.agenda.surveyed(Survey(0, 0, 0, 0, settled=True), row, node.now)
    assert node.agenda.complete() == []
    assert node.survey() == 0


def test_what_happens_during_a_survey_is_not_forgotten() -> None:
    node = Node(THREE)
    assert node.agenda.take_survey(node.now) == 0
    node.agenda.lost(0, node.now)
    node.report(0)
    assert node.agenda.complete() == []
    assert node.survey() == 0
    assert node.agenda.complete() == [0]


def test_a_hint_brings_a_survey_forward_and_its_sender_is_listed_until_the_group_is_complete() -> None:
    node = Node(THREE)
    node.survey_all()
    node.agenda.hint(0, node.now, stranger=7)
    assert node.agenda.complete() == [0]
    assert node.agenda.listed(0) == (2, 3, 7)
    assert node.survey(missing=1, fewest=1) == 0
    assert node.agenda.listed(0) == (2, 3, 7)
    node.agenda.filled(0, node.now, gained=True)
    assert node.survey() == 0
    assert node.agenda.listed(0) == (2, 3)


def test_a_bad_replica_makes_its_group_incomplete() -> None:
    node = Node(THREE)
    node.survey_all()
    node.agenda.lost(0, node.now)
    assert node.agenda.complete() == []
    assert node.survey() == 0


def test_every_group_is_surveyed_once_a_period_and_not_all_at_a_time() -> None:
    node = Node(*[THREE] * 16)
    node.survey_all()
    times: dict[int, list[float]] = {}
    for _ in range(int(3 * PERIOD_S)):
        node.now += 1.0
        due = node.survey_all()
        assert len(due) <= 4
        for group in due:
            times.setdefault(group, []).append(node.now)
    assert sorted(times) == list(range(16))
    for at in times.values():
        assert all(later - sooner <= PERIOD_S + 1 for sooner, later in itertools.pairwise(at))


def test_an_older_map_is_ignored() -> None:
    node = Node(THREE)
    node.epoch -= 1
    node.map(((2, 3, 4), ()))
    assert node.agenda.row(0) is not None


def test_a_group_of_which_this_node_is_the_only_holder_is_complete_by_itself() -> None:
    node = Node(((1,), ()))
    node.survey_all()
    assert node.agenda.complete() == [0]
