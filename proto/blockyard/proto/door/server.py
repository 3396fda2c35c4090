"""The gRPC server of a process: the same servicers as on the lane, for any language and any tool."""

import asyncio
import contextlib
import errno
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from blockyard.proto import errors
from blockyard.proto.door.handler import Context, Handler
from blockyard.proto.door.limits import server_options
from blockyard.proto.lane.methods import MethodTable, method_id
from blockyard.proto.metrics import TransportMetrics
from blockyard.proto.settings import Door
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

IN_FLIGHT_LIMIT = 4096
"""Calls that a server works on at once; more are refused as overload."""


class DoorServer:
    """Serves the methods that generated code registers, with health and reflection beside them.

    Make it on the event loop, register servicers, `listen_…`, then `start()`. Health says SERVING for each registered
    service from then on, until `stop()` or `set_serving`.
    """

    def __init__(
        self,
        settings: Door | None = None,
        *,
        workers: Executor | None = None,
        metrics: TransportMetrics | None = None,
        in_flight_limit: int = IN_FLIGHT_LIMIT,
    ) -> None:
        """Make a server. With `workers`, servicers' plain methods run on those threads, else inline on the loop."""
        self.settings = settings or Door()
        self.health = health.aio.HealthServicer()
        self.services: list[str] = []
        self._workers = workers
        self._metrics = metrics or TransportMetrics("grpc", "server")
        self._methods = MethodTable(self._metrics)
        self._server = grpc.aio.server(options=server_options(self.settings), maximum_concurrent_rpcs=in_flight_limit)
        self._under_way = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    # --- What generated code calls -----------------------------------------------------------------------------------

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Part of the interface that generated code calls; the registered handlers say it all."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the handlers of one service, as generated code gives them. Raises ValueError for a second time."""
        if service in self.services:
            raise ValueError(f"{service} is registered already")
        self.services.append(service)
        self._methods.add_registered_method_handlers(service, handlers)
        ours = {short: self._handler(f"/{service}/{short}") for short in handlers}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, ours),))
        self._server.add_registered_method_handlers(service, ours)

    # --- Its life ----------------------------------------------------------------------------------------------------

    def listen_tcp(self, host: str, port: int, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on a TCP address, with TLS when credentials are given; return the port (0 chooses one).

        Raises OSError when the port is taken or the host is not one of this machine.
        """
        return self._listen(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", credentials)

    def listen_unix(self, path: str | Path) -> None:
        """Listen on a Unix socket. Raises OSError when that fails."""
        self._listen(f"unix:{path}", None)

    async def start(self) -> None:
        """Begin to answer. Servicers cannot be registered, nor addresses added, after this."""
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        if self.settings.reflection:
            names = [*self.services, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)
        for service in self.services:
            await self.set_serving(service, True)
        await self._server.start()

    async def set_serving(self, service: str, serving: bool) -> None:
        """Say through the health service whether `service` (empty: the process) can be used."""
        status = health_pb2.HealthCheckResponse
        await self.health.set(service, status.SERVING if serving else status.NOT_SERVING)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Refuse new calls, let those under way finish for `grace_s` seconds, then cut the rest off."""
        self._closing = True
        await self.health.enter_graceful_shutdown()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace_s)
        await self._server.stop(None)

    @property
    def calls_under_way(self) -> int:
        """Calls that have begun and not ended."""
        return self._under_way

    # --- Calls -------------------------------------------------------------------------------------------------------

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(
                errno.EADDRINUSE, f"gRPC cannot listen on {address}: taken, or not of this machine"
            ) from error

    def _handler(self, name: str) -> "grpc.RpcMethodHandler[Any, Any]":
        method = self._methods.get(method_id(name))
        assert method is not None
        return Handler(
            method,
            self._metrics,
            workers=self._workers,
            default_deadline_s=self.settings.default_deadline_ms / 1000,
            message_limit_bytes=self.settings.message_limit_bytes,
            started=self._started,
        ).grpc_handler()

    def _started(self, context: Context) -> None:
        if self._closing:
            raise errors.ShuttingDown("this server is shutting down; ask another")
        self._under_way += 1
        self._idle.clear()
        context.add_done_callback(self._ended)  # type: ignore[arg-type]  # positional in fact

    def _ended(self, _context: Any) -> None:
        self._under_way -= 1
        if self._under_way == 0:
            self._idle.set()
