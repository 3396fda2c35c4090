"""The Storage service: how blocks reach this node, pass through it, and leave.

`servicer` is what the servers call. `writing` takes a large block along its chain (the decisions are in
`blockyard.proto.blocks.chain`), with `open_writes` as the table of blocks under way; `putting` takes small ones;
`reading` sends ranges and descriptors. `requests` checks the form of what is asked, `guard` is what the process must
know of the cluster map.
"""

from blockyard.storagenode.service.guard import Guard
from blockyard.storagenode.service.servicer import StorageServicer, register

__all__ = ["Guard", "StorageServicer", "register"]
