"""Whose data directory this is, and that only one process uses it.

A member's promises (its vote, its log) are those of its disk. A directory used by two processes, under another id, or
brought back from an old copy breaks promises the member does not know it gave. What this file cannot see alone, the
peers do: `starts` counts up at every start, and they refuse a member whose count goes back.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from blockyard.metaserver.storage.failures import FETCH_FROM_PEER
from blockyard.proto import failpoints
from blockyard.proto import raft_pb2 as pb
from blockyard.proto.disk import sealed_file
from blockyard.proto.disk.directory_lock import LOCK
from blockyard.proto.disk.failures import DirectoryRefused
from blockyard.proto.ids import INCARNATION, MEMBER, ClusterId, Incarnation, MemberId, parse_cluster_id
from google.protobuf.message import DecodeError

FORMAT: Final = 1
"""Format of data directories that this version writes, and the newest that it reads."""

IDENTITY: Final = "identity"


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


HOW_TO_MAKE_ONE: Final = (
    "Make one with `blockyard meta format` (a new group) or `blockyard meta join` (an existing group)."
)


def _without_identity(directory: Path) -> str:
    content = sorted(set(os.listdir(directory)) - {LOCK})
    if not content:
        return f"{directory} is empty. {HOW_TO_MAKE_ONE}"
    return (
        f"{directory} has no file `{IDENTITY}` but holds {', '.join(content[:5])}: it is not a data directory, its "
        f"making was interrupted, or a piece of it is lost. If it never served, empty it and make it again; else: "
        f"{FETCH_FROM_PEER}."
    )
