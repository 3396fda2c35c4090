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


def say_error(message: str) -> None:
    """Print one line on standard error."""
    sys.stderr.write(f"blockyard: {message}\n")
