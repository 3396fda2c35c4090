"""When a member becomes read-only, and when no longer."""

from pathlib import Path

import pytest
from blockyard.metaserver.storage.space import SpaceLimits, SpaceWatch, free_bytes


def test_between_the_limits_the_answer_stays_what_it_was() -> None:
    watch = SpaceWatch(SpaceLimits(read_only_below_bytes=100, writable_from_bytes=200))
    seen = [(watch.observe(free), watch.read_only) for free in (150, 100, 99, 150, 199, 200, 150, 0)]
    assert seen == [
        (False, False),
        (False, False),
        (True, True),
        (False, True),
        (False, True),
        (True, False),
        (False, False),
        (True, True),
    ]


def test_limits_without_a_gap_between_them_are_refused() -> None:
    with pytest.raises(ValueError, match="must be less than"):
        SpaceLimits(100, 100)


def test_free_space_is_that_of_the_file_system(tmp_path: Path) -> None:
    assert 0 < free_bytes(tmp_path) == free_bytes(tmp_path.parent)
