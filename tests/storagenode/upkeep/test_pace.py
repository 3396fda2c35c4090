"""Token bucket, scrub pace and meter: rates hold however time passes."""

import pytest
from blockyard.storagenode.upkeep.pace import Meter, ScrubPace, TokenBucket
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.floats(1, 1000),
    st.floats(0, 100),
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 50)), max_size=60),
)
def test_between_any_two_moments_no_more_passes_than_rate_and_burst(
    rate: float, burst: float, steps: list[tuple[float, int]]
) -> None:
    bucket, now = TokenBucket(rate, burst, 0.0), 0.0
    passed: list[tuple[float, int]] = []
    for idle, amount in steps:
        now += idle
        now += bucket.take(amount, now)
        passed.append((now, amount))
    for first, (since, _) in enumerate(passed):
        total = 0
        for until, amount in passed[first:]:
            total += amount
            allowed = rate * (until - since) + burst + passed[first][1]
            assert total <= allowed * (1 + 1e-9) + 1e-6


def test_a_rate_of_zero_lets_everything_through() -> None:
    bucket = TokenBucket(0, 0, 0.0)
    assert [bucket.take(1 << 40, 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_debt_is_paid_by_whoever_comes_next() -> None:
    bucket = TokenBucket(10, 10, 0.0)
    assert bucket.take(30, 0.0) == pytest.approx(2.0)
    assert bucket.take(0, 1.0) == pytest.approx(1.0)
    assert bucket.take(10, 2.0) == pytest.approx(1.0)


def test_another_rate_counts_from_when_it_is_set() -> None:
    bucket = TokenBucket(10, 0, 0.0)
    bucket.set_rate(100, 1.0)
    assert bucket.take(10, 1.0) == pytest.approx(0.1)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.floats(10, 1e6))
def test_scrubbing_the_oldest_at_the_pace_reads_every_replica_within_the_period(
    sizes: list[int], period_s: float
) -> None:
    """Simulated: whatever was read when, after one period from now nothing is older than a period."""
    pace = ScrubPace(period_s)
    total = sum(sizes)
    read_s = {block: -period_s * block / len(sizes) for block in range(len(sizes))}
    now = 0.0
    worst = 0.0
    while now < 3 * period_s:
        oldest = min(read_s, key=lambda block: read_s[block])
        now = max(now, pace.due_ns(int(read_s[oldest] * 1e9)) / 1e9)
        now += sizes[oldest] / pace.rate(total)
        if read_s[oldest] >= 0:
            worst = max(worst, now - read_s[oldest])
        read_s[oldest] = now
    largest = max(sizes) / pace.rate(total)
    assert worst <= period_s + largest
    assert len(sizes) == 1 or all(now - at <= period_s + largest for at in read_s.values())


def test_a_nearly_empty_disk_is_not_read_round_and_round() -> None:
    pace = ScrubPace(1000)
    assert pace.due_ns(0) == 500_000_000_000


def test_a_meter_comes_to_a_steady_rate_and_forgets_it() -> None:
    meter = Meter(0.0)
    for second in range(60):
        meter.add(100, second)
    assert meter.rate(60.0) == pytest.approx(100, rel=0.15)
    assert meter.rate(200.0) < 0.01
