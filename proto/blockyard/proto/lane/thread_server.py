"""The lane's server with a thread per connection, for calls that move payload.

A connection has one call at a time: the next waits in the socket, or in its backlog. Servicers are plain functions;
request streams are iterators, answer streams generators. Payload goes from descriptor to socket by sendfile and from
socket to the servicer's buffer by recv_into, so the threads hold the GIL only to decide.
"""

import errno
import socket
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from blockyard.proto import errors, logs
from blockyard.proto.lane import frame, handshake, sockets
from blockyard.proto.lane.backlog import Backlog
from blockyard.proto.lane.blocking import TICK_S, BlockingConnection, Idle
from blockyard.proto.lane.frame import Frame, FrameError, Header, Limits
from blockyard.proto.lane.methods import MethodTable
from blockyard.proto.lane.sockets import STALL_S
from blockyard.proto.lane.thread_call import CallOver, ThreadCall
from blockyard.proto.metrics import OK, TransportMetrics

HELLO_TIMEOUT_S = 10.0
PULSE_S = 2.0
"""How often the caller of a long call is shown that this server lives: its thread cannot answer a PING meanwhile."""
_log = logs.get(__name__)


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
        self._stopped = threading.Event()
        self._pulse: threading.Thread | None = None

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Part of the interface that generated code calls."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the handlers of one service, as generated code gives them."""
        self.methods.add_registered_method_handlers(service, handlers)

    def listen(self, address: str) -> str:
        """Serve on `host:port` or `unix:/path`; return the address with the port that the system chose for 0."""
        return self.serve(sockets.listen(address), address)

    def serve(self, listener: socket.socket, address: str) -> str:
        """Serve those who connect, or have connected, to a socket that listens at `address`; see `listen`."""
        if address.startswith("unix:"):
            self._unix_paths.append(Path(address.removeprefix("unix:")))
        else:
            address = f"{address.rpartition(':')[0]}:{listener.getsockname()[1]}"
        acceptor = threading.Thread(target=self._accept, args=(listener,), name=f"lane-accept-{address}", daemon=True)
        self._listeners.append(listener)
        self._acceptors.append(acceptor)
        acceptor.start()
        if self._pulse is None:
            self._pulse = threading.Thread(target=self._show_life, name="lane-pulse", daemon=True)
            self._pulse.start()
        return address

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no new calls, let those under way finish for `grace_s` seconds, then close every connection."""
        self.closing = True
        for listener in self._listeners:
            sockets.sever(listener)
            listener.close()
        for path in self._unix_paths:
            path.unlink(missing_ok=True)
        for connection in self._connections():
            connection.send_if_free(frame.GOAWAY, 0)
        deadline = time.monotonic() + grace_s
        while any(connection.serving for connection in self._connections()) and time.monotonic() < deadline:
            time.sleep(0.005)
        self._stopped.set()
        for connection in self._connections():
            sockets.sever(connection.sock)
        with self._lock:
            threads = [*self._acceptors, *self._threads, *([self._pulse] if self._pulse else [])]
        deadline = time.monotonic() + TICK_S
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    @property
    def calls_under_way(self) -> int:
        """Calls that have begun and not ended."""
        return sum(1 for connection in self._connections() if connection.serving)

    def _connections(self) -> list[BlockingConnection]:
        with self._lock:
            return list(self._threads.values())

    def _show_life(self) -> None:
        seen: dict[BlockingConnection, int] = {}
        while not self._stopped.wait(PULSE_S):
            serving = {connection: connection.serving for connection in self._connections() if connection.serving}
            for connection, call in serving.items():
                if seen.get(connection) == call:
                    connection.send_if_free(frame.PONG, 0)
            seen = serving

    def _accept(self, listener: socket.socket) -> None:
        while not self.closing:
            try:
                sock, _ = listener.accept()
            except OSError:
                if self.closing:
                    return
                time.sleep(0.05)  # out of descriptors: those that end give some back
                continue
            try:
                self._begin(sock)
            except (OSError, RuntimeError):  # it has gone already, or there is no thread for it
                self.metrics.refused("connections")
                sock.close()

    def _begin(self, sock: socket.socket) -> None:
        sockets.tune(sock, self.stall_s)
        connection = BlockingConnection(sock, self.limits, self.stall_s)
        thread = threading.Thread(target=self._serve_connection, args=(connection,), name="lane", daemon=True)
        with self._lock:
            if self.closing or len(self._threads) >= self._max_connections:
                raise OSError("no room for one more connection")
            self._threads[thread] = connection
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                del self._threads[thread]
            raise

    # ------------------------------------------------------------------------------------------ one connection

    def _serve_connection(self, connection: BlockingConnection) -> None:
        self.metrics.opened()
        try:
            self._converse(connection)
        except FrameError as error:
            self._refuse(connection, error)
        except OSError:
            pass  # the peer is gone, or was told what is wrong
        finally:
            self._count_bytes(connection)
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
        backlog = Backlog(self.limits.max_calls)
        while True:
            item: Header | Frame | None = backlog.take_call()
            if item is None:
                connection.serving = 0
                try:
                    item = connection.receive_header(TICK_S)
                except Idle:
                    continue
                connection.serving = item.call
            if item.kind == frame.CALL:
                self._serve_call(connection, item, backlog)
            else:
                self._between_calls(connection, item)

    def _between_calls(self, connection: BlockingConnection, item: Header | Frame) -> None:
        if isinstance(item, Header):
            if item.kind in (frame.HELLO, frame.REPLY, frame.ERROR):
                raise connection.out_of_step(FrameError("protocol", f"frame kind {item.kind} from a client", item.call))
            connection.skip_frame(item)
        if item.kind == frame.PING:
            connection.send(frame.PONG, 0, value=item.value)

    def _refuse(self, connection: BlockingConnection, error: FrameError) -> None:
        self.metrics.refused(error.reason)
        _log.info("lane_frame_refused", reason=error.reason, found=str(error))
        detail = errors.to_detail(handshake.refusal(error)).SerializeToString()
        try:
            connection.send(frame.ERROR if error.call else frame.GOAWAY, error.call, detail)
        except OSError:
            pass  # it did not stay to hear

    # ------------------------------------------------------------------------------------------ one call

    def _serve_call(self, connection: BlockingConnection, item: Header | Frame, backlog: Backlog) -> None:
        method = self.methods.get(item.method)
        if method is None or self.closing or item.call == 0:
            self._turn_away(connection, item)
            return
        connection.serving = item.call
        call = ThreadCall(connection, method, item, self.limits.stream_window, backlog)
        outcome = "ConnectionLost"
        try:
            self._answer(call, method.behaviour(call.requests() if method.request_streaming else call.request(), call))
            outcome = OK
        except CallOver:
            outcome = "Cancelled"
            call.drain()
        except Exception as error:
            if connection.broken is not None:
                raise connection.broken from error
            outcome = self._fail(call, error)
        finally:
            call.finish(outcome)
            self._count_bytes(connection)

    def _count_bytes(self, connection: BlockingConnection) -> None:
        self.metrics.received_bytes += connection.received_bytes
        self.metrics.sent_bytes += connection.sent_bytes
        connection.received_bytes = connection.sent_bytes = 0

    def _turn_away(self, connection: BlockingConnection, item: Header | Frame) -> None:
        if item.call == 0:
            raise connection.out_of_step(FrameError("call", "a call without a number"))
        self._between_calls(connection, item)
        error: errors.BlockyardError = handshake.farewell()
        if not self.closing:
            self.metrics.refused("unknown_method")
            error = errors.UnknownMethod(f"no method with the lane id {item.method:#x} here")
        connection.send(frame.ERROR, item.call, errors.to_detail(error).SerializeToString())

    def _fail(self, call: ThreadCall, error: Exception) -> str:
        known = errors.from_exception(error)
        if isinstance(known, errors.InternalError):
            _log.error("call_failed", method=call.method.name, exc_info=error)
        call.drain()
        call.connection.send(frame.ERROR, call.id, errors.to_detail(known).SerializeToString())
        return known.kind

    def _answer(self, call: ThreadCall, result: Any) -> None:
        if not call.method.response_streaming:
            call.drain()
            call.send(frame.REPLY, result)
            return
        answers: Iterator[Any] = iter(result)
        try:
            for item in answers:
                call.await_credit(self.stall_s)
                try:
                    call.send(frame.MESSAGE, item)
                except OSError as error:
                    if error.errno == errno.EIO and isinstance(answers, Generator):
                        answers.throw(error)  # its own file cannot be read: the servicer may see to it
                    raise
        finally:
            if hasattr(answers, "close"):
                answers.close()
        call.drain()
        call.connection.send(frame.END, call.id)
