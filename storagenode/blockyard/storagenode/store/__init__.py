"""Blocks on one disk: `BlockStore`, and the records it takes and gives. Knows no network and no cluster map."""

from blockyard.storagenode.store.block_store import BlockStore
from blockyard.storagenode.store.open_block import OpenBlock
from blockyard.storagenode.store.recovery import RecoveryReport
from blockyard.storagenode.store.replica import (
    LARGEST_BLOCK_BYTES,
    LARGEST_PUT_BYTES,
    PAGE_BYTES,
    NewBlock,
    OpenedReplica,
    StoredReplica,
    StoreSettings,
    Usage,
    Verification,
)

__all__ = [
    "LARGEST_BLOCK_BYTES",
    "LARGEST_PUT_BYTES",
    "PAGE_BYTES",
    "BlockStore",
    "NewBlock",
    "OpenBlock",
    "OpenedReplica",
    "RecoveryReport",
    "StoreSettings",
    "StoredReplica",
    "Usage",
    "Verification",
]
