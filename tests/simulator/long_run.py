"""Many seeds: one after the other or on all cores, counted, stopped at the first that fails."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.simulator.faults import LONG_RUN_CELLS, Cell
from tests.simulator.plan import Fault
from tests.simulator.run import RunResult, run_seed

SEEDS_BETWEEN_REPEATS = 100


def checked_seed(seed: int, events: int) -> RunResult:
    """Run a seed; run every hundredth twice and demand the same trace."""
    result = run_seed(seed, events)
    if seed % SEEDS_BETWEEN_REPEATS == 0 and not result.violation:
        again = run_seed(seed, events)
        if (again.digest, again.total_events) != (result.digest, result.total_events):
            result.violation = f"not deterministic: trace {result.digest:x}, then {again.digest:x}"
    gc.collect(1)
    return result


@dataclass(slots=True)
class Totals:
    """What a long run has seen so far."""

    seeds: int = 0
    idle_seeds: int = 0  # nothing was at risk in them: they do not count
    events: int = 0
    acknowledged: int = 0
    slowest_progress_ticks: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    cells: Counter[Cell] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    failure: RunResult | None = None

    def add(self, result: RunResult) -> None:
        self.seeds += 1
        self.idle_seeds += not result.counts
        self.events += result.total_events
        self.acknowledged += result.acknowledged
        self.slowest_progress_ticks = max(self.slowest_progress_ticks, result.progress_ticks)
        self.faults.update(result.faults)
        self.cells.update(result.cells)
        self.facts.update(result.facts)
        if result.violation and self.failure is None:
            self.failure = result

    @property
    def unhit_cells(self) -> list[Cell]:
        return sorted(LONG_RUN_CELLS - self.cells.keys())


def run_here(seeds: Iterable[int], events: int, report: Callable[[Totals], None]) -> Totals:
    """Run the seeds in this process until one fails."""
    totals = Totals()
    with _collector_off():
        for seed in seeds:
            totals.add(checked_seed(seed, events))
            report(totals)
            if totals.failure:
                break
    return totals


def run_everywhere(
    first_seed: int, events: int, seconds: float, processes: int, report: Callable[[Totals], None]
) -> Totals:
    """Run new seeds on `processes` cores for `seconds`, or until one fails."""
    totals = Totals()
    results: multiprocessing.Queue[RunResult] = multiprocessing.Queue(maxsize=64)
    stop = multiprocessing.Event()
    workers = [
        multiprocessing.Process(target=_work, args=(first_seed + n, processes, events, results, stop), daemon=True)
        for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end and totals.failure is None:
        try:
            totals.add(results.get(timeout=1))
        except queue.Empty:
            if not all(worker.is_alive() for worker in workers):
                raise RuntimeError("a worker of the long run died without a result") from None
        report(totals)
    stop.set()
    for worker in workers:
        worker.terminate()
        worker.join()
    return totals


def _work(first_seed: int, step: int, events: int, results: multiprocessing.Queue[RunResult], stop: object) -> None:
    assert hasattr(stop, "is_set")
    with _collector_off():
        for seed in itertools.count(first_seed, step):
            if stop.is_set():
                return
            results.put(checked_seed(seed, events))


class _collector_off:
    """Runs leave cycles behind; they are collected between runs instead of during them."""

    def __enter__(self) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.enable()
        gc.unfreeze()


def seeds_of(text: str) -> Iterator[int]:
    """Parse `A..B`, both included."""
    first, _, last = text.partition("..")
    return iter(range(int(first), int(last) + 1))
