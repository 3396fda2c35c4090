"""Files of a real cluster do what Python's own do."""

import io
import os
import random
from pathlib import Path
from typing import Any

import pytest
from blockyard.client import Filesystem
from blockyard.proto import errors

from tests.client.conftest import Connect
from tests.support.storage_cluster import StorageCluster

MODES = ["rb", "r+b", "wb", "w+b", "xb", "ab", "a+b", "r", "w", "a+"]


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_means_what_it_means_to_python(fs: Filesystem, place: str, local: Path, mode: str) -> None:
    for name in ("old", "new"):
        outcomes: list[Any] = []
        for opener, path in ((open, local / name), (fs.open, f"{place}/{name}")):
            if name == "old":
                with opener(path, "wb") as file:
                    file.write(b"0123456789")
            outcomes.append(_use(opener, path, mode))
        assert outcomes[0] == outcomes[1]


def _use(opener: Any, path: Any, mode: str) -> Any:
    seen: list[Any] = []
    data: Any = b"abc" if "b" in mode else "abc"
    try:
        with opener(path, mode) as file:
            seen += [file.readable(), file.writable(), file.seekable(), file.tell(), file.mode]
            uses: list[Any] = [
                lambda: file.read(4),
                lambda: file.write(data),
                lambda: file.seek(0),
                lambda: file.read(),
            ]
            for use in uses:
                try:
                    seen.append(use())
                except io.UnsupportedOperation:
                    seen.append("refused")
            if file.writable():
                seen.append(file.truncate(5))
            seen.append(file.seek(0, os.SEEK_END))
    except OSError as error:
        return type(error).__mro__[-4:], error.errno, seen
    with opener(path, "rb") as file:
        return seen, file.read()


def test_text_comes_back_as_it_was_written(fs: Filesystem, place: str) -> None:
    with fs.open(f"{place}/text", "w", encoding="utf-8", newline="\r\n") as file:
        print("Größe", "π", sep="\n", file=file)
    assert fs.read_bytes(f"{place}/text") == "Größe\r\nπ\r\n".encode()
    with fs.open(f"{place}/text", encoding="utf-8") as file:
        assert list(file) == ["Größe\n", "π\n"]
        wrapped = io.TextIOWrapper(fs.open(f"{place}/text", "rb"), "utf-8")
        assert wrapped.readline() == "Größe\n"


def test_random_reads_and_writes_of_two_handles_match_a_bytearray(fs: Filesystem, place: str) -> None:
    chance = random.Random(7)
    model = bytearray()
    path = f"{place}/random"
    with fs.open(path, "w+b", buffering=0) as one, fs.open(path, "r+b", buffering=0) as two:
        for turn in range(400):
            file = chance.choice((one, two))
            where = chance.choice((chance.randrange(3 << 20), len(model)))
            action = chance.randrange(20)
            if action < 9:
                data = chance.randbytes(chance.choice((1, 100, 4096, 70_000, 1 << 20)))
                assert file.pwrite(data, where) == len(data)
                model.extend(bytes(max(0, where + len(data) - len(model))))
                model[where : where + len(data)] = data
            elif action < 17:
                size = chance.choice((1, 5000, 300_000))
                assert file.pread(size, where) == bytes(model[where : where + size]), f"turn {turn}"
            elif action < 18:
                file.fsync() if chance.random() < 0.5 else file.flush()
            elif action < 19:
                size = chance.randrange(len(model) + 100_000)
                file.truncate(size)
                model = model[:size] + bytes(max(0, size - len(model)))
            assert file.size == len(model), f"turn {turn}"
    assert fs.read_bytes(path) == model
    assert fs.stat(path).st_size == len(model)


def test_a_large_stream_is_many_blocks_and_comes_back(
    fs: Filesystem, cluster: StorageCluster, clients: Connect, place: str
) -> None:
    data = random.Random(1).randbytes(1 << 20) * 70
    small_blocks = clients(cluster, block_size_bytes=16 << 20)
    with small_blocks.open(f"{place}/large", "wb") as file:
        for start in range(0, len(data), 300_001):
            file.write(data[start : start + 300_001])
    assert fs.read_bytes(f"{place}/large") == data
    assert sum(each.length for each in fs.locate(f"{place}/large")) == len(data)
    with fs.open(f"{place}/large", "rb") as file:
        file.seek(33 << 20)
        assert file.read(1000) == data[33 << 20 : (33 << 20) + 1000]


def test_holes_are_zeros_and_take_no_space(fs: Filesystem, place: str) -> None:
    with fs.open(f"{place}/holes", "wb") as file:
        file.seek(200 << 20)
        file.write(b"end")
    status = fs.stat(f"{place}/holes")
    assert status.st_size == (200 << 20) + 3
    assert status.st_blocks * 512 < 1 << 20
    with fs.open(f"{place}/holes", "rb") as file:
        assert file.read(1 << 20) == bytes(1 << 20)
        file.seek(200 << 20)
        assert file.read() == b"end"
    assert len(fs.locate(f"{place}/holes")) == 1


def test_memory_stays_within_its_budget_whatever_is_written(
    cluster: StorageCluster, clients: Connect, place: str
) -> None:
    fs = clients(cluster, write_buffer_bytes=8 << 20)
    piece = random.Random(3).randbytes(1 << 20)
    files = [fs.open(f"{place}/{number}", "wb", buffering=0) for number in range(6)]
    for turn in range(8):
        for file in files:
            file.write(piece[turn:])
    for file in files:
        file.close()
    assert fs.engine.budget.used_bytes == 0
    assert 4 << 20 < fs.engine.budget.peak_bytes <= 8 << 20
    expected = b"".join(piece[turn:] for turn in range(8))
    for number in range(6):
        assert fs.read_bytes(f"{place}/{number}") == expected


def test_appends_of_two_clients_are_each_in_one_piece(cluster: StorageCluster, clients: Connect, place: str) -> None:
    one, two = clients(cluster), clients(cluster)
    with one.open(f"{place}/log", "ab", buffering=0) as first, two.open(f"{place}/log", "ab", buffering=0) as second:
        for turn in range(20):
            for letter, file in ((b"a", first), (b"b", second)):
                file.write(letter * (100 + turn))
                file.flush()
    content = one.read_bytes(f"{place}/log")
    expected = b"".join(letter * (100 + turn) for turn in range(20) for letter in (b"a", b"b"))
    assert content == expected


def test_what_one_client_closed_the_next_open_of_another_shows(
    cluster: StorageCluster, clients: Connect, place: str
) -> None:
    one, two = clients(cluster), clients(cluster)
    path = f"{place}/shared"
    for turn in range(20):
        one.write_bytes(path, b"%d" % turn * (turn + 1))
        assert two.read_bytes(path) == b"%d" % turn * (turn + 1)
        two.write_bytes(f"{path}.new", b"new %d" % turn)
        two.rename(f"{path}.new", path)
        assert one.read_bytes(path) == b"new %d" % turn


def test_a_flush_shows_and_before_it_nothing_does(cluster: StorageCluster, clients: Connect, place: str) -> None:
    one, two = clients(cluster), clients(cluster)
    with one.open(f"{place}/f", "wb") as file:
        file.write(b"unseen")
        assert two.read_bytes(f"{place}/f") == b""
        assert one.stat(f"{place}/f").st_size == 0  # it is in Python's own buffer
        file.flush()
        assert two.read_bytes(f"{place}/f") == b"unseen"
        file.raw.write(b"+more")
        assert one.stat(f"{place}/f").st_size == 11  # read-your-writes, flushed or not
        assert one.read_bytes(f"{place}/f") == b"unseen+more"
        file.fsync()
        assert two.read_bytes(f"{place}/f") == b"unseen+more"


def test_an_unlinked_file_lives_while_it_is_open(fs: Filesystem, place: str) -> None:
    with fs.open(f"{place}/gone", "w+b") as file:
        file.write(b"still here")
        file.flush()
        fs.unlink(f"{place}/gone")
        assert not fs.exists(f"{place}/gone")
        file.seek(0)
        assert file.read() == b"still here"


def test_locks_exclude_other_clients(cluster: StorageCluster, clients: Connect, place: str) -> None:
    one, two = clients(cluster), clients(cluster)
    with one.open(f"{place}/f", "w+b", 0) as mine, two.open(f"{place}/f", "r+b", 0) as theirs:
        mine.locks.flock()
        with pytest.raises(BlockingIOError):
            theirs.locks.flock(wait=False)
        with pytest.raises(TimeoutError):
            theirs.locks.flock(timeout_s=0.2)
        mine.locks.funlock()
        theirs.locks.flock()
        mine.locks.lock(10, 10)
        theirs.locks.lock(0, 10, wait=False)
        conflict = theirs.locks.holder(15, 1)
        assert conflict is not None
        assert (conflict.start, conflict.end) == (10, 19)
        mine.close()
        theirs.locks.lock(10, 10, wait=False)


def test_errors_are_those_python_raises(fs: Filesystem, place: str) -> None:
    fs.write_bytes(f"{place}/file", b"x")
    for use, error, filename in (
        (lambda: fs.open(f"{place}/none"), FileNotFoundError, f"{place}/none"),
        (lambda: fs.open(f"{place}/file/below"), NotADirectoryError, f"{place}/file/below"),
        (lambda: fs.open(place), IsADirectoryError, place),
        (lambda: fs.open(f"{place}/file", "x"), FileExistsError, f"{place}/file"),
        (lambda: fs.mkdir(place), FileExistsError, place),
        (lambda: fs.rmdir(place), OSError, place),
        (lambda: fs.unlink(place), OSError, place),
        (lambda: fs.listdir(f"{place}/file"), NotADirectoryError, f"{place}/file"),
        (lambda: fs.rename(f"{place}/none", f"{place}/x"), FileNotFoundError, f"{place}/none"),
        (lambda: fs.stat("/" + "n" * 256), errors.NameTooLong, "/" + "n" * 256),
    ):
        with pytest.raises(error) as raised:
            use()
        assert raised.value.filename == filename
        assert raised.value.errno
    with fs.open(f"{place}/file", "rb") as file, pytest.raises(io.UnsupportedOperation):
        file.write(b"x")
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_opening_for_writing_cuts_off_what_another_handle_had_not_flushed(fs: Filesystem, place: str) -> None:
    with fs.open(f"{place}/f", "wb", buffering=0) as first:
        first.write(b"before the truncation")
        with fs.open(f"{place}/f", "wb", buffering=0) as second:
            second.write(b"after")
        assert fs.read_bytes(f"{place}/f") == b"after"
    assert fs.read_bytes(f"{place}/f") == b"after"


def test_files_are_opened_and_made_through_symlinks(fs: Filesystem, place: str) -> None:
    fs.mkdir(f"{place}/d")
    fs.symlink("d/target", f"{place}/relative")
    fs.symlink(f"{place}/d", f"{place}/absolute")
    fs.write_bytes(f"{place}/relative", b"made through a link that led nowhere")
    assert fs.read_bytes(f"{place}/d/target") == b"made through a link that led nowhere"
    fs.write_bytes(f"{place}/absolute/target", b"again")
    assert fs.read_bytes(f"{place}/relative") == b"again"
    with pytest.raises(FileExistsError):
        fs.open(f"{place}/relative", "xb")
    fs.symlink("circle", f"{place}/circle")
    for mode in ("rb", "wb"):
        with pytest.raises(OSError, match="symbolic links") as raised:
            fs.open(f"{place}/circle", mode)
        assert raised.value.filename == f"{place}/circle"
