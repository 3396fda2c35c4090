"""Which incarnation of each member, and which start of it, was heard last: what keeps a copied directory out.

A data directory is started once at a time, and every start counts up. Whoever comes with a smaller count, or as another
incarnation under a known id, runs on an older copy and is refused: it may have forgotten what it promised.
"""

import os
from pathlib import Path

from blockyard.proto import errors
from blockyard.proto.raft_pb2 import DirectoryIdentity, StepRequest

_FILE = "peers"


class KnownPeers:
    """The newest identity heard of each member, kept in one small file."""

    def __init__(self, directory: Path, cluster: str) -> None:
        self._path = directory / _FILE
        self._cluster = cluster
        self._known: dict[int, DirectoryIdentity] = {}
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                member, incarnation, starts = (int(part) for part in line.split())
                self._known[member] = DirectoryIdentity(member=member, incarnation=incarnation, starts=starts)

    def check(self, request: StepRequest, member: int) -> None:
        """Refuse a sender that is not who it was, or of another cluster; note one that has started anew."""
        if request.cluster != self._cluster:
            raise errors.ForeignCluster(f"a message of cluster {request.cluster} came to one of {self._cluster}")
        known = self._known.get(member)
        if known is None or (request.incarnation == known.incarnation and request.starts > known.starts):
            self._note(member, request.incarnation, request.starts)
        elif request.incarnation != known.incarnation:
            raise errors.StaleIncarnation(
                f"member {member} was another incarnation: a member that lost its disk rejoins under a new id"
            )
        elif request.starts < known.starts:
            raise errors.StaleIncarnation(
                f"member {member} runs on a copy: start {request.starts}, but start {known.starts} was heard already"
            )

    def _note(self, member: int, incarnation: int, starts: int) -> None:
        self._known[member] = DirectoryIdentity(member=member, incarnation=incarnation, starts=starts)
        lines = [f"{each.member} {each.incarnation} {each.starts}\n" for _, each in sorted(self._known.items())]
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
