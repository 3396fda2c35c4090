"""What was dropped for good is remembered, up to a bound."""

from blockyard.storagenode.upkeep.dropped import Dropped


def test_the_oldest_are_forgotten_first() -> None:
    dropped = Dropped(kept=3)
    dropped.add([1, 2, 3])
    dropped.add([3, 4])
    assert [block for block in range(1, 6) if block in dropped] == [2, 3, 4]


def test_more_than_the_bound_at_once_leaves_the_newest() -> None:
    dropped = Dropped(kept=3)
    dropped.add(range(10))
    assert [block for block in range(12) if block in dropped] == [7, 8, 9]
