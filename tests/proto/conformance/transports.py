"""Every way to carry a call: which server, which channel, which address. The suite runs over all of them."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from blockyard.proto import lane
from blockyard.proto.call import register
from blockyard.proto.probe_pb2_grpc import add_ProbeServicer_to_server

from tests.proto.conformance.clients import AioClient, Client, ThreadClient
from tests.proto.conformance.servicers import WatchedAioProbe, WatchedThreadProbe

LIMIT_BYTES = 1 << 20
"""Longest message of every server and channel here."""


@dataclass(frozen=True)
class Transport:
    """One server, one channel, one kind of address."""

    server: Literal["lane-aio", "lane-threads", "door-aio", "door-threads"]
    channel: Literal["aio", "blocking"]
    over: Literal["tcp", "unix"] = "tcp"

    def __str__(self) -> str:
        return f"{self.server}-{self.channel}-{self.over}"

    @property
    def is_lane(self) -> bool:
        """Whether this is the lane."""
        return self.server.startswith("lane")

    @property
    def has_threads(self) -> bool:
        """Whether servicers are plain functions on threads."""
        return self.server.endswith("threads")

    def servicer(self) -> "WatchedAioProbe | WatchedThreadProbe":
        """Return a servicer of the form that the server takes."""
        return WatchedThreadProbe() if self.has_threads else WatchedAioProbe()

    def client(self, address: str, **arguments: Any) -> Client:
        """Return a client of the server at `address`."""
        channel = self._channel_class()(address, **self._channel_arguments(**arguments))
        return AioClient(channel) if self.channel == "aio" else ThreadClient(channel)

    @asynccontextmanager
    async def serving(self, servicer: Any, address: str) -> AsyncIterator["Serving"]:
        """Serve on `address`: `host:port`, port 0 chosen by the system, or `unix:/path`."""
        if self.server == "lane-threads":
            threads = lane.ThreadServer(lane.Limits(max_message_bytes=LIMIT_BYTES))
            register(add_ProbeServicer_to_server, servicer, threads)
            serving = Serving(threads.listen(address), lambda grace: asyncio.to_thread(threads.stop, grace), threads)
        elif self.server == "lane-aio":
            aio = lane.AioServer(lane.Limits(max_message_bytes=LIMIT_BYTES))
            register(add_ProbeServicer_to_server, servicer, aio)
            serving = Serving(await _listen(aio, address), aio.stop, aio)
        else:
            serving = await self._serve_door(servicer, address)
        try:
            yield serving
        finally:
            await serving.stop(0)

    async def _serve_door(self, servicer: Any, address: str) -> "Serving":
        from blockyard.proto import door, settings

        workers = ThreadPoolExecutor(16) if self.has_threads else None
        server = door.DoorServer(settings.Door(message_limit_bytes=LIMIT_BYTES), workers=workers)
        register(add_ProbeServicer_to_server, servicer, server)
        if address.startswith("unix:"):
            server.listen_unix(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            address = f"{host}:{server.listen_tcp(host, int(port))}"
        await server.start()

        async def stop(grace_s: float) -> None:
            await server.stop(grace_s)
            if workers is not None:
                workers.shutdown(wait=False)

        return Serving(address, stop, server)

    def _channel_class(self) -> Any:
        if self.is_lane:
            return lane.AioChannel if self.channel == "aio" else lane.Channel
        from blockyard.proto import door

        return door.AioChannel if self.channel == "aio" else door.Channel

    def _channel_arguments(self, timeout_s: float = 20.0, keepalive_s: float = 10.0) -> dict[str, Any]:
        if self.is_lane:
            limits = lane.Limits(max_message_bytes=LIMIT_BYTES)
            return {"timeout_s": timeout_s, "keepalive_s": keepalive_s, "limits": limits}
        from blockyard.proto import door, settings

        chosen = settings.Door(message_limit_bytes=LIMIT_BYTES, default_deadline_ms=int(timeout_s * 1000))
        return {"settings": chosen, "retry": door.NO_RETRY}


@dataclass
class Serving:
    """A server that runs."""

    address: str
    stop: Callable[[float], Any]
    server: Any


async def _listen(server: "lane.AioServer", address: str) -> str:
    if address.startswith("unix:"):
        await server.listen_unix(Path(address.removeprefix("unix:")))
        return address
    host, _, port = address.rpartition(":")
    return f"{host}:{await server.listen_tcp(host, int(port))}"


LANE = (
    Transport("lane-aio", "aio", "tcp"),
    Transport("lane-aio", "blocking", "unix"),
    Transport("lane-threads", "blocking", "tcp"),
    Transport("lane-threads", "aio", "unix"),
)
DOOR = (
    Transport("door-aio", "aio", "tcp"),
    Transport("door-aio", "blocking", "unix"),
    Transport("door-threads", "blocking", "tcp"),
)
TRANSPORTS = LANE + (DOOR if importlib.util.find_spec("blockyard.proto.door") else ())
