"""Disks that misbehave: small ones, ones that lose power, bits that flip, and calls that fail as strace makes them."""

import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.storage_cluster import StorageCluster, wait_until

MIB = 1 << 20
SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
NO_LOG_FLUSH = 2


def run(*command: str) -> None:
    """Run a command; raises CalledProcessError."""
    subprocess.run(command, check=True, capture_output=True)


class Mount:
    """A file system of its own at `place`: a loop image, or memory."""

    def __init__(self, place: Path, kind: str, size_mib: int) -> None:
        """`kind`: ext4, xfs or tmpfs. Skips the test where this machine cannot mount."""
        self.place = place
        self._kind = kind
        self._size_mib = size_mib
        self._image = place.with_suffix(".img")
        if os.geteuid() != 0:
            pytest.skip("mounting needs root: full disks and power cuts are left unproven")
        place.mkdir(parents=True, exist_ok=True)
        if kind != "tmpfs":
            if shutil.which(f"mkfs.{kind}") is None:
                pytest.skip(f"mkfs.{kind} is not installed: power cuts on {kind} are left unproven")
            with self._image.open("wb") as image:
                image.truncate(size_mib * MIB)
            run(f"mkfs.{kind}", "-q", str(self._image))
        self.mount()

    def mount(self) -> None:
        if self._kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", f"size={self._size_mib}m", "tmpfs", str(self.place))
        else:
            run("mount", "-o", "loop", str(self._image), str(self.place))

    def cut_power(self) -> None:
        """Lose everything that was not synced; every later call on it fails. Whoever uses it is to be killed next."""
        fd = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def remount(self) -> None:
        """Give the power back: the file system recovers its journal."""
        run("umount", str(self.place))
        self.mount()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], capture_output=True, check=False)
        self._image.unlink(missing_ok=True)


@contextmanager
def injected(cluster: StorageCluster, name: str, what: str, path: Path | None = None) -> Iterator[None]:
    """Let strace tamper with a node's system calls: `what` is its `inject=`, `path` the only file that it is about."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace): failing system calls are left unproven")
    pid = cluster.nodes[name].pid
    only = [] if path is None else ["-P", str(path)]
    calls = what.partition(":")[0]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), *only, "-e", f"trace={calls}"]
    tracer = subprocess.Popen([*command, "-e", f"inject={what}"], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: _traced(pid, tracer), f"strace holds {name}")
        yield
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)


def _traced(pid: int, tracer: "subprocess.Popen[bytes]") -> bool:
    assert tracer.poll() is None, f"strace ended: {tracer.stderr.read() if tracer.stderr else b''!r}"
    try:
        threads = [(thread / "status").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        return False  # a thread has just ended
    return all(f"TracerPid:\t{tracer.pid}\n" in status for status in threads)


def flip_bit(path: Path, chance: random.Random, start: int = 0, end: int | None = None) -> int:
    """Flip one bit of a file between two offsets; return the byte's."""
    size = path.stat().st_size if end is None else end
    assert size > start, f"{path} has nothing to flip"
    place = chance.randrange(start, size)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ (1 << chance.randrange(8))]))
        file.flush()
        os.fsync(file.fileno())
    return place


def fill(directory: Path, leave_bytes: int = 0) -> Path:
    """Fill a small file system but for `leave_bytes`; return the file that does it."""
    filler = directory / "blocks" / "quarantine" / "filler"
    found = os.statvfs(directory)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize - leave_bytes))
    return filler


def large_files(directory: Path) -> list[Path]:
    """Return the files of large blocks below a node's directory, by name."""
    return sorted(path for path in (directory / "blocks" / "blocks").glob("*/*"))


def packs(directory: Path) -> list[Path]:
    """Return the packs, oldest first."""
    return sorted((directory / "blocks" / "packs").glob("*.pack"))
