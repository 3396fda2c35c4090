"""A node's data directory: locked, and known by what it says it is.

A node is its incarnation: a number drawn when the directory was made, under which its blocks are known to the cluster.
An emptied disk gets another one and becomes another node. What this file cannot see alone the cluster does: `starts`
counts up at every start, and a directory whose count goes back, or is counted twice, is refused at registration.

Layout: `lock`, the sealed file `identity`, `probe` (what the disk is tried with), `blocks/` (the store's own).
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from blockyard.proto import failpoints
from blockyard.proto.disk import sealed_file
from blockyard.proto.disk.directory_lock import LOCK, DirectoryLock
from blockyard.proto.disk.failures import DirectoryRefused
from blockyard.proto.disk.sync import sync_directory
from blockyard.proto.storage_pb2 import NodeIdentity
from google.protobuf.message import DecodeError

FORMAT: Final = 1
"""Format of data directories that this version writes, and the newest that it reads."""

IDENTITY: Final = "identity"
BLOCKS: Final = "blocks"
PROBE: Final = "probe"
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_OURS: Final = frozenset((LOCK, IDENTITY + sealed_file.TEMPORARY, BLOCKS, PROBE, "lost+found"))
_EMPTY_IT: Final = (
    "Move the directory aside and start with an empty one: the node joins as a new one, and the others copy its blocks"
)
_MOUNT_IT: Final = (
    "Mount its disk; or, for a new disk, make the directory on it. It is never made here: a disk that was not mounted "
    "would look like an emptied one, and the cluster would give up what is on it"
)


class NodeDirectory:
    """An open data directory. Invariant: what `identity` says is on disk."""

    def __init__(self, path: Path, cluster: str, draw: Callable[[], int]) -> None:
        """Lock the directory, which must exist; make it a node's if it is empty; count this start.

        `cluster` is the settings' own, empty when they leave it open; `draw` gives 64 random bits above 0. Raises
        DirectoryRefused, and OSError when the disk fails.
        """
        self.path = path
        self._lock = DirectoryLock(path, _MOUNT_IT)
        try:
            self._identity = self._read() or self._make(draw())
            self._check(cluster)
            self._identity.starts += 1
            self._write()
        except BaseException:
            self._lock.release()
            raise

    @property
    def blocks(self) -> Path:
        """Where the store keeps its blocks."""
        return self.path / BLOCKS

    @property
    def identity(self) -> NodeIdentity:
        """What the directory says it is."""
        return self._identity

    def registered(self, cluster: str, node: int) -> None:
        """Note what the cluster said at registration. Raises OSError."""
        if (self._identity.cluster, self._identity.node) != (cluster, node):
            self._identity.cluster, self._identity.node = cluster, node
            self._write()

    def close(self) -> None:
        """Let another process have the directory."""
        self._lock.release()

    def _read(self) -> NodeIdentity | None:
        try:
            return NodeIdentity.FromString(sealed_file.read(self.path / IDENTITY))
        except FileNotFoundError:
            return None
        except (sealed_file.BadFile, DecodeError) as error:
            raise DirectoryRefused(f"{self.path / IDENTITY} cannot be trusted: {error}. {_EMPTY_IT}.") from error

    def _make(self, incarnation: int) -> NodeIdentity:
        """Return the identity of a new directory; `blocks` is made first, so that an identity never lacks it."""
        foreign = sorted(set(os.listdir(self.path)) - _OURS)
        if foreign or (self.blocks.is_dir() and any(self.blocks.iterdir())):
            found = ", ".join(foreign[:5]) or BLOCKS
            raise DirectoryRefused(
                f"{self.path} has no file `{IDENTITY}` but holds {found}: it is not a node's directory, or a piece of "
                f"it is lost. {_EMPTY_IT}."
            )
        self.blocks.mkdir(exist_ok=True)
        sync_directory(self.path)
        return NodeIdentity(incarnation=incarnation, format=FORMAT)

    def _check(self, cluster: str) -> None:
        identity = self._identity
        if identity.format > FORMAT:
            raise DirectoryRefused(
                f"{self.path} has format {identity.format}; this version of Blockyard reads up to {FORMAT}. "
                "Start the newer version that wrote it."
            )
        if cluster and identity.cluster and cluster != identity.cluster:
            raise DirectoryRefused(
                f"{self.path} belongs to cluster {identity.cluster}, and the settings say {cluster}. "
                "Correct the cluster or the data directory in the settings."
            )
        if not self.blocks.is_dir():
            raise DirectoryRefused(f"{self.path} has lost its directory `{BLOCKS}`. {_EMPTY_IT}.")

    def _write(self) -> None:
        """Write the identity; on a disk without a byte left, in the room of the file that the disk is tried with."""
        try:
            self._write_sealed()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            (self.path / PROBE).unlink(missing_ok=True)
            self._write_sealed()

    def _write_sealed(self) -> None:
        message = self._identity.SerializeToString()
        sealed_file.write(self.path / IDENTITY, message, lambda step: failpoints.hit(f"identity.{step}"))
