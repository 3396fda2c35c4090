"""The lane's server with a thread per connection, for calls that move payload.

A connection has one call at a time: the next waits in the socket. Servicers are plain functions; request streams are
iterators, answer streams generators. Payload goes from descriptor to socket by sendfile and from socket to the
servicer's buffer by recv_into, so the threads hold the GIL only to decide.
"""

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
from blockyard.proto import errors
from blockyard.proto.lane import blocking, frame
from blockyard.proto.lane.blocking import STALL_S, TICK_S, BlockingConnection, Idle
from blockyard.proto.lane.frame import FrameError, Header, Limits
from blockyard.proto.lane.methods import MethodTable
from blockyard.proto.lane.thread_call import CallOver, ThreadCall
from blockyard.proto.metrics import OK, TransportMetrics

HELLO_TIMEOUT_S = 10.0
_log = structlog.get_logger(__name__)


class ThreadServer:
    """Serves the methods that generated code registers, on any number of addresses."""

    def __init__(
        self,
        limits: Limits | None = None,
        metrics: TransportMetrics | None = None,
        *,
        max_connections: int = 1024,
        stall_s: float = STALL_S,
    ) -> None:
        self.limits = limits or Limits()
        self.metrics = metrics or TransportMetrics("lane", "server")
        self.methods = MethodTable(self.metrics)
        self.closing = False
        self.stall_s = stall_s
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._listeners: list[socket.socket] = []
        self._unix_paths: list[Path] = []
        self._threads: dict[threading.Thread, BlockingConnection] = {}
        self._acceptors: list[threading.Thread] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Part of the interface that generated code calls."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the handlers of one service, as generated code gives them."""
        self.methods.add_registered_method_handlers(service, handlers)

    def listen(self, address: str) -> str:
        """Serve on `host:port` or `unix:/path`; return the address with the port that the system chose for 0."""
        listener = blocking.listen(address)
        if address.startswith("unix:"):
            self._unix_paths.append(Path(address.removeprefix("unix:")))
        else:
            address = f"{address.rpartition(':')[0]}:{listener.getsockname()[1]}"
        acceptor = threading.Thread(target=self._accept, args=(listener,), name=f"lane-accept-{address}", daemon=True)
        self._listeners.append(listener)
        self._acceptors.append(acceptor)
        acceptor.start()
        return address

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no new calls, let those under way finish for `grace_s` seconds, then close every connection."""
        self.closing = True
        for listener in self._listeners:
            blocking.sever(listener)
            listener.close()
        for path in self._unix_paths:
            path.unlink(missing_ok=True)
        deadline = time.monotonic() + grace_s
        while any(connection.busy for connection in self._connections()) and time.monotonic() < deadline:
            time.sleep(0.005)
        for connection in self._connections():
            blocking.sever(connection.sock)
        for thread in [*self._acceptors, *list(self._threads)]:
            thread.join(timeout=TICK_S)

    def _connections(self) -> list[BlockingConnection]:
        with self._lock:
            return list(self._threads.values())

    def _accept(self, listener: socket.socket) -> None:
        while not self.closing:
            try:
                sock, _ = listener.accept()
            except OSError:
                if self.closing:
                    return
                time.sleep(0.05)  # out of descriptors: those that end give some back
                continue
            if len(self._threads) >= self._max_connections:
                self.metrics.refused("connections")
                sock.close()
                continue
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.stall_s * 1000))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection = BlockingConnection(sock, self.limits, self.stall_s)
            thread = threading.Thread(target=self._serve_connection, args=(connection,), name="lane", daemon=True)
            with self._lock:
                self._threads[thread] = connection
            thread.start()

    # ------------------------------------------------------------------------------------------ one connection

    def _serve_connection(self, connection: BlockingConnection) -> None:
        self.metrics.opened()
        try:
            self._converse(connection)
        except FrameError as error:
            self._refuse(connection, error)
        except (errors.BlockyardError, OSError):
            pass  # the peer is gone, or was told what is wrong
        finally:
            self.metrics.closed()
            connection.close()
            with self._lock:
                self._threads.pop(threading.current_thread(), None)

    def _converse(self, connection: BlockingConnection) -> None:
        try:
            connection.shake_hands(HELLO_TIMEOUT_S)
        except errors.BlockyardError as error:
            self.metrics.refused("handshake")
            connection.send(frame.GOAWAY, 0, errors.to_detail(error).SerializeToString())
            raise
        while not self.closing:
            try:
                header = connection.receive_header(TICK_S)
            except Idle:
                continue
            if header.kind == frame.CALL:
                connection.busy = True
                try:
                    self._serve_call(connection, header)
                finally:
                    connection.busy = False
            else:
                self._between_calls(connection, header)
        shutting_down = errors.to_detail(errors.ShuttingDown("this server is shutting down; ask another"))
        connection.send(frame.GOAWAY, 0, shutting_down.SerializeToString())

    def _between_calls(self, connection: BlockingConnection, header: Header) -> None:
        connection.receive_message(header)
        connection.receive_payload(header.payload_bytes, None)
        if header.kind == frame.PING:
            connection.send(frame.PONG, 0, value=header.value)

    def _refuse(self, connection: BlockingConnection, error: FrameError) -> None:
        self.metrics.refused(error.reason)
        _log.info("lane_frame_refused", reason=error.reason, found=str(error))
        detail = errors.to_detail(blocking.refusal(error)).SerializeToString()
        try:
            connection.send(frame.ERROR if error.call else frame.GOAWAY, error.call, detail)
        except OSError:
            pass  # it did not stay to hear

    # ------------------------------------------------------------------------------------------ one call

    def _serve_call(self, connection: BlockingConnection, header: Header) -> None:
        method = self.methods.get(header.method)
        if method is None:
            self.metrics.refused("unknown_method")
            self._between_calls(connection, header)
            error = errors.UnknownMethod(f"no method with the lane id {header.method:#x} here")
            connection.send(frame.ERROR, header.call, errors.to_detail(error).SerializeToString())
            return
        call = ThreadCall(connection, method, header, self.limits.stream_window)
        outcome = OK
        try:
            self._answer(call, method.behaviour(call.requests() if method.request_streaming else call.request(), call))
        except CallOver:
            outcome = "Cancelled"
        except (FrameError, ConnectionError, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - a servicer's boundary: whatever it raised becomes the call's error
            known = errors.from_exception(error)
            outcome = known.kind
            if isinstance(known, errors.InternalError):
                _log.error("call_failed", method=method.name, exc_info=error)
            call.drain()
            connection.send(frame.ERROR, header.call, errors.to_detail(known).SerializeToString())
        finally:
            call.finish(outcome)

    def _answer(self, call: ThreadCall, result: Any) -> None:
        if not call.method.response_streaming:
            call.drain()
            call.send(frame.REPLY, result)
            return
        answers: Iterator[Any] = iter(result)
        try:
            for item in answers:
                call.await_credit()
                call.send(frame.MESSAGE, item)
        finally:
            if hasattr(answers, "close"):
                answers.close()
        call.drain()
        call.connection.send(frame.END, call.id)
