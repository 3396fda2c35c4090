"""Changes of the group, one server at a time, and the memberships a log has seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from blockyard.metaserver.raft.types import MemberId


class ChangeKind(Enum):
    ADD_LEARNER = "add learner"
    PROMOTE = "promote"
    ADD_WITNESS = "add witness"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """One step. To replace a data member: add the new one as learner, promote it, remove the old one."""

    kind: ChangeKind
    member: MemberId
