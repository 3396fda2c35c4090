"""The lane's server on an event loop."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blockyard.proto.lane.aio_connection import Connection
from blockyard.proto.lane.aio_output import Outbox
from blockyard.proto.lane.frame import Limits
from blockyard.proto.lane.methods import MethodTable
from blockyard.proto.lane.sockets import STALL_S
from blockyard.proto.metrics import TransportMetrics

SWEEP_S = 0.05
"""How often deadlines and stalled connections are looked at: a deadline is kept to this precision."""
LAST_WORDS_S = 0.5
"""How long a server that stops waits for answers to be taken."""


class AioServer:
    """Serves the methods that generated code registers, on any number of addresses."""

    def __init__(
        self, limits: Limits | None = None, metrics: TransportMetrics | None = None, stall_s: float = STALL_S
    ) -> None:
        self.limits = limits or Limits()
        self.metrics = metrics or TransportMetrics("lane", "server")
        self.methods = MethodTable(self.metrics)
        self.connections: set[Connection] = set()
        self.stall_s = stall_s
        self.outbox = Outbox()
        self.closing = False
        self._listeners: list[asyncio.AbstractServer] = []
        self._unix_paths: list[Path] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._empty: asyncio.Event | None = None

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Part of the interface that generated code calls."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the handlers of one service, as generated code gives them."""
        self.methods.add_registered_method_handlers(service, handlers)

    async def listen_tcp(self, host: str, port: int) -> int:
        """Serve on a TCP address; return the port, which the system chooses when 0 was asked for."""
        server = await asyncio.get_running_loop().create_server(self._connection, host, port, backlog=1024)
        self._started(server)
        return int(server.sockets[0].getsockname()[1])

    async def listen_unix(self, path: str | Path) -> None:
        """Serve on a Unix socket; a socket left over at `path` is replaced."""
        Path(path).unlink(missing_ok=True)
        server = await asyncio.get_running_loop().create_unix_server(self._connection, str(path), backlog=1024)
        self._unix_paths.append(Path(path))
        self._started(server)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no new calls, let those under way finish for `grace_s` seconds, then close every connection."""
        self.closing = True
        for server in self._listeners:
            server.close()
        for path in self._unix_paths:
            path.unlink(missing_ok=True)
        for connection in list(self.connections):
            connection.go_away()
        await asyncio.sleep(0)
        ends = [call.ended() for connection in self.connections for call in connection.calls.values()]
        if ends:
            await asyncio.wait(ends, timeout=grace_s)
        for connection in list(self.connections):
            connection.close()
        await self._gone()
        for connection in list(self.connections):
            connection.abort()
        await self._gone()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def flush(self) -> None:
        """Let every answer that is there leave now, in place of at the end of this turn of the loop."""
        self.outbox.flush()

    def left(self, connection: Connection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        if not self.connections and self._empty is not None:
            self._empty.set()

    async def _gone(self) -> None:
        """Wait, a moment at most, until what was closed has gone and what was cancelled has noticed."""
        if self.connections:
            self._empty = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), LAST_WORDS_S)
        await asyncio.sleep(0)

    def _connection(self) -> Connection:
        return Connection(self)

    def _started(self, server: asyncio.AbstractServer) -> None:
        self._listeners.append(server)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for connection in list(self.connections):
                connection.sweep(now)
