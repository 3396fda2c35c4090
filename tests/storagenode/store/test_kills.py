"""The store's process killed at every failpoint, twice: what it acknowledged is there, and nothing it dropped."""

import random
from pathlib import Path

import pytest
from blockyard.proto import failpoints
from blockyard.storagenode.store import BlockStore

from tests.storagenode.store.processes import run_worker
from tests.storagenode.store.worker import SETTINGS, verify

STEPS = 90
FAILPOINTS = [name for name in failpoints.TABLE if name.startswith("store.")]
OPENING = ("store.rebuild.begun", "store.rebuild.replayed")


@pytest.mark.parametrize("name", [name for name in FAILPOINTS if name not in OPENING])
def test_killed_twice_at_a_failpoint_the_store_keeps_every_promise(tmp_path: Path, name: str) -> None:
    data, acks = tmp_path / "data", tmp_path / "acks"
    for seed, hit in ((1, 3), (2, 1)):
        killed = run_worker(data, acks, STEPS, fail=f"{name}=kill@{hit}", seed=seed)
        assert killed.returncode == -9, f"{name} was not reached: {killed.stderr}"
        promises = verify(data, acks, power_cut=False)
        assert promises.tried, "nothing was at risk"
    done = run_worker(data, acks, STEPS, seed=3)
    assert done.returncode == 0, done.stderr
    verify(data, acks, power_cut=False)


@pytest.mark.parametrize("name", OPENING)
def test_killed_while_the_index_is_made_anew_it_is_made_at_the_next_start(tmp_path: Path, name: str) -> None:
    data, acks = tmp_path / "data", tmp_path / "acks"
    assert run_worker(data, acks, STEPS).returncode == 0
    (data / "index.broken").touch()
    killed = run_worker(data, acks, STEPS, fail=f"{name}=kill")
    assert killed.returncode == -9, f"{name} was not reached: {killed.stderr}"
    verify(data, acks, power_cut=False)
    assert not (data / "index.broken").exists()


def test_killed_at_random_moments_and_rebuilt_the_store_keeps_every_promise(tmp_path: Path) -> None:
    data, acks = tmp_path / "data", tmp_path / "acks"
    chance = random.Random(4)
    for seed in range(6):
        name = chance.choice([name for name in FAILPOINTS if name.startswith(("store.append", "store.drop"))])
        killed = run_worker(data, acks, 400, fail=f"{name}=kill@{chance.randint(5, 50)}", seed=seed)
        assert killed.returncode == -9, killed.stderr
        report = BlockStore.rebuild_index(data)
        assert (report.damage, report.lost, report.strays) == ([], [], [])
        verify(data, acks, power_cut=False)


def test_the_worker_does_all_that_can_be_interrupted(tmp_path: Path) -> None:
    """The kills above prove nothing about a rewrite that never copies, or a seal that never hardens."""
    data, acks = tmp_path / "data", tmp_path / "acks"
    assert run_worker(data, acks, STEPS).returncode == 0
    names = [path.name for path in (data / "packs").iterdir()]
    assert any("-000000.pack" not in name for name in names), names
    promises = verify(data, acks, power_cut=False)
    assert promises.durable
    assert promises.soft
    assert promises.dropped
    store = BlockStore(data, SETTINGS)
    store.open()
    assert any(not store.find(block).in_pack for block, _ in store.list(7, 0, 10_000))
    store.close()
