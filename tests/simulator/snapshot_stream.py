"""A snapshot on its way: frames over the link, staged and synced beside the receiver's state, then offered to its core.

Either end may die and the link may be cut between any two frames; the sender's core is told how it ended, always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockyard.metaserver.raft import InstallSnapshot, SendSnapshot

from tests.simulator.state_machine import APPLIED, Rows
from tests.simulator.world import TICK

if TYPE_CHECKING:
    from tests.simulator.member import Member

FRAMES = 3


class SnapshotStream:
    """One answer to `Ready.send_snapshots`. Its events die with the sender's process."""

    def __init__(self, sender: Member, asked: SendSnapshot) -> None:
        self.sender, self.asked = sender, asked
        self.target = sender.cluster.members[asked.to]
        self.target_epoch = self.target.epoch  # a receiver that restarts has broken the connection
        self.rows: Rows = {}
        self.install: InstallSnapshot | None = None

    def begin(self) -> None:
        """Take the state as it is now and send the first frame."""
        sender, core = self.sender, self.sender.core
        assert core is not None
        if sender.switching or sender.machine.applied < self.asked.at_least:
            sender.later(TICK, self._failed)
            return
        self.rows = dict(sender.machine.rows)
        metadata = core.snapshot_metadata(self.rows[APPLIED])
        self.install = InstallSnapshot(sender.id, self.asked.to, self.asked.term, metadata)
        sender.world.note("snapshot stream", sender.id, self.asked.to, self.rows[APPLIED])
        sender.later(self._frame_time(), self._frame_crossed, FRAMES)

    def _frame_time(self) -> int:
        plan, chance = self.sender.cluster.plan, self.sender.world.chance
        return 1 + chance.randrange(plan.snapshot_ticks * TICK // FRAMES)

    @property
    def _broken(self) -> bool:
        return self.target.core is None or self.target.epoch != self.target_epoch

    def _frame_crossed(self, left: int) -> None:
        sender = self.sender
        if self._broken or (sender.id, self.asked.to) in sender.cluster.network.cuts:
            self._failed()
        elif left > 1:
            sender.later(self._frame_time(), self._frame_crossed, left - 1)
        else:
            sender.later(1 + sender.world.chance.randrange(TICK), self._staged)

    def _staged(self) -> None:
        """The receiver has the whole state, synced beside its living one, unless it died before it had."""
        if self._broken:
            self._failed()
            return
        sender, install = self.sender, self.install
        assert install is not None
        assert sender.core is not None
        sender.world.note("snapshot staged", sender.id, install.to, install.snapshot.index)
        self.target.staged[install.snapshot.index, install.snapshot.term] = self.rows
        self.target.deliver(install)
        sender.core.snapshot_delivered(install.to)
        sender.touched()

    def _failed(self) -> None:
        assert self.sender.core is not None
        self.sender.world.note("snapshot broken", self.sender.id, self.asked.to)
        self.sender.core.snapshot_failed(self.asked.to)
        self.sender.touched()
