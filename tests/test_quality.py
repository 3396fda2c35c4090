"""Style, types and import arrows: the parts of the house style that a machine can check."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"


def test_ruff_finds_nothing_to_mend() -> None:
    run(str(TOOLS / "ruff"), "check", ".")


def test_every_file_is_formatted() -> None:
    run(str(TOOLS / "ruff"), "format", "--check", ".")


@pytest.mark.timeout(600)
def test_the_types_hold_strictly() -> None:
    run(sys.executable, "-m", "mypy")


def test_folders_meet_on_the_wire_and_cores_know_no_io() -> None:
    run(str(TOOLS / "lint-imports"), "--no-cache")


def test_no_package_file_shadows_the_namespace() -> None:
    assert not list(ROOT.glob("*/blockyard/__init__.py"))


@pytest.mark.parametrize("folder", ["proto", "metaserver", "storagenode", "client", "compute"])
def test_every_source_root_is_typed(folder: str) -> None:
    assert (ROOT / folder / "blockyard" / folder / "py.typed").exists()
