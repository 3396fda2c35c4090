"""File systems to fill up and to cut the power of, on loop images; they are unmounted whatever happens."""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
_NO_LOG_FLUSH = 2
_MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}


def demand_root_and(*tools: str) -> None:
    """Skip the test, with the reason, where it cannot run."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount: behaviour on this file system was not proven here")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: behaviour on this file system was not proven here")


class Disk:
    """A file system in an image, mounted."""

    def __init__(self, image: Path, mountpoint: Path) -> None:
        self.image = image
        self.path = mountpoint

    def mount(self) -> None:
        done = subprocess.run(
            ["mount", "-o", "loop", str(self.image), str(self.path)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"cannot mount a loop image here ({done.stderr.strip()}): power cuts were not proven")

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path)], check=True)

    def cut_power(self) -> None:
        """Drop everything that is not synced; nothing can be written any more."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def restart(self) -> None:
        """Mount again, as after the power came back."""
        self.unmount()
        self.mount()


@contextmanager
def loop_disk(directory: Path, kind: str, size_mib: int = 320) -> Iterator[Disk]:
    """Make and mount a file system of `kind`, ext4 or xfs."""
    demand_root_and(_MAKE[kind][0], "mount", "umount")
    image, mountpoint = directory / f"{kind}.img", directory / kind
    mountpoint.mkdir()
    with open(image, "wb") as file:
        file.truncate(size_mib << 20)
    subprocess.run([*_MAKE[kind], str(image)], check=True, capture_output=True)
    disk = Disk(image, mountpoint)
    disk.mount()
    try:
        yield disk
    finally:
        if subprocess.run(["umount", str(mountpoint)], capture_output=True, check=False).returncode != 0:
            subprocess.run(["umount", "-l", str(mountpoint)], capture_output=True, check=False)


@contextmanager
def small_memory_disk(directory: Path, size_mib: int) -> Iterator[Path]:
    """Mount a tmpfs of that size."""
    demand_root_and("mount", "umount")
    mountpoint = directory / "small"
    mountpoint.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(mountpoint)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a tmpfs here: a full disk was not proven")
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", "-l", str(mountpoint)], capture_output=True, check=False)
