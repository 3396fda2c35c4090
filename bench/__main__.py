"""`./yard bench NAME [--quick] [--json]`: every bench of this folder, in one form."""

import argparse
import importlib
from pathlib import Path

from bench.report import show

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("bench_*.py"))


def main() -> None:
    """Run the bench that the command line names."""
    parser = argparse.ArgumentParser(prog="yard bench", description="Measure Blockyard beside a floor, in one run.")
    parser.add_argument("name", choices=[name.removeprefix("bench_") for name in NAMES])
    parser.add_argument("--quick", action="store_true", help="end within 45 seconds, with wider errors")
    parser.add_argument("--json", action="store_true", help="print one JSON object for machines")
    arguments = parser.parse_args()
    module = importlib.import_module(f"bench.bench_{arguments.name}")
    show(arguments.name, module.run(quick=arguments.quick), arguments.json)


if __name__ == "__main__":
    main()
