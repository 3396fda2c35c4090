from blockyard.proto import common_pb2 as _common_pb2
from blockyard.proto import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_UNSPECIFIED: _ClassVar[NodeState]
    NODE_UP: _ClassVar[NodeState]
    NODE_DOWN: _ClassVar[NodeState]
    NODE_OUT: _ClassVar[NodeState]
    NODE_DRAINING: _ClassVar[NodeState]
    NODE_REMOVED: _ClassVar[NodeState]

class BlockFate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLOCK_UNKNOWN: _ClassVar[BlockFate]
    BLOCK_LIVE: _ClassVar[BlockFate]
    BLOCK_LEASED: _ClassVar[BlockFate]
    BLOCK_DEAD: _ClassVar[BlockFate]
NODE_UNSPECIFIED: NodeState
NODE_UP: NodeState
NODE_DOWN: NodeState
NODE_OUT: NodeState
NODE_DRAINING: NodeState
NODE_REMOVED: NodeState
BLOCK_UNKNOWN: BlockFate
BLOCK_LIVE: BlockFate
BLOCK_LEASED: BlockFate
BLOCK_DEAD: BlockFate

class NodeRecord(_message.Message):
    __slots__ = ("id", "name", "zone", "address", "incarnation", "state", "capacity_bytes", "weight")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    zone: str
    address: _common_pb2.Address
    incarnation: int
    state: NodeState
    capacity_bytes: int
    weight: int
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., zone: _Optional[str] = ..., address: _Optional[_Union[_common_pb2.Address, _Mapping]] = ..., incarnation: _Optional[int] = ..., state: _Optional[_Union[NodeState, str]] = ..., capacity_bytes: _Optional[int] = ..., weight: _Optional[int] = ...) -> None: ...

class PlacementGroupRecord(_message.Message):
    __slots__ = ("nodes", "former_nodes")
    NODES_FIELD_NUMBER: _ClassVar[int]
    FORMER_NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[int]
    former_nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, nodes: _Optional[_Iterable[int]] = ..., former_nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class ClusterMap(_message.Message):
    __slots__ = ("epoch", "cluster", "replicas", "write_min", "nodes", "groups")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    WRITE_MIN_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    cluster: str
    replicas: int
    write_min: int
    nodes: _containers.RepeatedCompositeFieldContainer[NodeRecord]
    groups: _containers.RepeatedCompositeFieldContainer[PlacementGroupRecord]
    def __init__(self, epoch: _Optional[int] = ..., cluster: _Optional[str] = ..., replicas: _Optional[int] = ..., write_min: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[NodeRecord, _Mapping]]] = ..., groups: _Optional[_Iterable[_Union[PlacementGroupRecord, _Mapping]]] = ...) -> None: ...

class RegisterNodeRequest(_message.Message):
    __slots__ = ("node", "cluster", "starts")
    NODE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    node: NodeRecord
    cluster: str
    starts: int
    def __init__(self, node: _Optional[_Union[NodeRecord, _Mapping]] = ..., cluster: _Optional[str] = ..., starts: _Optional[int] = ...) -> None: ...

class RegisterNodeReply(_message.Message):
    __slots__ = ("id", "cluster", "map", "heartbeat_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
    id: int
    cluster: str
    map: ClusterMap
    heartbeat_ms: int
    def __init__(self, id: _Optional[int] = ..., cluster: _Optional[str] = ..., map: _Optional[_Union[ClusterMap, _Mapping]] = ..., heartbeat_ms: _Optional[int] = ...) -> None: ...

class NodeHeartbeatRequest(_message.Message):
    __slots__ = ("node", "incarnation", "map_epoch", "used_bytes", "free_bytes", "blocks", "requests", "bytes_per_second", "repair_blocks", "repair_bytes", "repair_bytes_per_second", "quarantined_blocks", "sync_us", "leaving", "complete_groups", "starts")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    REPAIR_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    REPAIR_BYTES_FIELD_NUMBER: _ClassVar[int]
    REPAIR_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    SYNC_US_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_GROUPS_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    node: int
    incarnation: int
    map_epoch: int
    used_bytes: int
    free_bytes: int
    blocks: int
    requests: int
    bytes_per_second: int
    repair_blocks: int
    repair_bytes: int
    repair_bytes_per_second: int
    quarantined_blocks: int
    sync_us: int
    leaving: bool
    complete_groups: _containers.RepeatedScalarFieldContainer[int]
    starts: int
    def __init__(self, node: _Optional[int] = ..., incarnation: _Optional[int] = ..., map_epoch: _Optional[int] = ..., used_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., blocks: _Optional[int] = ..., requests: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., repair_blocks: _Optional[int] = ..., repair_bytes: _Optional[int] = ..., repair_bytes_per_second: _Optional[int] = ..., quarantined_blocks: _Optional[int] = ..., sync_us: _Optional[int] = ..., leaving: _Optional[bool] = ..., complete_groups: _Optional[_Iterable[int]] = ..., starts: _Optional[int] = ...) -> None: ...

class NodeHeartbeatReply(_message.Message):
    __slots__ = ("map_epoch", "state", "reclaim", "suspect_blocks")
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RECLAIM_FIELD_NUMBER: _ClassVar[int]
    SUSPECT_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    map_epoch: int
    state: NodeState
    reclaim: bool
    suspect_blocks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, map_epoch: _Optional[int] = ..., state: _Optional[_Union[NodeState, str]] = ..., reclaim: _Optional[bool] = ..., suspect_blocks: _Optional[_Iterable[int]] = ...) -> None: ...

class GetClusterMapRequest(_message.Message):
    __slots__ = ("known_epoch",)
    KNOWN_EPOCH_FIELD_NUMBER: _ClassVar[int]
    known_epoch: int
    def __init__(self, known_epoch: _Optional[int] = ...) -> None: ...

class GetClusterMapReply(_message.Message):
    __slots__ = ("epoch", "map")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    map: ClusterMap
    def __init__(self, epoch: _Optional[int] = ..., map: _Optional[_Union[ClusterMap, _Mapping]] = ...) -> None: ...

class BlockIdRange(_message.Message):
    __slots__ = ("group", "first_sequence", "count")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    group: int
    first_sequence: int
    count: int
    def __init__(self, group: _Optional[int] = ..., first_sequence: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class LeaseBlockIdsRequest(_message.Message):
    __slots__ = ("request", "count", "near_node", "avoid_nodes")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NEAR_NODE_FIELD_NUMBER: _ClassVar[int]
    AVOID_NODES_FIELD_NUMBER: _ClassVar[int]
    request: _common_pb2.RequestId
    count: int
    near_node: int
    avoid_nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., count: _Optional[int] = ..., near_node: _Optional[int] = ..., avoid_nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class LeaseBlockIdsReply(_message.Message):
    __slots__ = ("ranges", "map_epoch")
    RANGES_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[BlockIdRange]
    map_epoch: int
    def __init__(self, ranges: _Optional[_Iterable[_Union[BlockIdRange, _Mapping]]] = ..., map_epoch: _Optional[int] = ...) -> None: ...

class CheckBlocksRequest(_message.Message):
    __slots__ = ("node", "incarnation", "blocks")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    node: int
    incarnation: int
    blocks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, node: _Optional[int] = ..., incarnation: _Optional[int] = ..., blocks: _Optional[_Iterable[int]] = ...) -> None: ...

class CheckBlocksReply(_message.Message):
    __slots__ = ("fates",)
    FATES_FIELD_NUMBER: _ClassVar[int]
    fates: _containers.RepeatedScalarFieldContainer[BlockFate]
    def __init__(self, fates: _Optional[_Iterable[_Union[BlockFate, str]]] = ...) -> None: ...

class ListReclaimRequest(_message.Message):
    __slots__ = ("node", "incarnation", "after", "limit")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    node: int
    incarnation: int
    after: int
    limit: int
    def __init__(self, node: _Optional[int] = ..., incarnation: _Optional[int] = ..., after: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListReclaimReply(_message.Message):
    __slots__ = ("blocks", "end")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedScalarFieldContainer[int]
    end: bool
    def __init__(self, blocks: _Optional[_Iterable[int]] = ..., end: _Optional[bool] = ...) -> None: ...

class ConfirmReclaimRequest(_message.Message):
    __slots__ = ("node", "incarnation", "blocks")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    node: int
    incarnation: int
    blocks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, node: _Optional[int] = ..., incarnation: _Optional[int] = ..., blocks: _Optional[_Iterable[int]] = ...) -> None: ...

class ReportReplicaRequest(_message.Message):
    __slots__ = ("block", "node", "found")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    block: int
    node: int
    found: str
    def __init__(self, block: _Optional[int] = ..., node: _Optional[int] = ..., found: _Optional[str] = ...) -> None: ...

class ChangeNodeRequest(_message.Message):
    __slots__ = ("node", "state", "weight", "force")
    NODE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    node: int
    state: NodeState
    weight: int
    force: bool
    def __init__(self, node: _Optional[int] = ..., state: _Optional[_Union[NodeState, str]] = ..., weight: _Optional[int] = ..., force: _Optional[bool] = ...) -> None: ...

class ClusterStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("node", "heartbeat", "silent_ms")
    NODE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    SILENT_MS_FIELD_NUMBER: _ClassVar[int]
    node: NodeRecord
    heartbeat: NodeHeartbeatRequest
    silent_ms: int
    def __init__(self, node: _Optional[_Union[NodeRecord, _Mapping]] = ..., heartbeat: _Optional[_Union[NodeHeartbeatRequest, _Mapping]] = ..., silent_ms: _Optional[int] = ...) -> None: ...

class ClusterStatusReply(_message.Message):
    __slots__ = ("map_epoch", "nodes", "degraded_groups", "paused_groups", "groups", "reclaim_blocks", "crowded_chunks", "compacted_chunks", "compacted_bytes")
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_GROUPS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_GROUPS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    RECLAIM_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    CROWDED_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    map_epoch: int
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    degraded_groups: int
    paused_groups: int
    groups: int
    reclaim_blocks: int
    crowded_chunks: int
    compacted_chunks: int
    compacted_bytes: int
    def __init__(self, map_epoch: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., degraded_groups: _Optional[int] = ..., paused_groups: _Optional[int] = ..., groups: _Optional[int] = ..., reclaim_blocks: _Optional[int] = ..., crowded_chunks: _Optional[int] = ..., compacted_chunks: _Optional[int] = ..., compacted_bytes: _Optional[int] = ...) -> None: ...
