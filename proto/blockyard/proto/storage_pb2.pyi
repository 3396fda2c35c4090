from blockyard.proto import common_pb2 as _common_pb2
from blockyard.proto import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PageChecksums(_message.Message):
    __slots__ = ("page_bytes", "crc32c")
    PAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    page_bytes: int
    crc32c: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, page_bytes: _Optional[int] = ..., crc32c: _Optional[_Iterable[int]] = ...) -> None: ...

class BlockToken(_message.Message):
    __slots__ = ("block", "rights", "session", "expires_ns", "proof")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    RIGHTS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    block: int
    rights: int
    session: int
    expires_ns: int
    proof: bytes
    def __init__(self, block: _Optional[int] = ..., rights: _Optional[int] = ..., session: _Optional[int] = ..., expires_ns: _Optional[int] = ..., proof: _Optional[bytes] = ...) -> None: ...

class ChainNode(_message.Message):
    __slots__ = ("node", "address")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    node: int
    address: _common_pb2.Address
    def __init__(self, node: _Optional[int] = ..., address: _Optional[_Union[_common_pb2.Address, _Mapping]] = ...) -> None: ...

class WriteOpen(_message.Message):
    __slots__ = ("block", "chain", "durable", "expected_bytes", "write_min", "map_epoch", "token", "session", "resume", "failed_nodes", "precedence", "cold")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    WRITE_MIN_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    FAILED_NODES_FIELD_NUMBER: _ClassVar[int]
    PRECEDENCE_FIELD_NUMBER: _ClassVar[int]
    COLD_FIELD_NUMBER: _ClassVar[int]
    block: int
    chain: _containers.RepeatedCompositeFieldContainer[ChainNode]
    durable: bool
    expected_bytes: int
    write_min: int
    map_epoch: int
    token: BlockToken
    session: int
    resume: bool
    failed_nodes: _containers.RepeatedScalarFieldContainer[int]
    precedence: _containers.RepeatedScalarFieldContainer[int]
    cold: bool
    def __init__(self, block: _Optional[int] = ..., chain: _Optional[_Iterable[_Union[ChainNode, _Mapping]]] = ..., durable: _Optional[bool] = ..., expected_bytes: _Optional[int] = ..., write_min: _Optional[int] = ..., map_epoch: _Optional[int] = ..., token: _Optional[_Union[BlockToken, _Mapping]] = ..., session: _Optional[int] = ..., resume: _Optional[bool] = ..., failed_nodes: _Optional[_Iterable[int]] = ..., precedence: _Optional[_Iterable[int]] = ..., cold: _Optional[bool] = ...) -> None: ...

class WriteData(_message.Message):
    __slots__ = ("offset", "checksums")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    offset: int
    checksums: PageChecksums
    def __init__(self, offset: _Optional[int] = ..., checksums: _Optional[_Union[PageChecksums, _Mapping]] = ...) -> None: ...

class WriteSeal(_message.Message):
    __slots__ = ("length", "crc32c")
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    length: int
    crc32c: int
    def __init__(self, length: _Optional[int] = ..., crc32c: _Optional[int] = ...) -> None: ...

class WriteBlockRequest(_message.Message):
    __slots__ = ("open", "append", "seal", "abort", "data")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    ABORT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    open: WriteOpen
    append: WriteData
    seal: WriteSeal
    abort: _common_pb2.Empty
    data: bytes
    def __init__(self, open: _Optional[_Union[WriteOpen, _Mapping]] = ..., append: _Optional[_Union[WriteData, _Mapping]] = ..., seal: _Optional[_Union[WriteSeal, _Mapping]] = ..., abort: _Optional[_Union[_common_pb2.Empty, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class WriteBlockReply(_message.Message):
    __slots__ = ("acknowledged", "failed_nodes", "sealed", "nodes", "received")
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    FAILED_NODES_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    acknowledged: int
    failed_nodes: _containers.RepeatedScalarFieldContainer[int]
    sealed: bool
    nodes: _containers.RepeatedScalarFieldContainer[int]
    received: int
    def __init__(self, acknowledged: _Optional[int] = ..., failed_nodes: _Optional[_Iterable[int]] = ..., sealed: _Optional[bool] = ..., nodes: _Optional[_Iterable[int]] = ..., received: _Optional[int] = ...) -> None: ...

class PutBlock(_message.Message):
    __slots__ = ("block", "length", "checksums")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    block: int
    length: int
    checksums: PageChecksums
    def __init__(self, block: _Optional[int] = ..., length: _Optional[int] = ..., checksums: _Optional[_Union[PageChecksums, _Mapping]] = ...) -> None: ...

class PutBlocksRequest(_message.Message):
    __slots__ = ("blocks", "chain", "durable", "write_min", "map_epoch", "session", "tokens", "data", "failed_nodes")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    WRITE_MIN_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FAILED_NODES_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[PutBlock]
    chain: _containers.RepeatedCompositeFieldContainer[ChainNode]
    durable: bool
    write_min: int
    map_epoch: int
    session: int
    tokens: _containers.RepeatedCompositeFieldContainer[BlockToken]
    data: bytes
    failed_nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, blocks: _Optional[_Iterable[_Union[PutBlock, _Mapping]]] = ..., chain: _Optional[_Iterable[_Union[ChainNode, _Mapping]]] = ..., durable: _Optional[bool] = ..., write_min: _Optional[int] = ..., map_epoch: _Optional[int] = ..., session: _Optional[int] = ..., tokens: _Optional[_Iterable[_Union[BlockToken, _Mapping]]] = ..., data: _Optional[bytes] = ..., failed_nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class PutBlocksReply(_message.Message):
    __slots__ = ("nodes", "failed_nodes")
    NODES_FIELD_NUMBER: _ClassVar[int]
    FAILED_NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[int]
    failed_nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, nodes: _Optional[_Iterable[int]] = ..., failed_nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class BlockRange(_message.Message):
    __slots__ = ("block", "offset", "length")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    block: int
    offset: int
    length: int
    def __init__(self, block: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class ReadBlocksRequest(_message.Message):
    __slots__ = ("ranges", "map_epoch", "tokens", "cold", "gathered")
    RANGES_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    COLD_FIELD_NUMBER: _ClassVar[int]
    GATHERED_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[BlockRange]
    map_epoch: int
    tokens: _containers.RepeatedCompositeFieldContainer[BlockToken]
    cold: bool
    gathered: bool
    def __init__(self, ranges: _Optional[_Iterable[_Union[BlockRange, _Mapping]]] = ..., map_epoch: _Optional[int] = ..., tokens: _Optional[_Iterable[_Union[BlockToken, _Mapping]]] = ..., cold: _Optional[bool] = ..., gathered: _Optional[bool] = ...) -> None: ...

class GatheredRuns(_message.Message):
    __slots__ = ("ranges", "offset", "length", "block_length", "crc32c", "errors")
    RANGES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    BLOCK_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedScalarFieldContainer[int]
    offset: _containers.RepeatedScalarFieldContainer[int]
    length: _containers.RepeatedScalarFieldContainer[int]
    block_length: _containers.RepeatedScalarFieldContainer[int]
    crc32c: _containers.RepeatedScalarFieldContainer[int]
    errors: _containers.RepeatedCompositeFieldContainer[_common_pb2.ErrorDetail]
    def __init__(self, ranges: _Optional[_Iterable[int]] = ..., offset: _Optional[_Iterable[int]] = ..., length: _Optional[_Iterable[int]] = ..., block_length: _Optional[_Iterable[int]] = ..., crc32c: _Optional[_Iterable[int]] = ..., errors: _Optional[_Iterable[_Union[_common_pb2.ErrorDetail, _Mapping]]] = ...) -> None: ...

class ReadBlocksReply(_message.Message):
    __slots__ = ("range", "offset", "length", "block_length", "checksums", "error", "data", "runs")
    RANGE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    BLOCK_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    range: int
    offset: int
    length: int
    block_length: int
    checksums: PageChecksums
    error: _common_pb2.ErrorDetail
    data: bytes
    runs: GatheredRuns
    def __init__(self, range: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., block_length: _Optional[int] = ..., checksums: _Optional[_Union[PageChecksums, _Mapping]] = ..., error: _Optional[_Union[_common_pb2.ErrorDetail, _Mapping]] = ..., data: _Optional[bytes] = ..., runs: _Optional[_Union[GatheredRuns, _Mapping]] = ...) -> None: ...

class OpenBlockRequest(_message.Message):
    __slots__ = ("block", "token")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    block: int
    token: BlockToken
    def __init__(self, block: _Optional[int] = ..., token: _Optional[_Union[BlockToken, _Mapping]] = ...) -> None: ...

class OpenBlockReply(_message.Message):
    __slots__ = ("file_offset", "length", "checksums")
    FILE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    file_offset: int
    length: int
    checksums: PageChecksums
    def __init__(self, file_offset: _Optional[int] = ..., length: _Optional[int] = ..., checksums: _Optional[_Union[PageChecksums, _Mapping]] = ...) -> None: ...

class ListBlocksRequest(_message.Message):
    __slots__ = ("group", "after", "limit", "map_epoch")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    group: int
    after: int
    limit: int
    map_epoch: int
    def __init__(self, group: _Optional[int] = ..., after: _Optional[int] = ..., limit: _Optional[int] = ..., map_epoch: _Optional[int] = ...) -> None: ...

class ListBlocksReply(_message.Message):
    __slots__ = ("blocks", "lengths", "end")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedScalarFieldContainer[int]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    end: bool
    def __init__(self, blocks: _Optional[_Iterable[int]] = ..., lengths: _Optional[_Iterable[int]] = ..., end: _Optional[bool] = ...) -> None: ...

class VerifyBlockRequest(_message.Message):
    __slots__ = ("block", "reason")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    block: int
    reason: str
    def __init__(self, block: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class VerifyBlockReply(_message.Message):
    __slots__ = ("good", "length", "bad_pages", "crc32c")
    GOOD_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    BAD_PAGES_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    good: bool
    length: int
    bad_pages: _containers.RepeatedScalarFieldContainer[int]
    crc32c: int
    def __init__(self, good: _Optional[bool] = ..., length: _Optional[int] = ..., bad_pages: _Optional[_Iterable[int]] = ..., crc32c: _Optional[int] = ...) -> None: ...

class HintRepairRequest(_message.Message):
    __slots__ = ("group", "node", "map_epoch")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    group: int
    node: int
    map_epoch: int
    def __init__(self, group: _Optional[int] = ..., node: _Optional[int] = ..., map_epoch: _Optional[int] = ...) -> None: ...

class CompactSlice(_message.Message):
    __slots__ = ("position", "length", "block", "block_offset")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    BLOCK_OFFSET_FIELD_NUMBER: _ClassVar[int]
    position: int
    length: int
    block: int
    block_offset: int
    def __init__(self, position: _Optional[int] = ..., length: _Optional[int] = ..., block: _Optional[int] = ..., block_offset: _Optional[int] = ...) -> None: ...

class CompactChunkRequest(_message.Message):
    __slots__ = ("inode", "chunk", "slices", "blocks", "map_epoch")
    INODE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    inode: int
    chunk: int
    slices: _containers.RepeatedCompositeFieldContainer[CompactSlice]
    blocks: _containers.RepeatedScalarFieldContainer[int]
    map_epoch: int
    def __init__(self, inode: _Optional[int] = ..., chunk: _Optional[int] = ..., slices: _Optional[_Iterable[_Union[CompactSlice, _Mapping]]] = ..., blocks: _Optional[_Iterable[int]] = ..., map_epoch: _Optional[int] = ...) -> None: ...

class CompactChunkReply(_message.Message):
    __slots__ = ("slices",)
    SLICES_FIELD_NUMBER: _ClassVar[int]
    slices: _containers.RepeatedCompositeFieldContainer[CompactSlice]
    def __init__(self, slices: _Optional[_Iterable[_Union[CompactSlice, _Mapping]]] = ...) -> None: ...

class NodeInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeInfoReply(_message.Message):
    __slots__ = ("node", "incarnation", "map_epoch", "blocks", "live_bytes", "used_bytes", "free_bytes", "scrub_progress", "scrubbed_ns", "version", "scrubbing", "quarantined_blocks")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    LIVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SCRUB_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SCRUBBED_NS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCRUBBING_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    node: int
    incarnation: int
    map_epoch: int
    blocks: int
    live_bytes: int
    used_bytes: int
    free_bytes: int
    scrub_progress: float
    scrubbed_ns: int
    version: str
    scrubbing: bool
    quarantined_blocks: int
    def __init__(self, node: _Optional[int] = ..., incarnation: _Optional[int] = ..., map_epoch: _Optional[int] = ..., blocks: _Optional[int] = ..., live_bytes: _Optional[int] = ..., used_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., scrub_progress: _Optional[float] = ..., scrubbed_ns: _Optional[int] = ..., version: _Optional[str] = ..., scrubbing: _Optional[bool] = ..., quarantined_blocks: _Optional[int] = ...) -> None: ...

class StartScrubRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StartScrubReply(_message.Message):
    __slots__ = ("blocks",)
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    blocks: int
    def __init__(self, blocks: _Optional[int] = ...) -> None: ...

class CollectGarbageRequest(_message.Message):
    __slots__ = ("dry_run", "older_than_s")
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    OLDER_THAN_S_FIELD_NUMBER: _ClassVar[int]
    dry_run: bool
    older_than_s: int
    def __init__(self, dry_run: _Optional[bool] = ..., older_than_s: _Optional[int] = ...) -> None: ...

class CollectGarbageReply(_message.Message):
    __slots__ = ("progress", "blocks", "orphans", "orphan_bytes", "dropped", "done")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    ORPHANS_FIELD_NUMBER: _ClassVar[int]
    ORPHAN_BYTES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    progress: float
    blocks: int
    orphans: int
    orphan_bytes: int
    dropped: int
    done: bool
    def __init__(self, progress: _Optional[float] = ..., blocks: _Optional[int] = ..., orphans: _Optional[int] = ..., orphan_bytes: _Optional[int] = ..., dropped: _Optional[int] = ..., done: _Optional[bool] = ...) -> None: ...

class NodeIdentity(_message.Message):
    __slots__ = ("cluster", "node", "incarnation", "starts", "format")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    node: int
    incarnation: int
    starts: int
    format: int
    def __init__(self, cluster: _Optional[str] = ..., node: _Optional[int] = ..., incarnation: _Optional[int] = ..., starts: _Optional[int] = ..., format: _Optional[int] = ...) -> None: ...
