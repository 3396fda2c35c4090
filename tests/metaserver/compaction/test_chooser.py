"""Which chunk is next, when it is tried again, and which node has it."""

from blockyard.metaserver.cluster.map import MapView
from blockyard.metaserver.compaction.chooser import RETRY_MAX_S, Chooser, Verdict, choose_node
from blockyard.metaserver.namespace import slices
from blockyard.metaserver.namespace.slices import Piece
from blockyard.proto.cluster_pb2 import NODE_DOWN

from tests.metaserver.cluster.harness import Cluster, block

KIB = 1 << 10
NAME = (2, 0)


def row_of(count: int, length: int = 4 * KIB, gap: int = 0) -> bytes:
    return slices.encode([(at * (length + gap), length, at + 1, 0, length) for at in range(count)])


def once(number: int) -> int:
    return 1


LONG = row_of(40)
SLOW = row_of(33, 1_900 * KIB)
SPARSE = row_of(40, gap=1)


def test_a_chunk_worth_it_is_chosen_at_once_and_not_twice_at_a_time() -> None:
    chooser = Chooser()
    assert chooser.look(NAME, LONG, once, 0).plan is not None
    chooser.begun(NAME)
    assert chooser.look(NAME, LONG, once, 100) == Verdict()
    assert chooser.look(NAME, row_of(60), once, 200) == Verdict()
    chooser.ended(NAME, 300, failed=False)
    assert chooser.look(NAME, row_of(60), once, 300).plan is not None


def test_a_chunk_that_is_worth_it_only_in_quiet_waits_for_quiet_and_a_change_begins_it_anew() -> None:
    chooser = Chooser()
    waited = [now for now in range(1_000) if chooser.look(NAME, SLOW, once, now).plan is not None]
    assert waited
    assert 50 < waited[0] < 400
    other = row_of(33, 1_899 * KIB)
    assert chooser.look(NAME, other, once, 1_000).plan is None
    assert chooser.look(NAME, other, once, 1_000 + waited[0]).plan is not None


def test_failures_make_it_wait_longer_every_time() -> None:
    chooser = Chooser()
    now, waits = 0.0, []
    for _ in range(12):
        failed_at = now
        while chooser.look(NAME, LONG, once, now).plan is None:
            now += 0.5
        waits.append(now - failed_at)
        chooser.begun(NAME)
        chooser.ended(NAME, now, failed=True)
    assert waits[:5] == [0, 1, 2, 4, 8]
    assert waits[-1] == RETRY_MAX_S
    while chooser.look(NAME, LONG, once, now).plan is None:
        now += 0.5
    chooser.begun(NAME)
    chooser.ended(NAME, now, failed=False)
    assert chooser.look(NAME, row_of(50), once, now).plan is not None, "a success ends the row of failures"


def test_a_chunk_that_nothing_makes_better_is_called_hopeless_once_it_is_quiet() -> None:
    chooser = Chooser()
    assert chooser.look(NAME, SPARSE, once, 0) == Verdict()
    assert any(chooser.look(NAME, SPARSE, once, now).hopeless for now in range(1, 100))


def test_what_is_not_marked_any_more_is_forgotten_unless_it_is_under_way() -> None:
    chooser = Chooser()
    other = (3, 0)
    for name in (NAME, other):
        assert chooser.look(name, LONG, once, 0).plan is not None
    chooser.begun(NAME)
    chooser.keep_only({})
    assert chooser.look(NAME, LONG, once, 1) == Verdict()
    chooser.ended(other, 1, failed=True)
    assert chooser.look(other, LONG, once, 1).plan is not None


# ------------------------------------------------------------------------------------------ nodes


def pieces_in(*lengths: tuple[int, int]) -> list[Piece]:
    """Return a piece per (group, length)."""
    return [(at << 20, length, block(group, at + 1), 0, length) for at, (group, length) in enumerate(lengths)]


def choose(view: MapView, pieces: list[Piece], *, busy: tuple[int, ...] = (), full: tuple[int, ...] = ()) -> int:
    return choose_node(view, pieces, dict.fromkeys(busy, 1), 1, full)


def test_the_node_that_holds_most_bytes_rewrites_unless_it_is_busy_full_or_down() -> None:
    cluster = Cluster(replicas=1, write_min=1, nodes=3)
    groups = {cluster.group(number).nodes[0]: number for number in range(16)}
    pieces = pieces_in((groups[1], 10), (groups[2], 30), (groups[3], 20), (groups[1], 15))
    assert choose(cluster.view, pieces) == 2
    assert choose(cluster.view, pieces, busy=(2,)) == 1
    assert choose(cluster.view, pieces, busy=(2,), full=(1,)) == 3
    assert choose(cluster.view, pieces, busy=(1, 2, 3)) == 0
    cluster.set_state(2, NODE_DOWN)
    assert choose(cluster.view, pieces) == 1


def test_among_equals_the_one_with_fewest_jobs_rewrites() -> None:
    cluster = Cluster(nodes=3)
    pieces = pieces_in((0, 10), (1, 30))
    assert choose_node(cluster.view, pieces, {}, 4, ()) == 1
    assert choose_node(cluster.view, pieces, {1: 2, 2: 1, 3: 3}, 4, ()) == 2


def test_nobody_rewrites_blocks_of_groups_that_nobody_holds() -> None:
    assert choose(Cluster(nodes=0).view, pieces_in((0, 10))) == 0
