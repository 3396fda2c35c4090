"""Random runs of the core: the paper's safety properties (figure 3) hold, and a healed group serves again."""

from __future__ import annotations

import pytest

from tests.metaserver.raft.chaos import ChaosGroup

STEPS = 1500


@pytest.mark.parametrize("block", range(8))
def test_safety_holds_under_random_faults_and_service_returns_when_they_end_with_a_witness(block: int) -> None:
    at_risk = [_run(seed, (1, 2), 3) for seed in range(block * 12, block * 12 + 12)]
    assert any(crashes for crashes, _, _ in at_risk), "nothing crashed: the runs prove nothing"
    assert any(reordered for _, reordered, _ in at_risk), "nothing was reordered: the runs prove nothing"
    assert any(reads for _, _, reads in at_risk), "nothing was read: the runs prove nothing"


@pytest.mark.parametrize("block", range(2))
def test_safety_holds_under_random_faults_with_three_data_members(block: int) -> None:
    assert any(_run(seed, (1, 2, 3), None)[0] for seed in range(block * 12, block * 12 + 12))


@pytest.mark.parametrize("block", range(2))
def test_safety_holds_under_random_faults_with_three_data_members_and_a_witness(block: int) -> None:
    assert any(_run(seed, (1, 2, 4), 3)[0] for seed in range(block * 12, block * 12 + 12))


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = [_trace(seed) for seed in range(4)], [_trace(seed) for seed in range(4)]
    assert sum(map(len, first)) > 500
    assert first == second


def _run(seed: int, data: tuple[int, ...], witness: int | None) -> tuple[int, int, int]:
    group = ChaosGroup(seed, data, witness)
    try:
        for _ in range(STEPS):
            group.step()
        group.heal_and_finish()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, data {data}, witness {witness}: {error}") from error
    return group.crashes, group.reordered, group.served_reads


def _trace(seed: int) -> list[str]:
    lines: list[str] = []
    group = ChaosGroup(seed)
    group.trace = lines.append
    for _ in range(STEPS):
        group.step()
    return lines
