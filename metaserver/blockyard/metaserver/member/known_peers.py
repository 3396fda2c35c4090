"""Which incarnation of each member, and which start of it, was heard last: what keeps a copied directory out.

A data directory is started once at a time, and every start counts up. Whoever comes with a smaller count, or as another
incarnation under a known id, runs on an older copy or on a wiped disk: it may have forgotten what it promised. Its
messages are refused and its answers dropped; and every Step tells the receiver what was heard of *it*, so that one that
was superseded learns it, whoever speaks first, and ends.
"""

import os
from collections.abc import Callable
from pathlib import Path

from blockyard.metaserver.storage.identity import Identity
from blockyard.proto import errors
from blockyard.proto.raft_pb2 import DirectoryIdentity, StepRequest

_FILE = "peers"
_NOBODY = DirectoryIdentity()


class KnownPeers:
    """The newest identity heard of each member, kept in one small file."""

    def __init__(self, directory: Path, me: Identity, superseded: Callable[[str], None]) -> None:
        """`superseded` is told, in a sentence, that a newer start of this member, or another one, was heard."""
        self._path = directory / _FILE
        self._me = me
        self._superseded = superseded
        self._known: dict[int, DirectoryIdentity] = {}
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                member, incarnation, starts = (int(part) for part in line.split())
                self._known[member] = DirectoryIdentity(member=member, incarnation=incarnation, starts=starts)

    def of(self, member: int) -> DirectoryIdentity:
        """Return what was heard last of a member; incarnation 0 when nothing was."""
        return self._known.get(member, _NOBODY)

    def admit(self, request: StepRequest, sender: int) -> None:
        """Refuse a Step of a foreign cluster, from a sender that is not who it was, or to this member before it was.

        Raises ForeignCluster, StaleIncarnation (which is the sender's), and ShuttingDown (this member is superseded).
        """
        me = self._me
        if request.cluster != me.cluster:
            raise errors.ForeignCluster(f"a message of cluster {request.cluster} came to one of {me.cluster}")
        self.check(sender, request.incarnation, request.starts)
        expected = request.receiver_incarnation
        if expected and (expected != me.incarnation or request.receiver_starts > me.starts):
            self._superseded(_stale(int(me.member), me.incarnation, me.starts, expected, request.receiver_starts))
            raise errors.ShuttingDown(f"member {int(me.member)} runs on an old or wiped directory and ends")

    def check(self, member: int, incarnation: int, starts: int) -> None:
        """Refuse a member that is not who it was with StaleIncarnation; note one that has started anew."""
        known = self._known.get(member)
        if known is None or (incarnation == known.incarnation and starts > known.starts):
            self._note(member, incarnation, starts)
        elif incarnation != known.incarnation or starts < known.starts:
            raise errors.StaleIncarnation(_stale(member, incarnation, starts, known.incarnation, known.starts))

    def _note(self, member: int, incarnation: int, starts: int) -> None:
        self._known[member] = DirectoryIdentity(member=member, incarnation=incarnation, starts=starts)
        lines = [f"{each.member} {each.incarnation} {each.starts}\n" for _, each in sorted(self._known.items())]
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def _stale(member: int, incarnation: int, starts: int, known_incarnation: int, known_starts: int) -> str:
    if incarnation != known_incarnation:
        return (
            f"the group knows member {member} by another data directory: a member whose disk was lost or wiped comes "
            "back under a new id (`blockyard meta join`, then `blockyard meta add --replaces`)"
        )
    return (
        f"member {member} runs on a copied or older data directory: this is start {starts} of it, and the group has "
        f"heard start {known_starts}. Stop it for good; if the newer one is lost, join as a new member"
    )
