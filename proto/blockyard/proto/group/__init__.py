"""A channel to the metadata group, under which generated stubs work as over a channel to one server.

It finds the leader, follows it when it moves, and repeats a call with the same request where its error class allows
that, within the call's deadline. `GroupChannel` is for threads, `AioGroupChannel` for an event loop; both stand on
`routing`, which is pure. Servers are reached by the lane.
"""

from blockyard.proto.group.aio_channel import AioGroupChannel
from blockyard.proto.group.channel import GroupChannel

__all__ = ["AioGroupChannel", "GroupChannel"]
