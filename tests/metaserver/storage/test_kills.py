"""A process killed at every failpoint, twice, and at random: what it acknowledged is there, and all of it agrees."""

import random
import re
import subprocess
from pathlib import Path

import pytest
from blockyard.proto import failpoints

from tests.metaserver.storage.processes import ROOT, make_backup, make_directory, run_worker
from tests.metaserver.storage.worker import verify

STEPS = 60
FAILPOINTS = [
    name for name in failpoints.TABLE if name.startswith(("log.", "state.", "checkpoint.", "snapshot.", "id"))
]

ONCE = ("snapshot.logged", "snapshot.switched")
"""After its log record a snapshot is installed, so the second run has nothing to do here."""


@pytest.mark.parametrize("name", FAILPOINTS)
def test_killed_twice_at_a_failpoint_the_disk_holds_every_promise(tmp_path: Path, name: str) -> None:
    data, acks, backup_file = make_directory(tmp_path / "data"), tmp_path / "acks", make_backup(tmp_path / "peer")
    hits = (1, 1) if name.startswith(("identity", "snapshot")) else (2, 1)
    for run, hit in enumerate(hits):
        killed = run_worker(data, acks, STEPS, backup_file, f"{name}=kill@{hit}")
        assert killed.returncode == (0 if run and name in ONCE else -9), f"{name} was not reached: {killed.stderr}"
        verify(data, acks).close()
    done = run_worker(data, acks, STEPS, backup_file)
    assert done.returncode == 0, done.stderr
    verify(data, acks).close()


@pytest.mark.parametrize("name", [name for name in FAILPOINTS if name.startswith(("log.append", "state."))])
def test_an_error_at_a_failpoint_ends_the_process_and_takes_nothing_acknowledged(tmp_path: Path, name: str) -> None:
    data, acks = make_directory(tmp_path / "data"), tmp_path / "acks"
    failed = run_worker(data, acks, STEPS, fail=f"{name}=error@3")
    assert failed.returncode == 3, failed.stderr
    assert "must end" in failed.stderr
    verify(data, acks).close()


def test_killed_at_random_moments_the_disk_holds_every_promise(tmp_path: Path) -> None:
    data, acks = make_directory(tmp_path / "data"), tmp_path / "acks"
    chance = random.Random(20)
    points = ["log.append.written", "log.append.synced", "state.apply.before", "state.apply.written"]
    for _ in range(6):
        killed = run_worker(data, acks, 1000, fail=f"{chance.choice(points)}=kill@{chance.randint(5, 120)}")
        assert killed.returncode == -9, killed.stderr
        verify(data, acks).close()


def test_every_failpoint_of_the_table_is_in_the_code_and_the_other_way_round() -> None:
    sources = [path.read_text() for path in ROOT.glob("*/blockyard/**/*.py") if path.name != "failpoints.py"]
    used = {name for source in sources for name in re.findall(r'failpoints\.hit\("([^"]+)"\)', source)}
    assert used | {"identity.written", "identity.renamed"} == set(failpoints.TABLE)


def test_a_failpoint_that_does_not_exist_is_refused_when_the_process_starts(tmp_path: Path) -> None:
    refused: subprocess.CompletedProcess[str] = run_worker(tmp_path, tmp_path / "acks", 1, fail="log.apend.before=kill")
    assert "UnknownFailpoint" in refused.stderr


@pytest.mark.parametrize(
    "text", ["log.append.before", "log.append.before=die", "log.append.before=sleep:x", "a=kill@b"]
)
def test_what_is_not_an_action_is_refused(text: str) -> None:
    with pytest.raises(failpoints.UnknownFailpoint):
        failpoints.parse(text)
