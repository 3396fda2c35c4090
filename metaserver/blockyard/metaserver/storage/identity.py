"""Whose data directory this is, and that only one process uses it.

A member's promises (its vote, its log) are those of its disk. A directory used by two processes, under another id, or
brought back from an old copy breaks promises the member does not know it gave. What this file cannot see alone, the
peers do: `starts` counts up at every start, and they refuse a member whose count goes back.
"""

import fcntl
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from blockyard.metaserver.storage import sealed_file
from blockyard.metaserver.storage.failures import FETCH_FROM_PEER, DirectoryRefused
from blockyard.proto import failpoints
from blockyard.proto import raft_pb2 as pb
from blockyard.proto.ids import INCARNATION, MEMBER, ClusterId, Incarnation, MemberId, parse_cluster_id
from google.protobuf.message import DecodeError

FORMAT: Final = 1
"""Format of data directories that this version writes, and the newest that it reads."""

IDENTITY: Final = "identity"
LOCK: Final = "lock"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a data directory belongs to. `incarnation` is 64 random bits, drawn when the directory was made."""

    cluster: ClusterId
    member: MemberId
    incarnation: Incarnation
    format: int = FORMAT
    starts: int = 0

    def write(self, directory: Path) -> None:
        """Make this the directory's identity, durable. Raises OSError."""
        message = pb.DirectoryIdentity(
            cluster=self.cluster,
            member=self.member,
            incarnation=self.incarnation,
            format=self.format,
            starts=self.starts,
        )
        path = directory / IDENTITY
        sealed_file.write(path, message.SerializeToString(), lambda step: failpoints.hit(f"identity.{step}"))

    @staticmethod
    def read(directory: Path) -> "Identity":
        """Return the directory's identity. Raises DirectoryRefused."""
        path = directory / IDENTITY
        try:
            found = pb.DirectoryIdentity.FromString(sealed_file.read(path))
            if found.format > FORMAT:
                raise DirectoryRefused(
                    f"{directory} has format {found.format}; this version of Blockyard reads up to {FORMAT}. "
                    "Start the newer version that wrote it."
                )
            return Identity(
                parse_cluster_id(found.cluster),
                MEMBER.check(found.member),
                INCARNATION.check(found.incarnation),
                found.format,
                found.starts,
            )
        except FileNotFoundError:
            raise DirectoryRefused(_without_identity(directory)) from None
        except (sealed_file.BadFile, DecodeError, ValueError) as error:
            raise DirectoryRefused(f"{path} cannot be trusted: {error}. {FETCH_FROM_PEER}.") from error

    def check(self, directory: Path, cluster: ClusterId, member: MemberId) -> None:
        """Raise DirectoryRefused when this is not the identity of that member of that cluster."""
        if self.cluster != cluster:
            raise DirectoryRefused(
                f"{directory} belongs to cluster {self.cluster}, and the settings say {cluster}. "
                "Correct the cluster or the data directory in the settings."
            )
        if self.member != member:
            raise DirectoryRefused(
                f"{directory} belongs to member {MEMBER.text(self.member)}, the settings say {MEMBER.text(member)}. "
                "Correct the member or the data directory in the settings; a member's directory is never another's."
            )

    def started(self, directory: Path) -> "Identity":
        """Count this start, durable; return the identity to show to the peers. Raises OSError."""
        counted = replace(self, starts=self.starts + 1)
        counted.write(directory)
        return counted


class DirectoryLock:
    """Held while a process uses a data directory; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        """Take the lock. Raises DirectoryRefused when another process, or this one, has it."""
        try:
            self._fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise DirectoryRefused(f"There is no directory {directory}. {_HOW_TO_MAKE_ONE}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise DirectoryRefused(
                f"{directory} is in use by process {holder}. Stop that one first, or correct the settings: "
                "each metadata server has a data directory of its own."
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        os.close(self._fd)


_HOW_TO_MAKE_ONE: Final = (
    "Make one with `blockyard meta format` (a new group) or `blockyard meta join` (an existing group)."
)


def _without_identity(directory: Path) -> str:
    content = sorted(set(os.listdir(directory)) - {LOCK})
    if not content:
        return f"{directory} is empty. {_HOW_TO_MAKE_ONE}"
    return (
        f"{directory} has no file `{IDENTITY}` but holds {', '.join(content[:5])}: it is not a data directory, its "
        f"making was interrupted, or a piece of it is lost. If it never served, empty it and make it again; else: "
        f"{FETCH_FROM_PEER}."
    )
