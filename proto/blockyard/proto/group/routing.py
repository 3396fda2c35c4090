"""Where the leader is, and what a call does after an attempt has failed. Pure: clock and chance are given.

A member that fails to answer, or says that it does not lead, is no longer taken for the leader; one that says who leads
is believed, but only a few times in a row, for two members may each believe in the other. When nobody is known to lead,
all members are asked at once, so one that hangs holds nobody up.
"""

from collections.abc import Iterable, Mapping
from random import Random
from typing import Final

from blockyard.proto import errors
from blockyard.proto.common_pb2 import Address
from blockyard.proto.errors import BlockyardError
from blockyard.proto.raft_pb2 import ROLE_LEADER, MetaStatusReply
from blockyard.proto.retry import Retry, RetryPolicy

ASK_S: Final = 1.0
"""How long members have to say whether they lead."""

KEEPALIVE_S: Final = 1.0
"""A silent member is asked for a sign of life after this long, and given up after as long again."""

POLICY: Final = RetryPolicy(attempts_limit=1_000_000, first_wait_s=0.01, longest_wait_s=0.25)
"""The deadline alone ends the attempts: a group is back within seconds of any single fault."""

_HINTS_IN_A_ROW: Final = 3


def text(address: Address) -> str:
    """Return the lane address of a member, empty when it has none."""
    if not address.host or not address.lane_port:
        return ""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.lane_port}"


class Route:
    """What one client knows of the group."""

    def __init__(self, addresses: Iterable[str]) -> None:
        """Begin with the addresses in the settings, of which one at least must lead to a member."""
        self._given = tuple(dict.fromkeys(addresses))
        if not self._given:
            raise ValueError("a channel to the metadata group needs at least one address")
        self.members = self._given
        self.leader = ""

    def heard(self, address: str, status: MetaStatusReply) -> bool:
        """Take in what a member says of itself; return whether it leads. A leader also says who the others are."""
        if status.role != ROLE_LEADER:
            return False
        learned = (text(each.member.address) for each in status.members)
        self.members = tuple(dict.fromkeys((*self._given, *filter(None, learned))))
        self.leader = address
        return True

    def failed(self, address: str, error: BlockyardError) -> None:
        """Take in that a call at `address` (empty: nobody was found to lead) ended with `error`."""
        if isinstance(error, errors.NotLeader) and error.leader is not None and text(error.leader):
            self.leader = text(error.leader)
        elif self.leader == address and isinstance(error, ELSEWHERE):
            self.leader = ""

    def nobody_leads(self, answers: Mapping[str, str]) -> errors.Unavailable:
        """Return the error of a search that found no leader; `answers` say what each member said."""
        said = "; ".join(f"{address}: {answers.get(address, 'no answer in time')}" for address in self.members)
        return errors.Unavailable(f"nobody leads the metadata group ({said})")


ELSEWHERE: Final = (
    errors.Unavailable,
    errors.ConnectionLost,
    errors.DeadlineExceeded,
    errors.ShuttingDown,
    errors.NotLeader,
    errors.LeadershipLost,
)
"""Errors after which the leader is looked for anew."""


class Errand:
    """The attempts of one call."""

    def __init__(self, random: Random, *, repeatable: bool, deadline_s: float) -> None:
        """Begin a call that must end by `deadline_s` on the clock that `wait_after` is told."""
        self.deadline_s = deadline_s
        self._retry = Retry(POLICY, random, repeatable=repeatable, deadline_s=deadline_s)
        self._hints = 0

    def wait_after(self, error: BlockyardError, now_s: float) -> float | None:
        """Return the seconds to wait before the next attempt, None when `error` is the call's answer."""
        if isinstance(error, errors.NotLeader) and error.leader is not None and text(error.leader):
            self._hints += 1
            if self._hints <= _HINTS_IN_A_ROW and now_s < self.deadline_s:
                return 0.0
            error.leader = None  # they send each other's callers round: wait until they have sorted it out
        self._hints = 0
        return self._retry.wait_after(error, now_s)
