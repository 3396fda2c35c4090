"""The lane: the fast door for our own processes.

The contract's generated stubs and servicers, carried as framed protobuf over TCP or a Unix socket, with raw payload
after the message where a method declares it. Why it exists beside gRPC: a thirteenth of the latency, and payload that
the kernel moves (`bench/README.md` has the figures of today).

Three shapes of one protocol:

- `AioServer` and `AioChannel`, on an event loop (uvloop): many calls in flight per connection. Metadata uses these.
- `Channel`, blocking, for threads: plain unary calls of all threads share one connection; a call with a stream or
  payload has a connection of its own while it lasts, so that its bytes go from socket to buffer and back-pressure is
  TCP's.
- `ThreadServer`, a thread per connection: for calls that move payload. System calls release the GIL.

Where to look: `frame` is the format and its checks (pure), `handshake` what is said beside calls, `methods` how
generated code is found, `window` how streams are paced, `backlog` what waits its turn, `payload` how bytes reach
buffers. `blocking` is a socket that speaks frames; on it stand `shared` (unary calls of many threads), `exchange` and
`stream` (one call on a connection of its own), and the thread server. `aio_output` is what an event loop's connection
sends.
"""

from blockyard.proto.lane.aio_channel import AioChannel
from blockyard.proto.lane.aio_server import AioServer
from blockyard.proto.lane.channel import Channel
from blockyard.proto.lane.frame import Limits
from blockyard.proto.lane.methods import method_id
from blockyard.proto.lane.payload import CheckedBuffer
from blockyard.proto.lane.thread_server import ThreadServer

__all__ = ["AioChannel", "AioServer", "Channel", "CheckedBuffer", "Limits", "ThreadServer", "method_id"]
