"""`./yard` on machines that lack something: it says what, and how to get it, in one line."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("sh", "dirname", "cksum", "cat", "rm", "printf")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout as `git clone` leaves it, and a PATH with little on it."""
    place = tmp_path / "a checkout"
    (place / "locks").mkdir(parents=True)
    shutil.copy(ROOT / "yard", place)
    shutil.copy(ROOT / "pyproject.toml", place)
    for lock in ("run.txt", "all.txt"):
        shutil.copy(ROOT / "locks" / lock, place / "locks")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found:
            (tmp_path / "bin" / tool).symlink_to(found)
    return place


def yard(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": str(checkout.parent / "bin"), "HOME": str(checkout.parent)}
    command = [str(checkout / "yard"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def fake_python(checkout: Path, script: str) -> None:
    path = checkout.parent / "bin" / "python3"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_python_it_names_the_version_and_the_package(checkout: Path) -> None:
    done = yard(checkout, "status")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "apt-get install python3" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_with_an_old_python_it_says_the_same(checkout: Path) -> None:
    fake_python(checkout, "exit 1")
    done = yard(checkout, "status")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr


def test_without_the_venv_module_it_names_the_package(checkout: Path) -> None:
    fake_python(checkout, 'case "$1" in -m) exit 1;; esac; exit 0')
    done = yard(checkout, "status")
    assert done.returncode == 1
    assert "install its venv module (Debian: apt-get install python3-venv)" in done.stderr.splitlines()[-1]


def test_it_installs_only_what_the_lock_files_name_with_hashes() -> None:
    for lock in ("run.txt", "all.txt"):
        text = (ROOT / "locks" / lock).read_text()
        pinned = [line for line in text.splitlines() if "==" in line and not line.lstrip().startswith(("#", "--"))]
        assert len(pinned) > 15
        assert all(line.rstrip().endswith("\\") for line in pinned), "every requirement is followed by its hashes"
        assert "://" not in text


def test_the_script_is_portable_shell() -> None:
    shell = shutil.which("dash") or shutil.which("sh")
    assert shell is not None
    subprocess.run([shell, "-n", str(ROOT / "yard")], check=True)
    assert os.access(ROOT / "yard", os.X_OK)
