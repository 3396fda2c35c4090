"""A gRPC server on a free port of this machine, with any servicers, and channels to it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from blockyard.proto import probe_pb2_grpc
from blockyard.proto.door import NO_RETRY, AioChannel, DoorServer

Serve = Callable[..., Awaitable["Served"]]


class Served:
    """A running server and what a test needs to talk to it."""

    def __init__(self, server: DoorServer, port: int) -> None:
        self.server = server
        self.address = f"127.0.0.1:{port}"
        self.channel = AioChannel(self.address, retry=NO_RETRY)
        self.stub = stub_of(self.channel)


def stub_of(channel: Any) -> Any:
    """Return the generated stub over a channel of ours or of gRPC's."""
    return probe_pb2_grpc.ProbeStub(channel)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Return a function that serves a Probe servicer; everything it started ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(servicer: Any, **arguments: Any) -> Served:
            server: Any = DoorServer(**arguments)
            probe_pb2_grpc.add_ProbeServicer_to_server(servicer, server)
            served = Served(server, server.listen_tcp("127.0.0.1", 0))
            await server.start()
            stack.push_async_callback(server.stop, 0)
            stack.push_async_callback(served.channel.close)
            return served

        yield start
