"""Whose directory it is: every way to start on the wrong one is refused, in a sentence that says what to do."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from blockyard.metaserver.storage.directory import DataDirectory
from blockyard.metaserver.storage.failures import CorruptLog
from blockyard.metaserver.storage.identity import FORMAT, HOW_TO_MAKE_ONE, Identity
from blockyard.proto import ids
from blockyard.proto.disk.directory_lock import DirectoryLock
from blockyard.proto.disk.failures import DirectoryRefused

from tests.metaserver.storage.harness import CLUSTER, IDENTITY, START, copy, flip

IMPORTS = "from pathlib import Path; from blockyard.proto.disk.directory_lock import DirectoryLock"


def make(path: Path, with_state: bool = True) -> Path:
    DataDirectory.create(path, IDENTITY, START, with_state=with_state)
    return path


def start(path: Path, cluster: ids.ClusterId = CLUSTER, member: int = 1, with_state: bool = True) -> DataDirectory:
    return DataDirectory(
        path, cluster, ids.MemberId(member), with_state=with_state, log_cache_bytes=1000, state_cache_bytes=1 << 20
    )


def test_a_new_directory_starts_with_what_it_was_made_for_and_counts_its_starts(tmp_path: Path) -> None:
    make(tmp_path / "data")
    for count in (1, 2, 3):
        directory = start(tmp_path / "data")
        assert directory.durable_state() == START
        assert directory.identity == replace(IDENTITY, starts=count)
        directory.close()


def test_a_witness_has_a_log_and_no_state(tmp_path: Path) -> None:
    directory = start(make(tmp_path / "data", with_state=False), with_state=False)
    assert (directory.durable_state().applied, directory.checkpoints) == (0, None)
    directory.close()


def test_a_second_process_is_refused_and_told_which_one_is_first(tmp_path: Path) -> None:
    directory = start(make(tmp_path / "data"))
    code = f"{IMPORTS}; DirectoryLock(Path({str(tmp_path / 'data')!r}), '')"
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert second.returncode != 0
    assert "is in use by process" in second.stderr
    with pytest.raises(DirectoryRefused, match="is in use by process"):
        start(tmp_path / "data")
    directory.close()
    start(tmp_path / "data").close()


def test_the_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    make(tmp_path / "data")
    code = (
        f"import os, signal; {IMPORTS}; "
        f"lock = DirectoryLock(Path({str(tmp_path / 'data')!r}), ''); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    DirectoryLock(tmp_path / "data", HOW_TO_MAKE_ONE).release()


def test_a_copied_directory_shows_the_same_incarnation_and_a_count_that_the_other_passes(tmp_path: Path) -> None:
    directory = start(make(tmp_path / "data"))
    copied = copy(tmp_path / "data", tmp_path / "copy")
    directory.close()
    for _ in range(2):
        directory = start(tmp_path / "data")
        directory.close()
    old = start(copied)
    assert old.identity.incarnation == directory.identity.incarnation
    assert old.identity.starts < directory.identity.starts  # which is what the peers refuse
    old.close()


def test_another_clusters_or_members_directory_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "data")
    with pytest.raises(DirectoryRefused, match="belongs to cluster"):
        start(tmp_path / "data", cluster=ids.cluster_id(bytes(16)))
    with pytest.raises(DirectoryRefused, match="belongs to member m1, the settings say m2"):
        start(tmp_path / "data", member=2)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "data")
    replace(IDENTITY, format=FORMAT + 1).write(tmp_path / "data")
    with pytest.raises(DirectoryRefused, match="Start the newer version"):
        start(tmp_path / "data")


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    with pytest.raises(DirectoryRefused, match="There is no directory"):
        start(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DirectoryRefused, match="is empty"):
        start(tmp_path / "empty")
    for number, (piece, said) in enumerate(
        [("identity", "has no file `identity`"), ("log", "has lost its log"), ("state", "has lost its state")]
    ):
        data = make(tmp_path / str(number))
        (data / piece).rename(tmp_path / f"lost{number}")
        with pytest.raises(DirectoryRefused, match=said):
            start(data)
    data = make(tmp_path / "current")
    (data / "state" / "current").unlink()
    with pytest.raises(DirectoryRefused, match="lost its current state"):
        start(data)
    data = make(tmp_path / "watermark")
    (data / "log" / f"{1:020d}.log").unlink()
    with pytest.raises(CorruptLog, match="no segment"):
        start(data)


def test_a_directory_with_anything_in_it_is_not_made_into_one(tmp_path: Path) -> None:
    make(tmp_path / "data")
    with pytest.raises(DirectoryRefused, match="is not empty"):
        make(tmp_path / "data")


def test_every_flipped_bit_of_an_identity_is_found(tmp_path: Path) -> None:
    IDENTITY.write(tmp_path)
    path = tmp_path / "identity"
    content = path.read_bytes()
    for offset in range(len(content)):
        for bit in range(8):
            flip(path, offset, bit)
            with pytest.raises(DirectoryRefused, match="cannot be trusted"):
                Identity.read(tmp_path)
            path.write_bytes(content)
    assert Identity.read(tmp_path) == IDENTITY
