"""The MetaAdmin service: how the group is, and what operators do to it. Served by every member, witness included."""

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from blockyard.metaserver import raft
from blockyard.metaserver.member import check_process, wire
from blockyard.metaserver.member.applier import Applier
from blockyard.metaserver.member.driver import Driver
from blockyard.metaserver.member.leadership import Leadership
from blockyard.metaserver.member.peers import Peers
from blockyard.metaserver.member.redirect import not_leader
from blockyard.metaserver.member.snapshots import Snapshots
from blockyard.metaserver.namespace.state import INODES
from blockyard.metaserver.raft import MemberId, MembershipChange, Role
from blockyard.metaserver.raft.membership import ChangeKind
from blockyard.metaserver.raft.progress import ProgressState
from blockyard.metaserver.storage.space import free_bytes
from blockyard.proto import errors
from blockyard.proto import raft_pb2 as pb
from blockyard.proto.call import CallContext
from blockyard.proto.common_pb2 import Empty

CATCH_UP_S = 600.0
POLL_S = 0.05
_ROLES = {
    Role.LEADER: pb.ROLE_LEADER,
    Role.FOLLOWER: pb.ROLE_FOLLOWER,
    Role.CANDIDATE: pb.ROLE_CANDIDATE,
    Role.PRE_CANDIDATE: pb.ROLE_CANDIDATE,
}


class AdminService:
    """Every method of the contract's `MetaAdmin`. `applier`, `leadership` and `snapshots` are None on a witness."""

    def __init__(
        self,
        driver: Driver,
        peers: Peers,
        cluster: str,
        directory: Path,
        tick_ms: int,
        read_only: Callable[[], bool],
        applier: Applier | None,
        leadership: Leadership | None,
        snapshots: Snapshots | None,
    ) -> None:
        self._driver = driver
        self._peers = peers
        self._cluster = cluster
        self._directory = directory
        self._tick_ms = tick_ms
        self._read_only = read_only
        self._applier = applier
        self._leadership = leadership
        self._snapshots = snapshots

    # ------------------------------------------------------------------------------------------ looking

    def Status(self, request: pb.MetaStatusRequest, context: CallContext) -> pb.MetaStatusReply:
        """Return how this member is, and as leader how it sees the others."""
        core = self._driver.core
        reply = pb.MetaStatusReply(
            cluster=self._cluster,
            member=core.id,
            role=_ROLES[core.role],
            term=core.term,
            leader=core.leader,
            first_index=core.log.base.index + 1,
            last_index=core.log.last_index,
            commit_index=core.commit,
            members=[self._member(member.id) for member in core.membership.members],
            witness=self._witness(),
            free_bytes=free_bytes(self._directory),
            read_only=self._read_only(),
            version=importlib.metadata.version("blockyard"),
        )
        if self._applier is not None and self._leadership is not None:
            machine = self._applier.machine
            reply.applied_index = self._applier.applied
            reply.inodes = machine.state.counters.get(INODES) or 0
            reply.sessions = len(machine.sessions.known)
            reply.last_failover_ns = self._leadership.failed_over_ns
            reply.last_failover_ms = self._leadership.leaderless_ms
        return reply

    def _member(self, member: MemberId) -> pb.MemberStatus:
        core = self._driver.core
        kind = core.membership.kind(member)
        assert kind is not None
        known = self._peers.book.get(member, pb.GroupMember(id=member))
        described = pb.GroupMember(id=member, kind=wire.kind_to_wire(kind), address=known.address, name=known.name)
        status = pb.MemberStatus(member=described)
        if member == core.id:
            status.role, status.match_index, status.reachable = _ROLES[core.role], core.log.last_index, True
        elif member == core.leader:
            status.role, status.reachable = pb.ROLE_LEADER, True
        elif core.role is Role.LEADER and member in core.progress:
            peer = core.progress[member]
            status.role, status.match_index = pb.ROLE_FOLLOWER, peer.match
            status.silent_ms = peer.silent_ticks * self._tick_ms
            status.reachable = status.silent_ms < 1000
        status.lag_entries = max(0, core.log.last_index - status.match_index) if core.role is Role.LEADER else 0
        return status

    def _witness(self) -> pb.WitnessState:
        core = self._driver.core
        witness = core.membership.witness
        if witness is None:
            return pb.WITNESS_NONE
        peer = core.progress.get(witness)
        engaged = core.role is Role.LEADER and peer is not None and peer.state is not ProgressState.PARKED
        return pb.WITNESS_ENGAGED if engaged else pb.WITNESS_PARKED

    # ------------------------------------------------------------------------------------------ changing

    def Transfer(self, request: pb.TransferRequest, context: CallContext) -> Empty:
        """Hand leadership over."""
        core = self._driver.core
        self._check_leads()
        others = [member for member in core.membership.data_members if member != core.id]
        target = MemberId(request.member) if request.member else next(iter(others), None)
        if target is None:
            raise errors.InvalidArgument("there is no other data member to hand leadership to")
        try:
            core.transfer_leadership(target)
        except raft.Refused as refusal:
            raise errors.InvalidArgument(str(refusal)) from refusal
        self._driver.step([])
        return Empty()

    async def ChangeMembership(
        self, request: pb.ChangeMembershipRequest, context: CallContext
    ) -> pb.ChangeMembershipReply:
        """Add, remove or replace a member, one safe step at a time; answers when it is done."""
        self._check_leads()
        if request.action == pb.MEMBERSHIP_REMOVE:
            await self._change(ChangeKind.REMOVE, request.member.id)
        elif request.member.kind == pb.MEMBER_WITNESS:
            await self._add_witness(request)
        else:
            await self._add_data(request)
        return pb.ChangeMembershipReply(membership=self._membership())

    async def _add_data(self, request: pb.ChangeMembershipRequest) -> None:
        member = MemberId(request.member.id)
        self._learn(request.member)
        if self._driver.core.membership.kind(member) is None:
            await self._change(ChangeKind.ADD_LEARNER, member)
        await self._until(lambda: self._has_caught_up(member), f"member {int(member)} catches up")
        await self._change(ChangeKind.PROMOTE, member)
        if request.action == pb.MEMBERSHIP_REPLACE:
            await self._change(ChangeKind.REMOVE, request.replaces)

    async def _add_witness(self, request: pb.ChangeMembershipRequest) -> None:
        self._learn(request.member)
        if request.action == pb.MEMBERSHIP_REPLACE:
            await self._change(ChangeKind.REMOVE, request.replaces)
        await self._change(ChangeKind.ADD_WITNESS, request.member.id)

    def _learn(self, member: pb.GroupMember) -> None:
        if not member.id or not member.address.host or not member.address.lane_port:
            raise errors.InvalidArgument("a new member needs an id, a host and a lane port")
        self._peers.learn([member], MemberId(member.id))

    async def _change(self, kind: ChangeKind, member: int) -> None:
        core, deadline = self._driver.core, asyncio.get_running_loop().time() + CATCH_UP_S
        while True:
            self._check_leads()
            try:
                index = core.propose_membership(MembershipChange(kind, MemberId(member)))
                break
            except raft.Busy as busy:
                if asyncio.get_running_loop().time() > deadline:
                    raise errors.Overloaded(str(busy)) from busy
                await asyncio.sleep(POLL_S)
            except (raft.ChangeRefused, raft.InvalidMembership) as refusal:
                raise errors.InvalidArgument(str(refusal)) from refusal
        self._driver.step([])
        await self._until(lambda: core.commit >= index, "the change is agreed on")

    def _has_caught_up(self, member: MemberId) -> bool:
        core = self._driver.core
        peer = core.progress.get(member)
        return peer is not None and peer.match >= core.commit

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = asyncio.get_running_loop().time() + CATCH_UP_S
        while not condition():
            self._check_leads()
            if asyncio.get_running_loop().time() > deadline:
                raise errors.DeadlineExceeded(f"gave up waiting until {what}")
            await asyncio.sleep(POLL_S)

    def _membership(self) -> pb.Membership:
        core = self._driver.core
        return pb.Membership(members=[self._member(member.id).member for member in core.membership.members])

    def _check_leads(self) -> None:
        if self._driver.core.role is not Role.LEADER or self._leadership is None:
            raise not_leader(self._driver, self._peers)

    # ------------------------------------------------------------------------------------------ copies, checks

    async def TakeSnapshot(self, request: pb.TakeSnapshotRequest, context: CallContext) -> pb.TakeSnapshotReply:
        """Make a checkpoint of this member's namespace."""
        checkpoint = await self._need_snapshots().take()
        return pb.TakeSnapshotReply(index=checkpoint.base.index, bytes=checkpoint.size_bytes())

    async def Backup(self, request: pb.BackupRequest, context: CallContext) -> AsyncIterator[pb.SnapshotPart]:
        """Stream the namespace as it is at one index."""
        snapshots = self._need_snapshots()
        async with snapshots.fresh() as checkpoint:
            async for part in snapshots.parts(checkpoint):
                yield part

    async def Fsck(self, request: pb.MetaFsckRequest, context: CallContext) -> AsyncIterator[pb.MetaFsckReply]:
        """Check the namespace at one index, and hash it when asked to; work goes on meanwhile."""
        snapshots = self._need_snapshots()
        async with snapshots.fresh() as checkpoint:
            async for reply in check_process.run(checkpoint, self._cluster, request.hash):
                yield reply

    def _need_snapshots(self) -> Snapshots:
        if self._snapshots is None:
            raise errors.NotSupported("a witness keeps no namespace; ask a data member")
        return self._snapshots
