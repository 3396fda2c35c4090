"""What an operator can set, per kind of process: frozen records, read once and passed down by value.

One TOML file can serve every process of a machine: each kind takes the sections it has and checks the rest. A key's
unit is the end of its name. A key is added only when an operator has a reason to turn it.
"""

import ipaddress
import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from blockyard.proto import settings_reader
from blockyard.proto.ids import parse_cluster_id
from blockyard.proto.settings_reader import Broken, Record, Section, SettingsError
from msgspec import Meta

__all__ = ["ClientSettings", "MetaserverSettings", "SettingsError", "StorageNodeSettings", "load"]

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

Text = Annotated[str, Meta(min_length=1)]
FounderText = Annotated[str, Meta(pattern=r"^[0-9]+@(\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):[0-9]{1,5}(/witness)?$")]
HostPort = Annotated[str, Meta(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):[0-9]{1,5}$")]
Port = Annotated[int, Meta(ge=0, le=65535)]
Percent = Annotated[int, Meta(ge=0, le=100)]
Milliseconds = Annotated[int, Meta(ge=1, le=3_600_000)]
Seconds = Annotated[int, Meta(ge=1, le=100_000_000)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 62)]


class Cluster(Section, frozen=True, kw_only=True):
    """Which cluster, and where its metadata members are."""

    id: str = ""  # 'c' and 32 hexadecimal digits; empty: take it from the first member reached
    metaservers: tuple[HostPort, ...]  # lane addresses of the members, in any order

    def broken(self) -> Iterator[Broken]:
        if not self.metaservers:
            yield Broken("metaservers", (), "at least one host:port")
        for each in self.metaservers:
            if not 1 <= int(each.rpartition(":")[2]) <= 65535:
                yield Broken("metaservers", each, "ports from 1 to 65535")
        try:
            if self.id:
                parse_cluster_id(self.id)
        except ValueError:
            yield Broken("id", self.id, "'c' and 32 hexadecimal digits, or empty")


class Listen(Section, frozen=True, kw_only=True):
    """Where a server listens, and the host name under which others reach it."""

    host: Text = "0.0.0.0"
    advertise_host: str = ""  # empty: `host`, which then must be one that others can reach
    lane_port: Port = 7701
    grpc_port: Port = 7702
    unix_path: str = ""  # the lane's Unix socket; empty: none

    def broken(self) -> Iterator[Broken]:
        if self.lane_port == self.grpc_port != 0:
            yield Broken("grpc_port", self.grpc_port, "another port than listen.lane_port")
        if not self.advertise_host and _is_any_address(self.host):
            yield Broken("advertise_host", "", f"the name others reach this machine by, as listen.host is {self.host}")
        if len(os.fsencode(self.unix_path)) > 107:
            yield Broken("unix_path", self.unix_path, "at most 107 bytes (Linux's limit for a Unix socket)")


class Lane(Section, frozen=True, kw_only=True):
    """Limits and waits of the lane."""

    message_limit_bytes: Annotated[int, Meta(ge=64 * KIB, le=GIB)] = 16 * MIB
    payload_limit_bytes: Annotated[int, Meta(ge=MIB, le=GIB)] = 64 * MIB
    in_flight_limit: Count = 1024  # requests of one connection that a server works on at a time
    connect_timeout_ms: Milliseconds = 2_000
    default_deadline_ms: Milliseconds = 30_000


class Door(Section, frozen=True, kw_only=True):
    """Limits and waits of gRPC."""

    message_limit_bytes: Annotated[int, Meta(ge=64 * KIB, le=GIB)] = 16 * MIB
    default_deadline_ms: Milliseconds = 30_000
    keepalive_ms: Annotated[int, Meta(ge=1_000, le=3_600_000)] = 30_000
    reflection: bool = True


class Raft(Section, frozen=True, kw_only=True):
    """Times of the consensus among metadata members."""

    tick_ms: Annotated[int, Meta(ge=1, le=1_000)] = 10
    heartbeat_ms: Milliseconds = 50
    election_timeout_ms: Milliseconds = 500
    witness_election_timeout_ms: Milliseconds = 1_500
    suspect_after_ms: Milliseconds = 300
    snapshot_after_entries: Count = 1_000_000

    def broken(self) -> Iterator[Broken]:
        if self.heartbeat_ms < self.tick_ms:
            yield Broken("heartbeat_ms", self.heartbeat_ms, f"at least raft.tick_ms ({self.tick_ms})")
        if self.election_timeout_ms < 5 * self.heartbeat_ms:
            least = f"at least 5 × raft.heartbeat_ms ({5 * self.heartbeat_ms})"
            yield Broken("election_timeout_ms", self.election_timeout_ms, least)
        if self.witness_election_timeout_ms < 2 * self.election_timeout_ms:
            least = f"at least 2 × raft.election_timeout_ms ({2 * self.election_timeout_ms})"
            yield Broken("witness_election_timeout_ms", self.witness_election_timeout_ms, least)
        if self.suspect_after_ms < 3 * self.heartbeat_ms:
            least = f"at least 3 × raft.heartbeat_ms ({3 * self.heartbeat_ms})"
            yield Broken("suspect_after_ms", self.suspect_after_ms, least)


class Placement(Section, frozen=True, kw_only=True):
    """How a new cluster places replicas, and when it gives up on a node."""

    replicas: Annotated[int, Meta(ge=1, le=16)] = 3
    write_min: Annotated[int, Meta(ge=1, le=16)] = 2
    placement_groups: Annotated[int, Meta(ge=1, le=65536)] = 1024
    scatter_width: Annotated[int, Meta(ge=1, le=10_000)] = 12
    heartbeat_ms: Milliseconds = 1_000
    down_after_ms: Milliseconds = 3_000
    out_after_s: Seconds = 600

    def broken(self) -> Iterator[Broken]:
        if self.write_min > self.replicas:
            yield Broken("write_min", self.write_min, f"at most placement.replicas ({self.replicas})")
        if self.placement_groups & self.placement_groups - 1:
            yield Broken("placement_groups", self.placement_groups, "a power of two")
        if self.scatter_width < self.replicas - 1:
            least = f"at least placement.replicas - 1 ({self.replicas - 1})"
            yield Broken("scatter_width", self.scatter_width, least)
        if self.down_after_ms < 2 * self.heartbeat_ms:
            least = f"at least 2 × placement.heartbeat_ms ({2 * self.heartbeat_ms})"
            yield Broken("down_after_ms", self.down_after_ms, least)
        if self.out_after_s * 1000 < self.down_after_ms:
            yield Broken("out_after_s", self.out_after_s, f"at least placement.down_after_ms ({self.down_after_ms})")


class Metaserver(Section, frozen=True, kw_only=True):
    """One metadata member."""

    member: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]  # member id, never used again after its disk was lost
    role: Literal["data", "witness"] = "data"
    group: tuple[FounderText, ...]  # the group's first members: ID@HOST:PORT, and /witness after one of them
    data_dir: Text
    read_only_below_bytes: Bytes = 512 * MIB  # free bytes below which the group takes only deletes


class StorageNode(Section, frozen=True, kw_only=True):
    """One disk of a storage machine."""

    name: Text
    zone: Text = "default"
    data_dir: Text
    capacity_bytes: Bytes = 0  # 0: what the disk has
    read_only_above_percent: Percent = 95
    small_block_limit_bytes: Annotated[int, Meta(ge=0, le=64 * MIB)] = 256 * KIB
    pack_size_bytes: Annotated[int, Meta(ge=MIB, le=64 * GIB)] = GIB
    pack_live_percent: Percent = 50  # packs with a smaller live share are rewritten
    scrub_period_s: Seconds = 14 * 86_400
    repair_bytes_per_second: Bytes = 200 * MIB  # 0: as fast as it goes

    def broken(self) -> Iterator[Broken]:
        if self.pack_size_bytes < self.small_block_limit_bytes:
            least = f"at least storagenode.small_block_limit_bytes ({self.small_block_limit_bytes})"
            yield Broken("pack_size_bytes", self.pack_size_bytes, least)


class Client(Section, frozen=True, kw_only=True):
    """One client: a mount, a command or a Python program."""

    zone: str = ""  # replicas of this zone are read first
    deadline_ms: Milliseconds = 60_000  # of one user operation, all retries included
    session_heartbeat_ms: Milliseconds = 5_000
    block_size_bytes: Annotated[int, Meta(ge=64 * KIB, le=64 * MIB)] = 64 * MIB
    write_buffer_bytes: Annotated[int, Meta(ge=MIB, le=64 * GIB)] = 256 * MIB
    read_cache_bytes: Bytes = 256 * MIB
    attribute_cache_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 1_000


class Logs(Section, frozen=True, kw_only=True):
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console", "auto"] = "auto"  # auto: console on a terminal, JSON elsewhere


class Metrics(Section, frozen=True, kw_only=True):
    """Where Prometheus fetches metrics."""

    enabled: bool = True
    host: Text = "0.0.0.0"
    port: Port = 7703


class MetaserverSettings(Record, frozen=True, kw_only=True):
    """Everything a metadata member is told."""

    cluster: Cluster
    metaserver: Metaserver
    listen: Listen
    raft: Raft
    placement: Placement
    lane: Lane
    door: Door
    logs: Logs
    metrics: Metrics

    def broken(self) -> Iterator[Broken]:
        yield from _ports(self.listen, self.metrics)


class StorageNodeSettings(Record, frozen=True, kw_only=True):
    """Everything a storage node is told."""

    cluster: Cluster
    storagenode: StorageNode
    listen: Listen
    lane: Lane
    door: Door
    logs: Logs
    metrics: Metrics

    def broken(self) -> Iterator[Broken]:
        yield from _ports(self.listen, self.metrics)


class ClientSettings(Record, frozen=True, kw_only=True):
    """Everything a client is told."""

    cluster: Cluster
    client: Client
    lane: Lane
    door: Door
    logs: Logs
    metrics: Metrics


KINDS: Final[tuple[type[Record], ...]] = (MetaserverSettings, StorageNodeSettings, ClientSettings)
SECTIONS: Final[dict[str, type[Section]]] = {
    each.name: each.type for kind in KINDS for each in msgspec.structs.fields(kind)
}

R = TypeVar("R", bound=Record)


def load(kind: type[R], path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> R:
    """Return the settings of a process of `kind` from the TOML file at `path` (None: no file) and `environ`.

    `BLOCKYARD_SECTION__KEY=value` overrides the file; lists are separated by commas there. Raises SettingsError, whose
    text has one line for every problem found. Reads the file and touches nothing else.
    """
    return settings_reader.read(kind, SECTIONS, path, environ)


def as_builtins(settings: Record) -> dict[str, Any]:
    """Return the settings as nested dicts, for a log entry or `blockyard settings`."""
    return dict(msgspec.to_builtins(settings))


def _ports(listen: Listen, metrics: Metrics) -> Iterator[Broken]:
    if metrics.enabled and metrics.port != 0 and metrics.port in (listen.lane_port, listen.grpc_port):
        yield Broken("metrics.port", metrics.port, "another port than listen.lane_port and listen.grpc_port")


def _is_any_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
