"""A data directory is one node's, one process's, and never an old copy of itself."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from blockyard.proto.disk import sealed_file
from blockyard.proto.disk.failures import DirectoryRefused
from blockyard.storagenode.node.directory import BLOCKS, FORMAT, IDENTITY, NodeDirectory

C1, C2 = "c" + "1" * 32, "c" + "2" * 32


@pytest.fixture
def draw() -> Callable[[], int]:
    numbers = itertools.count(101)
    return lambda: next(numbers)


def empty(directory: Path) -> None:
    for each in directory.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path, draw: Callable[[], int]) -> None:
    with pytest.raises(DirectoryRefused, match="Mount its disk"):
        NodeDirectory(tmp_path / "disk", C1, draw)
    assert not (tmp_path / "disk").exists()


def test_an_empty_directory_becomes_a_node_and_keeps_its_incarnation(tmp_path: Path, draw: Callable[[], int]) -> None:
    for starts in (1, 2, 3):
        directory = NodeDirectory(tmp_path, C1, draw)
        assert directory.identity.incarnation == 101
        assert directory.identity.starts == starts, "each start is counted before the cluster hears of it"
        assert directory.blocks.is_dir()
        directory.close()


def test_what_the_cluster_said_is_known_at_the_next_start(tmp_path: Path, draw: Callable[[], int]) -> None:
    directory = NodeDirectory(tmp_path, "", draw)
    directory.registered(C1, 7)
    directory.close()
    again = NodeDirectory(tmp_path, C1, draw)
    assert (again.identity.cluster, again.identity.node) == (C1, 7)


def test_an_emptied_directory_is_another_incarnation(tmp_path: Path, draw: Callable[[], int]) -> None:
    directory = NodeDirectory(tmp_path, C1, draw)
    directory.registered(C1, 7)
    directory.close()
    empty(tmp_path)
    again = NodeDirectory(tmp_path, C1, draw)
    assert (again.identity.incarnation, again.identity.node, again.identity.starts) == (102, 0, 1)


def test_a_directory_of_another_cluster_is_refused(tmp_path: Path, draw: Callable[[], int]) -> None:
    directory = NodeDirectory(tmp_path, C1, draw)
    directory.registered(C1, 7)
    directory.close()
    with pytest.raises(DirectoryRefused, match="belongs to cluster c1111"):
        NodeDirectory(tmp_path, C2, draw)
    NodeDirectory(tmp_path, C1, draw)


def test_a_directory_in_use_is_refused(tmp_path: Path, draw: Callable[[], int]) -> None:
    NodeDirectory(tmp_path, C1, draw)
    with pytest.raises(DirectoryRefused, match="in use by process"):
        NodeDirectory(tmp_path, C1, draw)


def test_a_refused_directory_is_let_go(tmp_path: Path, draw: Callable[[], int]) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(DirectoryRefused, match=r"holiday\.jpg"):
        NodeDirectory(tmp_path, C1, draw)
    (tmp_path / "holiday.jpg").unlink()
    NodeDirectory(tmp_path, C1, draw)


def test_blocks_without_an_identity_are_not_taken_over(tmp_path: Path, draw: Callable[[], int]) -> None:
    directory = NodeDirectory(tmp_path, C1, draw)
    (directory.blocks / "block").write_bytes(b"x")
    directory.close()
    (tmp_path / IDENTITY).unlink()
    with pytest.raises(DirectoryRefused, match="holds blocks"):
        NodeDirectory(tmp_path, C1, draw)


def test_an_identity_without_its_blocks_is_refused(tmp_path: Path, draw: Callable[[], int]) -> None:
    NodeDirectory(tmp_path, C1, draw).close()
    (tmp_path / BLOCKS).rmdir()
    with pytest.raises(DirectoryRefused, match="lost its directory"):
        NodeDirectory(tmp_path, C1, draw)


@pytest.mark.parametrize("position", [0, 5, 9, -1])
def test_a_flipped_bit_in_the_identity_is_found(tmp_path: Path, position: int, draw: Callable[[], int]) -> None:
    NodeDirectory(tmp_path, C1, draw).close()
    content = bytearray((tmp_path / IDENTITY).read_bytes())
    content[position] ^= 4
    (tmp_path / IDENTITY).write_bytes(content)
    with pytest.raises(DirectoryRefused, match="cannot be trusted"):
        NodeDirectory(tmp_path, C1, draw)


def test_a_newer_format_is_refused(tmp_path: Path, draw: Callable[[], int]) -> None:
    directory = NodeDirectory(tmp_path, C1, draw)
    directory.identity.format = FORMAT + 1
    sealed_file.write(tmp_path / IDENTITY, directory.identity.SerializeToString())
    directory.close()
    with pytest.raises(DirectoryRefused, match="newer version"):
        NodeDirectory(tmp_path, C1, draw)


def test_a_fresh_file_systems_lost_and_found_is_no_content(tmp_path: Path, draw: Callable[[], int]) -> None:
    (tmp_path / "lost+found").mkdir()
    assert NodeDirectory(tmp_path, C1, draw).identity.starts == 1
