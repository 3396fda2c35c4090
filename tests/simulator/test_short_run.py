"""The simulation that runs with the other tests: a fixed number of short seeds, and the same trace twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulator.__main__ import main
from tests.simulator.plan import Fault
from tests.simulator.run import RunResult, run_seed

SEEDS = 2_500
SEEDS_PER_TEST = 100  # so that workers share them, and a failure names a few
EVENTS = 1_500


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_every_promise_is_kept(first: int) -> None:
    at_risk = 0
    for seed in range(first, first + SEEDS_PER_TEST):
        result = run_seed(seed, EVENTS)
        assert not result.violation, f"{result.violation}\n{result.tail}\nreproduce: {result.command}"
        at_risk += result.counts
    assert at_risk >= SEEDS_PER_TEST * 7 // 10, f"only {at_risk} of {SEEDS_PER_TEST} runs put anything at risk"


def test_every_kind_of_fault_takes_place() -> None:
    faults: Counter[Fault] = Counter()
    for seed in range(10_000, 10_400):
        faults.update(run_seed(seed, EVENTS).faults)
        if len(faults) == len(Fault):
            return
    raise AssertionError(f"never seen: {[fault.name for fault in Fault if fault not in faults]}")


def test_a_run_without_faults_does_not_count() -> None:
    result = run_seed(1, EVENTS, without=tuple(Fault))
    assert not result.violation
    assert not result.counts


@pytest.mark.parametrize("seed", [3, 100, 4711])
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    assert _fingerprint(run_seed(seed, EVENTS)) == _fingerprint(run_seed(seed, EVENTS))


def test_other_seeds_give_other_traces() -> None:
    assert len({run_seed(seed, EVENTS).digest for seed in range(20)}) == 20


def test_the_trace_does_not_depend_on_the_process() -> None:
    """Members run with different PYTHONHASHSEEDs in production; no order of a set or hash of a text may show."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.simulator", "--seed", "8", "--events", str(EVENTS), "--json"]
    outputs = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_the_command_reproduces_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "8", "--events", str(EVENTS)]) == 0
    digest = run_seed(8, EVENTS).digest & (2**64 - 1)
    assert f"{digest:016x}" in capsys.readouterr().out


def test_the_command_runs_a_range_of_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "5..9", "--events", "500"]) == 0
    assert "5 seeds" in capsys.readouterr().out


def test_the_command_runs_on_all_cores(capsys: pytest.CaptureFixture[str]) -> None:
    """A run of seconds leaves cells unhit, and says so by its exit status."""
    assert main(["--hours", "0.0005", "--events", "500", "--processes", "2", "--first-seed", "0"]) == 2
    assert "unhit" in capsys.readouterr().out


def _fingerprint(result: RunResult) -> tuple[int, int, int]:
    return result.digest, result.total_events, result.acknowledged
