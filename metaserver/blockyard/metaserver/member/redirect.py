"""How whoever asks the wrong member is sent to the leader."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from blockyard.metaserver.member.driver import Driver
from blockyard.metaserver.member.peers import Peers
from blockyard.metaserver.raft import NOBODY
from blockyard.proto import cluster_pb2, errors, metadata_pb2
from blockyard.proto.call import CallContext
from blockyard.proto.common_pb2 import Address
from google.protobuf.descriptor import ServiceDescriptor

METADATA = metadata_pb2.DESCRIPTOR.services_by_name["Metadata"]
CLUSTER = cluster_pb2.DESCRIPTOR.services_by_name["Cluster"]


def not_leader(driver: Driver, peers: Peers) -> errors.NotLeader:
    """Return the error that sends a client to the leader."""
    leader = driver.core.leader
    known = peers.book.get(leader)
    address = Address() if known is None else known.address
    if leader == NOBODY or known is None:
        return errors.NotLeader("nobody leads the group right now; ask again", retry_after_ms=50)
    return errors.NotLeader(f"member {int(leader)} leads the group", leader=address)


class Redirect:
    """A whole service of the contract, on a witness, which has nothing to serve it from: every call is sent on."""

    def __init__(self, service: ServiceDescriptor, refusal: Callable[[], errors.NotLeader]) -> None:
        def refuse(request: Any, context: CallContext) -> Any:
            raise refusal()

        async def refuse_stream(request: Any, context: CallContext) -> AsyncIterator[Any]:
            raise refusal()
            yield  # makes it a stream

        for method in service.methods:
            setattr(self, method.name, refuse_stream if method.server_streaming else refuse)
