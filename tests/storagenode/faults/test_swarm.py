"""A few short runs of the swarm (`swarm.py` runs for hours)."""

from pathlib import Path

import pytest

from tests.storagenode.faults.swarm import run

SEEDS = (1, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_of_the_swarm(seed: int, tmp_path: Path) -> None:
    print(run(seed, tmp_path, rounds=3))
