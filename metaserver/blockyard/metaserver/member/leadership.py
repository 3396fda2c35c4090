"""What a data member does because it leads, and how it refuses what only the leader may do.

Leading, it measures silence, of sessions and of storage nodes. What it finds becomes commands, so every member agrees.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from blockyard.metaserver.cluster.heartbeats import Heartbeats
from blockyard.metaserver.cluster.liveness import Liveness, LivenessSettings
from blockyard.metaserver.member.applier import Applier
from blockyard.metaserver.member.driver import Driver
from blockyard.metaserver.member.group_machine import internal
from blockyard.metaserver.member.peers import Peers
from blockyard.metaserver.member.redirect import not_leader
from blockyard.metaserver.raft import Role
from blockyard.metaserver.state.commands import METADATA, method_id
from blockyard.proto import errors, logs
from blockyard.proto.call import Deferred
from blockyard.proto.cluster_pb2 import ChangeNodeRequest, ReportReplicaRequest
from blockyard.proto.common_pb2 import Empty
from blockyard.proto.internal_pb2 import ExpireSessionsRequest, KeepSessionsRequest, MakeClusterRequest
from blockyard.proto.metadata_pb2 import KeepSessionReply, StatFilesystemReply
from google.protobuf.message import Message

ROUND_S = 1.0
_log = logs.get(__name__)
_FREEING = frozenset(
    method_id(METADATA + name)
    for name in ("Unlink", "RemoveDirectory", "RemoveXattr", "Close", "CloseSession", "ReleaseLocks", "SetLock")
)
"""Changes that are still taken when the disk is nearly full: they give space back, or need none."""


class Leadership:
    """The leader's duties on a data member. `read_only` says whether a disk of the group is nearly full."""

    def __init__(
        self,
        driver: Driver,
        applier: Applier,
        peers: Peers,
        liveness: LivenessSettings,
        founding: MakeClusterRequest,
        read_only: Callable[[], bool],
    ) -> None:
        self.heartbeats = Heartbeats(Liveness(liveness))
        self.failed_over_ns = 0
        self.leaderless_ms = 0
        self.changes = 0
        self._driver = driver
        self._applier = applier
        self._peers = peers
        self._founding = founding
        self._read_only = read_only
        self._heard: set[int] = set()
        self._duties: asyncio.Task[None] | None = None
        driver.on_role_change.append(self._role_changed)

    # ------------------------------------------------------------------------------------------ refusing

    def check(self) -> None:
        """Refuse, naming the leader, unless this member leads."""
        if self._driver.core.role is not Role.LEADER:
            raise self.not_leader()

    def not_leader(self) -> errors.NotLeader:
        """Return the error that sends a client to the leader."""
        return not_leader(self._driver, self._peers)

    def check_room(self, method: int) -> None:
        """Refuse what needs space when a disk is nearly full."""
        if self._read_only() and method not in _FREEING:
            raise errors.ReadOnlyCluster("a metadata disk is nearly full: only deletes are taken until there is room")

    # ------------------------------------------------------------------------------------------ sessions, totals

    def keep(self, session: int) -> KeepSessionReply:
        """Note a session's sign of life; raises SessionExpired when there is none such."""
        machine = self._applier.machine
        if session not in machine.sessions.known:
            raise errors.SessionExpired(f"session {session} is over, or never was: open another")
        self._heard.add(session)
        view = machine.cluster_state.view(machine.tx)
        return KeepSessionReply(map_epoch=view.epoch)

    def filesystem(self) -> StatFilesystemReply:
        """Return totals: the storage nodes' bytes, replicas divided out."""
        machine = self._applier.machine
        view = machine.cluster_state.view(machine.tx)
        beats = self.heartbeats.liveness.heartbeats.values()
        replicas = max(1, view.head.replicas)
        free = sum(beat.free_bytes for beat in beats) // replicas
        used = sum(beat.used_bytes for beat in beats) // replicas
        return machine.filesystem(free + used, free, free)

    def reported(self, report: ReportReplicaRequest) -> None:
        """Somebody found a replica bad: its node hears of it, and so do the people who watch disks."""
        machine = self._applier.machine
        self.heartbeats.reported(machine.cluster_state.view(machine.tx), report.node, report.block)
        _log.warning("bad_replica", block=f"{report.block:#x}", node=report.node, found=report.found)

    # ------------------------------------------------------------------------------------------ duties

    def stop(self) -> None:
        """Do no more."""
        if self._duties is not None:
            self._duties.cancel()

    def _role_changed(self, role: Role) -> None:
        self.stop()
        self._applier.lose_waits()
        clock = self._driver.proposals.clock
        clock.applied(*self._applier.machine.state.clocks())  # of before this process started, and of snapshots
        clock.leading(role is Role.LEADER)
        if role is Role.LEADER:
            self.heartbeats.lead()
            self._heard.clear()
            self._duties = asyncio.get_running_loop().create_task(self._lead())
            self._note_failover()

    def _note_failover(self) -> None:
        silent_s = asyncio.get_running_loop().time() - self._driver.leader_heard_at
        self.changes += 1
        self.failed_over_ns = time.time_ns()
        self.leaderless_ms = int(silent_s * 1000)

    async def _lead(self) -> None:
        await self._quietly(self._driver.read(lambda: None))
        if not self._has_cluster():
            await self._quietly(self._driver.propose(internal("MakeCluster"), self._founding))
        while True:
            self._propose_due()
            await asyncio.sleep(ROUND_S)

    def _has_cluster(self) -> bool:
        machine = self._applier.machine
        try:
            machine.cluster_state.view(machine.tx)
        except errors.Unavailable:
            return False
        return True

    def _propose_due(self) -> None:
        if not self._has_cluster():
            return
        machine, propose = self._applier.machine, self._propose
        if self._heard:
            heard, self._heard = sorted(self._heard), set()
            propose("KeepSessions", KeepSessionsRequest(sessions=heard))
        if machine.sessions.overdue(self._driver.proposals.clock.read()[1]):
            propose("ExpireSessions", ExpireSessionsRequest())
        view = machine.cluster_state.view(machine.tx)
        for change in self.heartbeats.liveness.tick(int(time.monotonic() * 1000), view.nodes.values()):
            propose("SetNodeState", ChangeNodeRequest(node=change.node, state=change.after), change.before)
        if machine.cluster_state.sweep_pending(machine.tx):
            propose("SweepReclaim", Empty())

    def _propose(self, name: str, request: Message, *inputs: int) -> None:
        self._driver.propose(internal(name), request, inputs)  # refused or lost: the next round asks anew

    async def _quietly(self, deferred: Deferred) -> Any:
        try:
            return await deferred
        except errors.BlockyardError:
            return None
