"""Reading ahead: it grows with a sequence, ends with a jump, and asks for no byte twice."""

from blockyard.client.reader.hedging import LONGEST_S, SHORTEST_S, Hedging
from blockyard.client.reader.read_ahead import FIRST_BYTES, LARGEST_BYTES, ReadAhead
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(1, 3 << 20), min_size=1, max_size=60))
def test_a_sequence_is_read_ahead_without_gap_and_without_repetition(lengths: list[int]) -> None:
    habit, position, asked = ReadAhead(), 0, 0
    for length in lengths:
        start, end = habit.advance(position, position + length)
        position += length
        asked = max(asked, position)
        if start < end:
            assert start == asked
            asked = end
        assert asked - position <= LARGEST_BYTES
        assert habit.is_sequential
        assert asked > position, "the next byte is on its way"


@given(st.lists(st.integers(0, 1 << 30), min_size=2, max_size=20, unique=True))
def test_jumps_are_not_read_ahead(positions: list[int]) -> None:
    habit = ReadAhead()
    habit.advance(0, 4096)
    last = 4096
    for position in positions:
        if position in (0, last):
            continue
        assert habit.advance(position, position + 10) == (0, 0)
        assert not habit.is_sequential
        last = position + 10


def test_the_window_begins_small_and_doubles() -> None:
    habit = ReadAhead()
    windows = []
    for start in range(0, 64 << 20, 1 << 20):
        habit.advance(start, start + (1 << 20))
        windows.append(habit.window)
    assert windows[0] <= 2 * FIRST_BYTES
    assert windows[-1] == LARGEST_BYTES
    assert windows == sorted(windows)


@given(st.lists(st.floats(0.0, 60.0), max_size=200))
def test_doubt_comes_neither_at_once_nor_never(answers: list[float]) -> None:
    hedging = Hedging()
    for seconds in answers:
        hedging.answered(seconds)
        assert SHORTEST_S <= hedging.delay_s <= LONGEST_S
    for _ in range(64):
        hedging.answered(0.001)
    assert hedging.delay_s == SHORTEST_S
