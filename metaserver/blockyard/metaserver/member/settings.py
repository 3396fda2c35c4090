"""What a member derives from its settings."""

from blockyard.metaserver.member.address_book import parse_member
from blockyard.metaserver.raft import MemberId, Membership, RaftConfig
from blockyard.proto.internal_pb2 import MakeClusterRequest
from blockyard.proto.raft_pb2 import MEMBER_WITNESS, GroupMember
from blockyard.proto.settings import MetaserverSettings, Raft


def raft_config(raft: Raft, member: MemberId, witness: bool) -> RaftConfig:
    """Return the core's settings: milliseconds become ticks."""
    return RaftConfig(
        id=member,
        witness=witness,
        heartbeat_interval_ticks=max(1, raft.heartbeat_ms // raft.tick_ms),
        election_timeout_ticks=raft.election_timeout_ms // raft.tick_ms,
        suspect_after_ticks=raft.suspect_after_ms // raft.tick_ms,
        park_after_ticks=max(1, 2 * raft.heartbeat_ms // raft.tick_ms),
        witness_timeout_factor=raft.witness_election_timeout_ms // raft.election_timeout_ms,
    )


def member_id(settings: MetaserverSettings) -> MemberId:
    """Return this member's id."""
    return MemberId(settings.metaserver.member)


def founders(settings: MetaserverSettings) -> list[GroupMember]:
    """Return the group's first members."""
    return [parse_member(text) for text in settings.metaserver.group]


def founding_membership(settings: MetaserverSettings) -> Membership:
    """Return the membership that every first member starts from; raises InvalidMembership."""
    members = founders(settings)
    data = [member.id for member in members if member.kind != MEMBER_WITNESS]
    witness = next((member.id for member in members if member.kind == MEMBER_WITNESS), None)
    return Membership.of(data, witness)


def founding_cluster(settings: MetaserverSettings, seed: int) -> MakeClusterRequest:
    """Return the first command of a new group."""
    placement = settings.placement
    return MakeClusterRequest(
        cluster=settings.cluster.id,
        seed=seed,
        replicas=placement.replicas,
        write_min=placement.write_min,
        placement_groups=placement.placement_groups,
        scatter_width=placement.scatter_width,
    )
