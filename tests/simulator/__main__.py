"""Run the simulator by hand: one seed, a range of seeds, or new seeds for hours.

python -m tests.simulator --seed 17 --events 4000      reproduce one run
python -m tests.simulator --seeds 0..999               a range, in this process
python -m tests.simulator --hours 8                    new seeds on all cores
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.simulator.long_run import Totals, run_everywhere, run_here, seeds_of
from tests.simulator.plan import Fault
from tests.simulator.run import DEFAULT_EVENTS, RunResult, run_seed
from tests.simulator.shrink import shrink

SECONDS_BETWEEN_REPORTS = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when every promise was kept, 1 when one was broken, 2 when a long run left cells unhit."""
    options = _parser().parse_args(argv)
    if options.seed is not None:
        return _one(options)
    started = time.monotonic()
    report = _reporter(started, options.json)
    if options.seeds is not None:
        totals = run_here(seeds_of(options.seeds), options.events, report)
    else:
        first = options.first_seed if options.first_seed is not None else secrets.randbits(40) * 100
        print(f"first seed {first}, {options.processes} processes, commit {_commit()}", file=sys.stderr)
        totals = run_everywhere(first, options.events, options.hours * 3600, options.processes, report)
    _print_totals(totals, time.monotonic() - started, options.json, coverage=options.hours is not None)
    if totals.failure is not None:
        return _failed(totals.failure, options.shrink, options.json)
    if options.hours is not None and totals.unhit_cells:
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="run this one seed")
    what.add_argument("--seeds", metavar="A..B", help="run these seeds in this process")
    what.add_argument("--hours", type=float, help="run new seeds on all cores for so long")
    parser.add_argument("--events", type=int, default=DEFAULT_EVENTS, help="events before healing (%(default)s)")
    parser.add_argument("--first-seed", type=int, help="where --hours begins, instead of anywhere")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--without", action="append", default=[], choices=[f.name.lower() for f in Fault])
    parser.add_argument("--shrink", action=argparse.BooleanOptionalAction, default=True, help="make a failure smaller")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def _one(options: argparse.Namespace) -> int:
    result = run_seed(options.seed, options.events, [Fault[name.upper()] for name in options.without])
    if options.json:
        print(json.dumps(_as_json(result)))
        return int(bool(result.violation))
    print(f"seed {result.seed}, commit {_commit()}, trace {result.digest & (2**64 - 1):016x}")
    print(f"{result.total_events} events, {result.acknowledged} writes acknowledged, progress after healing in "
          f"{result.progress_ticks} ticks{'' if result.counts else '; nothing was at risk'}")  # fmt: skip
    print("faults: " + (", ".join(f"{fault.name.lower()} {n}" for fault, n in sorted(result.faults.items())) or "none"))
    if result.violation:
        _print_failure(result)
    return int(bool(result.violation))


def _failed(failure: RunResult, make_smaller: bool, as_json: bool) -> int:
    if not as_json:
        _print_failure(failure)
    smaller = shrink(failure) if make_smaller else failure
    if as_json:
        print(json.dumps(_as_json(smaller)))
    elif smaller is not failure:
        print("\nsmaller:")
        _print_failure(smaller)
    return 1


def _print_failure(result: RunResult) -> None:
    print(f"\nVIOLATION at event {result.failed_at_event}: {result.violation}\n")
    print(f"the trace's tail (time in ticks):\n{result.tail}\n")
    print(f"reproduce at commit {_commit()}:\n  {result.command}", flush=True)


def _print_totals(totals: Totals, seconds: float, as_json: bool, coverage: bool) -> None:
    if as_json:
        print(json.dumps({
            "seeds": totals.seeds, "idle_seeds": totals.idle_seeds, "events": totals.events,
            "seconds": round(seconds, 1), "acknowledged": totals.acknowledged,
            "slowest_progress_ticks": totals.slowest_progress_ticks,
            "faults": {fault.name.lower(): n for fault, n in sorted(totals.faults.items())},
            "facts": dict(sorted(totals.facts.items())),
            "unhit_cells": [_cell_name(cell) for cell in totals.unhit_cells],
        }))  # fmt: skip
        return
    print(f"{_progress(totals, seconds)}, slowest progress after healing {totals.slowest_progress_ticks} ticks")
    print("faults: " + ", ".join(f"{fault.name.lower()} {n}" for fault, n in sorted(totals.faults.items())))
    print(
        "facts: " + ", ".join(f"{fact} {n}" for fact, n in sorted(totals.facts.items()) if not fact.startswith("fault"))
    )
    if coverage or totals.seeds > 500:
        unhit = totals.unhit_cells
        print(f"cells (fault × role × phase): {len(totals.cells)} hit, {len(unhit)} unhit")
        for cell in unhit:
            print(f"  unhit: {_cell_name(cell)}")


def _cell_name(cell: tuple[Fault, str, str]) -> str:
    return f"{cell[0].name.lower()} × {cell[1]} × {cell[2]}"


def _progress(totals: Totals, seconds: float) -> str:
    rate = totals.events / max(seconds, 0.001)
    return (f"{totals.seeds} seeds ({totals.idle_seeds} idle), {totals.events} events in {seconds:.0f} s "
            f"({rate / 1000:.1f} k/s), {sum(totals.faults.values())} faults, {totals.acknowledged} writes")  # fmt: skip


def _reporter(started: float, quiet: bool) -> Callable[[Totals], None]:
    due = started + SECONDS_BETWEEN_REPORTS

    def report(totals: Totals) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due and not quiet:
            due = now + SECONDS_BETWEEN_REPORTS
            print(_progress(totals, now - started), file=sys.stderr, flush=True)

    return report


def _as_json(result: RunResult) -> dict[str, object]:
    return {
        "seed": result.seed, "events": result.events, "commit": _commit(), "command": result.command,
        "total_events": result.total_events, "trace": f"{result.digest & (2**64 - 1):016x}",
        "violation": result.violation, "failed_at_event": result.failed_at_event, "tail": result.tail.splitlines(),
        "faults": {fault.name.lower(): n for fault, n in sorted(result.faults.items())},
        "acknowledged": result.acknowledged, "counts": result.counts,
    }  # fmt: skip


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
