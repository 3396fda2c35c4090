"""Paths are followed as Linux follows them: random trees of directories and symlinks, compared with the kernel."""

import ctypes
import os
import struct
from pathlib import Path

import pytest
from blockyard.client.metadata.path import SYMLINKS_MAX, PathFollower
from blockyard.proto import errors
from blockyard.proto.metadata_pb2 import FILE_TYPE_DIRECTORY, FILE_TYPE_REGULAR, FILE_TYPE_SYMLINK, Attributes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c", "d"])
PARTS = st.one_of(NAMES, NAMES, st.sampled_from([".", "..", ""]))
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join).filter(bool)
PLACES = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("dir"), PLACES, st.just("")),
        st.tuples(st.just("file"), PLACES, st.just("")),
        st.tuples(st.just("link"), PLACES, st.one_of(PATHS, PATHS.map("/{}".format))),
    ),
    max_size=12,
)
TYPES = {0o040000: FILE_TYPE_DIRECTORY, 0o100000: FILE_TYPE_REGULAR, 0o120000: FILE_TYPE_SYMLINK}

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_OPENAT2 = 437
_RESOLVE_IN_ROOT = 0x10


def kernel(root: Path, path: str, follow_last: bool) -> int:
    """Return the inode a path leads to when `root` is the root, as the kernel finds it."""
    how = struct.pack("QQQ", os.O_PATH | (0 if follow_last else os.O_NOFOLLOW), 0, _RESOLVE_IN_ROOT)
    directory = os.open(root, os.O_PATH)
    try:
        found = _syscall(_OPENAT2, directory, path.encode(), how, len(how))
        if found < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            return os.fstat(found).st_ino
        finally:
            os.close(found)
    finally:
        os.close(directory)


def follow(root: Path, path: str, follow_last: bool) -> int:
    """Return the same as the core finds it; single names are looked up below `root`."""
    top = os.lstat(root).st_ino
    places = {1: root}
    follower = PathFollower(path.encode(), follow_last=follow_last)
    while not follower.done:
        here, name = places[follower.here], os.fsdecode(follower.names[0])
        found = (here if here == root else here.parent) if name == ".." else here / name
        status = os.lstat(found)
        number = 1 if status.st_ino == top else status.st_ino
        places[number] = found
        target = os.fsencode(os.readlink(found)) if found.is_symlink() else b""
        follower.step(Attributes(inode=number, type=TYPES[status.st_mode & 0o170000]), target)
    reached = follower.found.inode if follower.found is not None else follower.here
    return top if reached == 1 else reached


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, PATHS, st.booleans())
def test_a_path_leads_where_the_kernel_says(
    tmp_path: Path, plan: list[tuple[str, str, str]], path: str, follow_last: bool
) -> None:
    root = tmp_path / str(len(list(tmp_path.iterdir())))
    root.mkdir()
    for kind, place, target in plan:
        parent = root
        for part in place.split("/")[:-1]:
            parent = parent / part
        if parent.is_symlink() or any(each.is_symlink() for each in parent.parents if root in each.parents):
            continue  # it may lead out of the tree
        try:
            if kind == "dir":
                (root / place).mkdir()
            elif kind == "file":
                (root / place).touch(exist_ok=False)
            else:
                (root / place).symlink_to(target)
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            continue
    outcomes: list[int] = []
    for resolve in (kernel, follow):
        try:
            outcomes.append(resolve(root, path, follow_last))
        except OSError as error:
            outcomes.append(-int(error.errno or 0))
    assert outcomes[0] == outcomes[1]


def test_limits_are_those_of_linux() -> None:
    for path, error in (
        (b"a" * 256, errors.NameTooLong),
        (b"a/" * 2048, errors.NameTooLong),
        (b"", errors.NotFound),
        (b"a\0b", errors.InvalidArgument),
    ):
        with pytest.raises(error):
            PathFollower(path, follow_last=True)


def test_forty_symlinks_are_followed_and_no_more() -> None:
    follower = PathFollower(b"loop", follow_last=True)
    link = Attributes(inode=9, type=FILE_TYPE_SYMLINK)
    for _ in range(SYMLINKS_MAX):
        follower.step(link, b"loop")
    with pytest.raises(errors.TooManySymlinks):
        follower.step(link, b"loop")
