"""From which holder, and what together."""

from blockyard.storagenode.upkeep.exchange import Missing
from blockyard.storagenode.upkeep.sources import (
    FIRST_REST_S,
    SMALL_BYTES,
    TOGETHER_BLOCKS,
    TOGETHER_BYTES,
    Pull,
    Round,
    Sources,
)
from hypothesis import given
from hypothesis import strategies as st

LARGE = 4 * SMALL_BYTES


def drain(todo: Round, sources: Sources, now: float = 0.0) -> list[Pull]:
    pulls = []
    while pull := todo.next(sources, now):
        sources.started(pull)
        pulls.append(pull)
    return pulls


def test_the_rarest_blocks_go_first() -> None:
    missing = [Missing(1, LARGE, (2, 3, 4)), Missing(2, LARGE, (2,)), Missing(3, LARGE, (3, 4))]
    pulls = drain(Round(missing), Sources())
    assert [pull.blocks[0].block for pull in pulls] == [2, 3, 1]


def test_each_block_comes_from_the_holder_that_has_the_least_to_send() -> None:
    missing = [Missing(block, LARGE, (2, 3)) for block in range(1, 9)]
    pulls = drain(Round(missing), Sources())
    assert sorted(pull.source for pull in pulls) == [2] * 4 + [3] * 4


def test_load_that_is_over_counts_no_longer_but_turns_are_still_taken() -> None:
    sources = Sources()
    for _ in range(2):
        [pull] = drain(Round([Missing(1, LARGE, (2, 3))]), sources)
        sources.ended(pull, answered=True, now=0.0)
    [pull] = drain(Round([Missing(1, 2 * LARGE, (2,))]), sources)
    assert sources.choose((2, 3), 0.0) == 3


def test_a_holder_that_failed_rests_longer_every_time_and_an_answer_ends_that() -> None:
    sources = Sources()
    pull = Pull(2, (Missing(1, 10, (2,)),))
    now = 0.0
    rests = []
    for _ in range(7):
        sources.started(pull)
        sources.ended(pull, answered=False, now=now)
        start = now
        while sources.choose((2,), now) is None:
            now += 0.5
        rests.append(now - start)
    assert rests[:3] == [FIRST_REST_S, 2 * FIRST_REST_S, 4 * FIRST_REST_S]
    assert rests[-1] == rests[-2] == 60.0
    sources.started(pull)
    sources.ended(pull, answered=True, now=now)
    assert sources.choose((2,), now) == 2


def test_blocks_whose_holders_all_rest_are_left() -> None:
    sources = Sources()
    bad = Pull(2, (Missing(1, 10, (2,)),))
    sources.started(bad)
    sources.ended(bad, answered=False, now=0.0)
    todo = Round([Missing(1, 10, (2,)), Missing(5, 10, (2, 3))])
    assert [pull.source for pull in drain(todo, sources, 1.0)] == [3]
    assert [missing.block for missing in todo.left] == [1]


def test_a_block_is_not_asked_twice_of_a_holder_that_could_not_deliver_it() -> None:
    sources, missing = Sources(), Missing(1, LARGE, (2, 3))
    todo = Round([missing])
    first = todo.next(sources, 0.0)
    assert first is not None
    todo.retry(missing, first.source)
    second = todo.next(sources, 0.0)
    assert second is not None
    assert {first.source, second.source} == {2, 3}
    todo.retry(missing, second.source)
    assert todo.next(sources, 0.0) is None
    assert todo.left == [missing]


def test_blocks_that_were_not_reached_are_asked_of_the_same_holder_again() -> None:
    missing = Missing(1, 10, (2,))
    todo = Round([missing])
    assert todo.next(Sources(), 0.0) == Pull(2, (missing,))
    todo.again([missing])
    assert todo.next(Sources(), 0.0) == Pull(2, (missing,))


def test_without_room_everything_that_waits_is_left() -> None:
    blocks = [Missing(block, LARGE, (2,)) for block in (1, 2, 3)]
    todo = Round(blocks)
    pull = todo.next(Sources(), 0.0)
    assert pull is not None
    todo.give_up(pull.blocks)
    assert todo.next(Sources(), 0.0) is None
    assert sorted(missing.block for missing in todo.left) == [1, 2, 3]


@given(
    st.dictionaries(
        st.integers(1, 2000),
        st.tuples(st.integers(1, 3 * SMALL_BYTES), st.sets(st.integers(2, 5), min_size=1)),
        max_size=400,
    )
)
def test_every_block_is_asked_for_once_of_a_holder_that_has_it_and_requests_stay_small(
    blocks: dict[int, tuple[int, set[int]]],
) -> None:
    missing = [Missing(block, length, tuple(sorted(nodes))) for block, (length, nodes) in blocks.items()]
    pulls = drain(Round(missing), Sources())
    asked = [each for pull in pulls for each in pull.blocks]
    assert sorted(each.block for each in asked) == sorted(blocks)
    for pull in pulls:
        assert all(pull.source in each.sources for each in pull.blocks)
        if len(pull.blocks) > 1:
            assert len(pull.blocks) <= TOGETHER_BLOCKS
            assert pull.bytes <= TOGETHER_BYTES
            assert all(each.length < SMALL_BYTES for each in pull.blocks)
