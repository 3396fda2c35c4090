"""The public door: the contract's services over gRPC, for any language and any tool.

The same generated stubs and the same servicers as on the lane. `DoorServer` serves them with health and reflection
beside; `Channel` (threads) and `AioChannel` (event loop) go under the stubs, keep a deadline on every call, raise
`BlockyardError`, and retry by error class. Errors travel whole, in the trailing metadata `blockyard-error-bin`.

Where to look: `handler` runs a servicer's method, `call` is what it sees, `payload` how raw bytes travel in the field
`data`, `limits` what gRPC itself is told. When a call is made again is `blockyard.proto.retry`'s to say.
"""

from blockyard.proto.door.aio_channel import AioChannel
from blockyard.proto.door.channel import Channel
from blockyard.proto.door.server import DoorServer
from blockyard.proto.retry import NO_RETRY, RetryPolicy

__all__ = ["NO_RETRY", "AioChannel", "Channel", "DoorServer", "RetryPolicy"]
