"""What every bench returns, and how it is shown: a table for people, JSON for machines.

JSON: `{"bench", "machine", "date", "rows": [{"name", "value", "unit", "floor", "ratio", "target", "ok", "note"}]}`.
`floor` is what the same machine did in the same run without Blockyard, `ratio` is value to floor in the sense in which
more is better, `target` the ratio that is wanted; null where there is none. A row that could not be measured has a null
value and says why in `note`. A bench never fails for being slow.
"""

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure."""

    name: str
    value: float | None
    unit: str
    floor: float | None = None
    ratio: float | None = None
    target: float | None = None
    ok: bool | None = None
    note: str | None = None


def row(
    name: str,
    value: float,
    unit: str,
    floor: float | None = None,
    target: float | None = None,
    *,
    less_is_better: bool = False,
    note: str | None = None,
) -> Row:
    """Make a row and work out its ratio: value / floor, or floor / value for `less_is_better`."""
    ratio = None
    if floor and value:
        ratio = floor / value if less_is_better else value / floor
    ok = None if ratio is None or target is None else ratio >= target
    return Row(name, value, unit, floor, ratio, target, ok, note)


def missing(name: str, unit: str, why: str) -> Row:
    """Make a row for something that could not be measured."""
    return Row(name, None, unit, note=why)


def in_turn(rounds: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Run every measure once per round, one after the other, and return the median of each."""
    seen: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            seen[name].append(measure())
    return {name: statistics.median(values) for name, values in seen.items()}


def machine() -> str:
    """Return what this machine is, in a line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} × {model}, {memory_gib:.0f} GiB, {system}"


def show(bench: str, rows: Sequence[Row], as_json: bool) -> None:
    """Print the result of a bench."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if as_json:
        print(json.dumps({"bench": bench, "machine": machine(), "date": date, "rows": [asdict(each) for each in rows]}))
        return
    table = Table(title=f"{bench} · {date}\n{machine()}", title_justify="left")
    for heading in ("what", "value", "unit", "floor", "ratio", "target", ""):
        table.add_column(heading, justify="left" if heading in ("what", "unit", "") else "right")
    for each in rows:
        mark = "" if each.ok is None else ("reached" if each.ok else "short")
        table.add_row(
            each.name,
            _figure(each.value),
            each.unit,
            _figure(each.floor),
            _figure(each.ratio),
            _figure(each.target),
            " ".join(part for part in (mark, each.note) if part),
        )
    Console().print(table)


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
