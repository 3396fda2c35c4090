"""What a leader knows about one peer, and how fast it may send to it.

Probe: the meeting point of the logs is not known; one append at a time. Replicate: it is; appends are pipelined within
bounds. Snapshot: the peer needs state that the log no longer has. Base: the witness needs a base record. Parked: the
witness is not needed and gets heartbeats only.
Invariants: match < next; match never falls within a term; in flight is within its bounds, but for one oversized append.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from blockyard.metaserver.raft.config import RaftConfig
from blockyard.metaserver.raft.types import LogIndex

_MISSED_HEARTBEATS_BEFORE_PROBE = 2


class ProgressState(Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"
    BASE = "base"
    PARKED = "parked"


class Progress:
    """`silent_ticks`: since the peer was heard in this term. `behind_ticks`: since it should have reached `mark`."""

    __slots__ = ("_idle_heartbeats", "_inflight", "_inflight_bytes", "behind_ticks", "mark", "match", "next", "paused",
                 "silent_ticks", "snapshot_index", "snapshot_patience_ticks", "state")  # fmt: skip

    def __init__(self, next: int, state: ProgressState = ProgressState.PROBE) -> None:
        self.state = state
        self.match = LogIndex(0)
        self.next = next
        self.paused = False  # a probe, base or snapshot is under way
        self.snapshot_index = 0
        self.snapshot_patience_ticks = 0  # above 0: delivered, and to be acknowledged within so many ticks
        self.silent_ticks = 0
        self.behind_ticks = 0
        self.mark = 0
        self._inflight: deque[tuple[int, int]] = deque()  # (last index, bytes) of each append not answered
        self._inflight_bytes = 0
        self._idle_heartbeats = 0

    def tick(self, last_index: int) -> None:
        """Let a tick pass; `last_index` is the leader's."""
        self.silent_ticks += 1
        if self.match >= self.mark:
            self.mark, self.behind_ticks = last_index, 0
        else:
            self.behind_ticks += 1
        if self.snapshot_patience_ticks > 0:
            self.snapshot_patience_ticks -= 1
            if self.snapshot_patience_ticks == 0:
                self.snapshot_over()

    def snapshot_over(self) -> None:
        """Stop waiting for a snapshot; what the peer needs is found again at its next heartbeat."""
        if self.state is ProgressState.SNAPSHOT:
            self.enter(ProgressState.PROBE, self.match + 1)
            self.paused = True

    def in_step(self, commit: int, patience_ticks: int) -> bool:
        """Whether the peer lives and durably has all that is committed."""
        return (
            self.state is ProgressState.REPLICATE
            and self.match >= commit
            and max(self.silent_ticks, self.behind_ticks) < patience_ticks
        )

    def keeps_pace(self, patience_ticks: int) -> bool:
        """Whether the peer lives and reaches, tick by tick, what was the log's end a tick ago."""
        return self.state is ProgressState.REPLICATE and self.silent_ticks < patience_ticks and self.behind_ticks <= 1

    def may_send(self, config: RaftConfig) -> bool:
        """Whether an append with entries may leave now."""
        if self.state is ProgressState.REPLICATE:
            return (
                len(self._inflight) < config.max_inflight_appends and self._inflight_bytes < config.max_inflight_bytes
            )
        return self.state is ProgressState.PROBE and not self.paused

    def sent(self, last_index: int, size: int) -> None:
        """Note an append that ends at `last_index`."""
        if self.state is ProgressState.PROBE:
            self.paused = True
            return
        self.next = last_index + 1
        self._inflight.append((last_index, size))
        self._inflight_bytes += size

    def accepted(self, index: LogIndex) -> bool:
        """Note that the peer's log equals ours up to `index`; return whether that is news."""
        news = index > self.match
        if news:
            self.match = index
            self.next = max(self.next, index + 1)
            self._idle_heartbeats = 0
        while self._inflight and self._inflight[0][0] <= index:
            self._inflight_bytes -= self._inflight.popleft()[1]
        return news

    def heartbeat_answered(self) -> None:
        """Let a probe be repeated; fall back to probing when appends seem lost."""
        if self.state is not ProgressState.REPLICATE:
            self.paused = False
        elif self.match + 1 < self.next:
            self._idle_heartbeats += 1
            if self._idle_heartbeats >= _MISSED_HEARTBEATS_BEFORE_PROBE:
                self.enter(ProgressState.PROBE, self.match + 1)

    def lost(self) -> None:
        """Appends on their way were probably lost: find the meeting point again."""
        if self.state is ProgressState.REPLICATE:
            self.enter(ProgressState.PROBE, self.match + 1)

    def enter(self, state: ProgressState, next: int) -> None:
        """Change state; the next append begins at `next`."""
        assert next > self.match, f"next {next} is not past match {self.match}"
        self.state, self.next, self.paused, self.snapshot_index = state, next, False, 0
        self.snapshot_patience_ticks = 0
        self._inflight.clear()
        self._inflight_bytes = 0
        self._idle_heartbeats = 0
