"""How commands speak: text for people, JSON for machines, one line for errors."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console()


def show_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON value on one line."""
    json.dump(value, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings, with no lines between: it can be cut and pasted."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def size(count: float) -> str:
    """Return bytes for people: three digits and a unit of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} PiB"


def duration(seconds: float) -> str:
    """Return a time for people, its two largest units."""
    whole = round(seconds)
    for unit, length, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit} {rest} {smaller}" if rest else f"{whole // length} {unit}"
    return f"{whole} s"


def say_error(message: str) -> None:
    """Print one line on standard error."""
    sys.stderr.write(f"blockyard: {message}\n")
