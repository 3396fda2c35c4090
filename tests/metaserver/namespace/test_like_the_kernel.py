"""The same random calls, by the same users, on a directory of the kernel's file system and on the state machine.

After every call both must have given the same errno, and at the end the same tree: modes, owners, links, sizes,
targets and bytes. Needs root, to act as several users.
"""

import os
import random
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blockyard.proto.common_pb2 import Caller

from tests.metaserver.namespace.harness import World
from tests.metaserver.namespace.posix import EXCHANGE, NOREPLACE, Kernel, Machine

USERS = (
    Caller(uid=0, gid=0),
    Caller(uid=1000, gid=1000, groups=[1000, 3000]),
    Caller(uid=1001, gid=1001, groups=[3000]),
)
NAMES = ("a", "b", "c")
MODES = (
    0o777,
    0o755,
    0o700,
    0o1777,
    0o2777,
    0o3777,
    0o6755,
    0o2755,
    0o644,
    0o666,
    0o600,
    0o555,
    0o070,
    0o007,
    0o000,
    0o100,
)
XATTRS = (b"user.x", b"user.y", b"trusted.x", b"security.blockyard", b"user.", b"nothing.x")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acting as several users needs root")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """The working directory, so that no ancestor's rights count."""
    before, umask = Path.cwd(), os.umask(0)
    os.chdir(tmp_path)
    os.chmod(tmp_path, 0o777)
    yield tmp_path
    os.chdir(before)
    os.umask(umask)


class Calls:
    """Draws calls."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def path(self) -> str:
        depth = self.random.choice((1, 1, 1, 2, 2, 2, 2, 3))
        return "/".join(self.random.choice(NAMES) for _ in range(depth))

    def any_path(self) -> str:
        """A path that may end in or pass through dots."""
        path = self.path()
        if self.random.random() < 0.06:
            path += self.random.choice(("/.", "/..", "/../a", "/./b"))
        return path

    def draw(self) -> tuple[str, tuple[Any, ...]]:
        name = self.random.choice(WEIGHTED)
        drawn: tuple[str, tuple[Any, ...]] = (name, getattr(self, name)())
        return drawn

    def mode(self) -> int:
        return self.random.choice(MODES)

    def mkdir(self) -> tuple[Any, ...]:
        return self.any_path(), self.mode()

    def mknod(self) -> tuple[Any, ...]:
        kind = self.random.choice((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFCHR))
        return self.any_path(), kind, self.mode(), os.makedev(1, 3) if kind == stat.S_IFCHR else 0

    def symlink(self) -> tuple[Any, ...]:
        return self.random.choice((self.path(), "../a", "..", ".", "nowhere")), self.path()

    def link(self) -> tuple[Any, ...]:
        return self.path(), self.any_path()

    def unlink(self) -> tuple[Any, ...]:
        return (self.any_path(),)

    def rmdir(self) -> tuple[Any, ...]:
        return (self.any_path(),)

    def rename(self) -> tuple[Any, ...]:
        return (
            self.any_path(),
            self.any_path(),
            self.random.choice((0, 0, 0, NOREPLACE, EXCHANGE, NOREPLACE | EXCHANGE)),
        )

    def open(self) -> tuple[Any, ...]:
        flags = self.random.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR))
        for flag in (os.O_CREAT, os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND):
            if self.random.random() < 0.4:
                flags |= flag
        if not flags & os.O_CREAT:
            flags &= ~os.O_EXCL
        return self.path(), flags, self.mode()

    def write(self) -> tuple[Any, ...]:
        flags = os.O_WRONLY | self.random.choice((0, os.O_CREAT, os.O_APPEND))
        return self.path(), flags, self.random.randrange(60), self.random.randbytes(self.random.randrange(1, 40))

    def truncate(self) -> tuple[Any, ...]:
        return self.path(), self.random.randrange(100)

    def fallocate(self) -> tuple[Any, ...]:
        mode = self.random.choice((0, 1, 3, 0x10, 0x11))
        return self.path(), mode, self.random.randrange(60), self.random.randrange(0, 60)

    def chmod(self) -> tuple[Any, ...]:
        return self.path(), self.mode()

    def chown(self) -> tuple[Any, ...]:
        ids = (-1, 0, 1000, 1001)
        uid, gid = self.random.choice(ids), self.random.choice((*ids, 3000))
        return self.path(), uid, 1000 if uid == gid == -1 else gid

    def utime(self) -> tuple[Any, ...]:
        return self.path(), self.random.choice((None, (10**18, 10**18 + 1)))

    def access(self) -> tuple[Any, ...]:
        return self.path(), self.random.randrange(8)

    def listdir(self) -> tuple[Any, ...]:
        return (self.path(),)

    def setxattr(self) -> tuple[Any, ...]:
        return (
            self.path(),
            self.random.choice(XATTRS),
            b"v" * self.random.randrange(9),
            self.random.choice((0, 0, 1, 2, 3)),
        )

    def getxattr(self) -> tuple[Any, ...]:
        return self.path(), self.random.choice(XATTRS)

    def removexattr(self) -> tuple[Any, ...]:
        return self.path(), self.random.choice(XATTRS)


WEIGHTED = (
    ["mkdir"] * 6 + ["open"] * 8 + ["rename"] * 10 + ["unlink"] * 5 + ["rmdir"] * 4 + ["link"] * 4 + ["symlink"] * 3
    + ["mknod"] * 3 + ["write"] * 6 + ["truncate"] * 2 + ["fallocate"] * 3 + ["chmod"] * 5 + ["chown"] * 4
    + ["utime"] * 2 + ["access"] * 3 + ["listdir"] * 2 + ["setxattr"] * 3 + ["getxattr"] * 2 + ["removexattr"]
)  # fmt: skip


@pytest.mark.parametrize("seed", range(int(os.environ.get("BLOCKYARD_KERNEL_SEEDS", "25"))))
def test_every_call_ends_as_it_does_in_the_kernel(directory: Path, seed: int) -> None:
    calls = Calls(seed)
    world = World(seed=seed)
    machine, kernel = Machine(world), Kernel()
    assert machine.call(USERS[0], "chmod", ".", 0o777) == 0
    for path in ("a", "b", "a/b", "b/a"):
        assert kernel.call(USERS[0], "mkdir", path, 0o777) == machine.call(USERS[0], "mkdir", path, 0o777) == 0
    refused = 0
    history: list[str] = []
    for _ in range(250):
        who = calls.random.choice(USERS)
        name, arguments = calls.draw()
        expected = kernel.call(who, name, *arguments)
        found = machine.call(who, name, *arguments)
        history.append(f"{who.uid} {name}{arguments} -> {expected}")
        assert found == expected, (
            f"uid {who.uid}: {name}{arguments}: {os.strerror(found)}, not {os.strerror(expected)}\n"
            + "\n".join(history[-40:])
        )
        refused += expected != 0
    assert machine.tree() == kernel.tree()
    assert world.faults() == []
    assert 40 < refused < 245, "the run must both change things and be refused"


@pytest.mark.parametrize("seed", range(4))
def test_the_same_times_change_as_in_the_kernel(directory: Path, seed: int) -> None:
    """After each call that succeeds: of which paths did mtime and ctime change, in both?"""
    calls = Calls(10_000 + seed)
    world = World(seed=seed)
    machine, kernel = Machine(world), Kernel()
    changed = 0
    for _ in range(400):
        name, arguments = calls.draw()
        before = kernel.times(), machine.times()
        time.sleep(0.001)
        result = kernel.call(USERS[0], name, *arguments), machine.call(USERS[0], name, *arguments)
        assert result[0] == result[1], f"{name}{arguments}"
        in_kernel, in_machine = changes(before[0], kernel.times()), changes(before[1], machine.times())
        assert in_machine == in_kernel, f"{name}{arguments} -> {result[0]}"
        changed += bool(in_kernel)
    assert changed > 15


def changes(
    before: dict[str, tuple[int, int, int]], after: dict[str, tuple[int, int, int]]
) -> dict[str, tuple[bool, bool]]:
    """Return which of mtime and ctime changed, by the paths of the inodes that were there before and after."""
    then = {inode: (mtime, ctime) for inode, mtime, ctime in before.values()}
    changed = {
        path: (mtime != then[inode][0], ctime != then[inode][1])
        for path, (inode, mtime, ctime) in after.items()
        if inode in then
    }
    return {path: which for path, which in changed.items() if any(which)}
