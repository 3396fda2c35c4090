"""Makes a failing seed smaller: fewer events, fewer kinds of faults.

A run is one stream of chance, so taking a fault kind away changes what follows; whatever still fails is kept, whether
or not it is the same failure.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.simulator.plan import Fault
from tests.simulator.run import RunResult, run_seed

Runner = Callable[[int, int, tuple[Fault, ...]], RunResult]


def shrink(failing: RunResult, runner: Runner = run_seed, max_runs: int = 60) -> RunResult:
    """Return the smallest failing run that was found within `max_runs` runs."""
    best = _fewer_events(failing, runner)
    runs = 1
    for fault in sorted(failing.faults):
        if runs >= max_runs:
            break
        candidate = runner(best.seed, best.events, tuple(sorted({*best.without, fault})))
        runs += 1
        if candidate.violation:
            best = _fewer_events(candidate, runner)
            runs += 1
    while best.events > 1 and runs < max_runs:
        candidate = runner(best.seed, best.events * 9 // 10, best.without)
        runs += 1
        if not candidate.violation:
            break
        best = candidate
    return best


def _fewer_events(failing: RunResult, runner: Runner) -> RunResult:
    """A failure within the first phase happens at the same event however many were to follow."""
    if failing.failed_at_event >= failing.events:
        return failing
    candidate = runner(failing.seed, failing.failed_at_event, failing.without)
    return candidate if candidate.violation else failing
