"""A small message in a file of its own: whole and checked, replaced atomically.

The file is a magic number, the CRC32C of the rest, and one protobuf message. It is written under a temporary name,
synced, renamed, and its directory synced: at any moment there is the old content or the new.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import crc32c
from blockyard.proto.disk.sync import sync_directory

MAGIC: Final = b"BYSF"
TEMPORARY: Final = ".new"


class BadFile(ValueError):
    """The file is not what was written."""


def write(path: Path, message: bytes, reached: Callable[[str], None] = lambda step: None) -> None:
    """Make `message` the file's content, durable. `reached` is told "written" and "renamed". Raises OSError."""
    temporary = path.with_name(path.name + TEMPORARY)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, MAGIC + crc32c.crc32c(message).to_bytes(4, "little") + message)
        os.fsync(fd)
    finally:
        os.close(fd)
    reached("written")
    os.rename(temporary, path)
    reached("renamed")
    sync_directory(path.parent)


def read(path: Path) -> bytes:
    """Return the message. Raises BadFile, and OSError when it cannot be read."""
    data = path.read_bytes()
    if not data.startswith(MAGIC) or crc32c.crc32c(data[8:]) != int.from_bytes(data[4:8], "little"):
        raise BadFile(f"{path} fails its checksum ({len(data)} bytes)")
    return data[8:]
