"""The namespace through the Python API: random operations of several clients, with a local directory as the model."""

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blockyard.client import Filesystem, connect
from blockyard.proto import errors
from blockyard.proto.common_pb2 import Caller

from tests.client.conftest import Connect
from tests.support.storage_cluster import StorageCluster

NAMES = ["a", "b", "c", "d/a", "d/b", "d", "d/e", "d/e/f", "link"]


def test_random_operations_of_two_clients_do_what_a_local_directory_does(
    cluster: StorageCluster, clients: Connect, local: Path, place: str
) -> None:
    chance = random.Random(11)
    both = [clients(cluster, attribute_cache_ms=0), clients(cluster, attribute_cache_ms=0)]
    for turn in range(250):
        kind = chance.choice(sorted(OPERATIONS))
        one, two = chance.choice(NAMES), chance.choice(NAMES)
        data = b"%d" % turn * chance.randrange(1, 50)
        fs = chance.choice(both)
        ours = _outcome(OPERATIONS[kind], fs, place, one, two, data)
        theirs = _outcome(OPERATIONS[kind], Local(), str(local), one, two, data)
        assert ours == theirs, f"turn {turn}: {kind} {one} {two}"
    assert _tree(both[0], place) == _tree(both[1], place) == _tree(Local(), str(local))


class Local:
    """The same operations on the local file system."""

    open = staticmethod(open)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name, None) or getattr(os.path, name)

    def read_bytes(self, path: str) -> bytes:
        return Path(path).read_bytes()


def _write(fs: Any, root: str, one: str, two: str, data: bytes) -> Any:
    with fs.open(f"{root}/{one}", "wb") as file:
        return file.write(data)


def _append(fs: Any, root: str, one: str, two: str, data: bytes) -> Any:
    with fs.open(f"{root}/{one}", "ab") as file:
        return file.write(data)


def _stat(fs: Any, root: str, one: str, two: str, data: bytes) -> Any:
    status = fs.lstat(f"{root}/{one}")
    return stat.S_IFMT(status.st_mode), None if stat.S_ISDIR(status.st_mode) else status.st_size


OPERATIONS: dict[str, Callable[..., Any]] = {
    "write": _write,
    "append": _append,
    "read": lambda fs, root, one, two, data: fs.read_bytes(f"{root}/{one}"),
    "mkdir": lambda fs, root, one, two, data: fs.mkdir(f"{root}/{one}"),
    "makedirs": lambda fs, root, one, two, data: fs.makedirs(f"{root}/{one}", exist_ok=True),
    "rmdir": lambda fs, root, one, two, data: fs.rmdir(f"{root}/{one}"),
    "unlink": lambda fs, root, one, two, data: fs.unlink(f"{root}/{one}"),
    "rename": lambda fs, root, one, two, data: fs.rename(f"{root}/{one}", f"{root}/{two}"),
    "link": lambda fs, root, one, two, data: fs.link(f"{root}/{one}", f"{root}/{two}", follow_symlinks=False),
    "symlink": lambda fs, root, one, two, data: fs.symlink(one, f"{root}/link"),
    "readlink": lambda fs, root, one, two, data: fs.readlink(f"{root}/{one}"),
    "list": lambda fs, root, one, two, data: sorted(fs.listdir(f"{root}/{one}")),
    "exists": lambda fs, root, one, two, data: [fs.exists(f"{root}/{one}"), fs.isdir(f"{root}/{one}")],
    "stat": _stat,
    "truncate": lambda fs, root, one, two, data: fs.truncate(f"{root}/{one}", len(data)),
}


def _outcome(operation: Callable[..., Any], fs: Any, root: str, one: str, two: str, data: bytes) -> Any:
    try:
        return operation(fs, root, one, two, data)
    except OSError as error:
        return error.errno


def _tree(fs: Any, root: str) -> list[Any]:
    found: list[Any] = []
    for top, directories, files in fs.walk(root):
        found.append((top.removeprefix(root), sorted(directories), sorted(files)))
        for name in files:
            path = f"{top}/{name}"
            if not fs.islink(path):
                found.append((path.removeprefix(root), fs.read_bytes(path), fs.stat(path).st_nlink))
    return sorted(found, key=str)


def test_attributes_are_kept(fs: Filesystem, place: str) -> None:
    path = f"{place}/file"
    fs.write_bytes(path, b"x")
    fs.chmod(path, 0o640)
    fs.chown(path, 12, 34)
    fs.utime(path, ns=(1_000_000_001, 2_000_000_002))
    status = fs.stat(path)
    assert (status.st_mode, status.st_uid, status.st_gid) == (stat.S_IFREG | 0o640, 12, 34)
    assert (status.st_atime_ns, status.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    fs.setxattr(path, "user.colour", b"red")
    assert fs.getxattr(path, "user.colour") == b"red"
    assert fs.listxattr(path) == ["user.colour"]
    fs.removexattr(path, "user.colour")
    with pytest.raises(OSError, match="attribute"):
        fs.getxattr(path, "user.colour")
    assert fs.statvfs().f_blocks > 0


def test_another_users_rights_are_checked(cluster: StorageCluster, fs: Filesystem, place: str) -> None:
    fs.write_bytes(f"{place}/secret", b"x")
    fs.chmod(f"{place}/secret", 0o600)
    with connect(cluster.meta.addresses, caller=Caller(uid=1000, gid=1000)) as stranger:
        for use in (
            lambda: stranger.read_bytes(f"{place}/secret"),
            lambda: stranger.write_bytes(f"{place}/secret", b""),
            lambda: stranger.unlink(f"{place}/secret"),
            lambda: list(stranger.get_many([f"{place}/secret"])),
        ):
            with pytest.raises(PermissionError) as raised:
                use()
            assert raised.value.filename == f"{place}/secret"


def test_thousands_of_small_files_are_put_and_got(fs: Filesystem, place: str) -> None:
    files = {f"{place}/{number}": b"%d" % number * (number % 300) for number in range(3000)}
    files[f"{place}/large"] = b"l" * (3 << 20)
    assert fs.put_many(files) == len(files)
    assert dict(fs.get_many(files)) == files
    assert len(fs.listdir(place)) == len(files)
    assert fs.read_bytes(f"{place}/299") == files[f"{place}/299"]
    with pytest.raises(FileExistsError) as raised:
        fs.put_many({f"{place}/7": b"other", f"{place}/new": b"new"}, replace=False)
    assert raised.value.filename == f"{place}/7"
    assert fs.read_bytes(f"{place}/new") == b"new"
    fs.put_many({f"{place}/7": b"other"}, durable=True)
    assert fs.read_bytes(f"{place}/7") == b"other"
    fs.rmtree(place)
    assert not fs.exists(place)


def test_a_copy_shares_blocks_and_is_a_file_of_its_own(fs: Filesystem, place: str) -> None:
    data = os.urandom(3 << 20)
    fs.write_bytes(f"{place}/one", data)
    assert fs.copy(f"{place}/one", f"{place}/two") == len(data)
    with fs.open(f"{place}/two", "r+b") as file:
        file.write(b"changed")
    assert fs.read_bytes(f"{place}/one") == data
    assert fs.read_bytes(f"{place}/two") == b"changed" + data[7:]
    assert fs.locate(f"{place}/one")[0].nodes


def test_patterns_match_as_the_glob_module_does(fs: Filesystem, place: str, local: Path) -> None:
    import glob

    for name in ("a.txt", "b.txt", ".hidden", "d/c.txt", "d/e/f.txt", "d/e/g.csv"):
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(b"")
        fs.makedirs(f"{place}/{os.path.dirname(name)}".rstrip("/"), exist_ok=True)
        fs.write_bytes(f"{place}/{name}", b"")
    for pattern in ("*", "*.txt", "?.txt", "[!a].txt", "d/*", "*/*.txt", "**/*.txt", "d/**/*.csv", "none*", "a.txt"):
        wanted = sorted(path.removeprefix(str(local)) for path in glob.glob(f"{local}/{pattern}", recursive=True))
        assert [path.removeprefix(place) for path in fs.glob(f"{place}/{pattern}")] == wanted, pattern


def test_a_rename_can_refuse_and_can_swap(fs: Filesystem, place: str) -> None:
    fs.write_bytes(f"{place}/a", b"a")
    fs.write_bytes(f"{place}/b", b"b")
    with pytest.raises(FileExistsError):
        fs.rename(f"{place}/a", f"{place}/b", replace=False)
    fs.rename(f"{place}/a", f"{place}/b", exchange=True)
    assert fs.read_bytes(f"{place}/a") == b"b"
    fs.replace(f"{place}/a", f"{place}/b")
    assert fs.listdir(place) == ["b"]


def test_a_forked_child_goes_on_with_a_session_of_its_own(fs: Filesystem, place: str) -> None:
    with fs.open(f"{place}/parent", "wb", buffering=0) as file:
        file.write(b"of the parent")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                fs.write_bytes(f"{place}/child", b"of the child")
                try:
                    file.write(b"not allowed")
                except OSError:
                    file.close()
                    fs.close()
                    status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        file.write(b", still")
    assert fs.read_bytes(f"{place}/parent") == b"of the parent, still"
    assert fs.read_bytes(f"{place}/child") == b"of the child"


def test_a_cluster_that_is_not_there_is_an_error_in_bounded_time() -> None:
    with connect("127.0.0.1:1", deadline_ms=1_000) as nowhere, pytest.raises(ConnectionError) as raised:
        nowhere.listdir("/")
    assert isinstance(raised.value, errors.Unavailable)
