"""The numbers a Raft member runs by, and the errors it refuses with. All times are ticks."""

from __future__ import annotations

from dataclasses import dataclass

from blockyard.metaserver.raft.types import MemberId


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """One member's settings. With a 50 ms tick the defaults mean: heartbeat 100 ms, election 1-2 s, suspect 300 ms.

    `witness` says that this process keeps no state. `witness_timeout_factor` makes its election timeout that many
    times longer, so a data member that can win wins first. `max_apply_bytes` bounds what is applied at a stretch, some
    milliseconds of work. Sizes in bytes count entry data only.
    """

    id: MemberId
    witness: bool = False
    heartbeat_interval_ticks: int = 2
    election_timeout_ticks: int = 20
    suspect_after_ticks: int = 6
    park_after_ticks: int = 4
    witness_timeout_factor: int = 3
    witness_compact_entries: int = 1024
    max_append_bytes: int = 1 << 20
    max_inflight_appends: int = 64
    max_inflight_bytes: int = 16 << 20
    max_uncommitted_entries: int = 16_384
    max_uncommitted_bytes: int = 64 << 20
    max_apply_bytes: int = 16 << 10
    max_window_bytes: int = 16 << 20
    max_read_rounds: int = 8

    def __post_init__(self) -> None:
        if self.id <= 0:
            raise ValueError(f"member id {self.id}: must be above 0")
        if not 0 < self.heartbeat_interval_ticks < self.suspect_after_ticks < self.election_timeout_ticks:
            raise ValueError(
                f"member {self.id}: need 0 < heartbeat_interval_ticks ({self.heartbeat_interval_ticks}) < "
                f"suspect_after_ticks ({self.suspect_after_ticks}) < election_timeout_ticks "
                f"({self.election_timeout_ticks})"
            )
        if self.witness_timeout_factor < 2:
            raise ValueError(
                f"member {self.id}: witness_timeout_factor {self.witness_timeout_factor}: must be 2 or more"
            )


class Refused(Exception):
    """The core did not do it, and it has had no effect."""


class NotLeader(Refused):
    """Ask `leader`; nobody is known to lead when it is 0."""

    def __init__(self, leader: MemberId) -> None:
        super().__init__(f"not the leader; the leader is {leader or 'unknown'}")
        self.leader = leader


class Busy(Refused):
    """Too much is uncommitted, or leadership is being transferred; retry later with the same request id."""


class ChangeRefused(Refused):
    """This membership change, or this transfer, would be unsafe or stall the group now; the message says why."""
