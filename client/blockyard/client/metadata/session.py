"""The client's session with the metadata group: opened at need, kept alive by one thread, noticed when over.

A session that is over took the open files and locks of its files with it: each of them says so at its next use
(`SessionExpired`), once. What needs neither goes on in a new session without anybody noticing.
"""

import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from blockyard.client.metadata.request_window import RequestWindow
from blockyard.proto import errors, logs
from blockyard.proto.common_pb2 import RequestId
from blockyard.proto.metadata_pb2 import CloseSessionRequest, KeepSessionRequest, OpenSessionRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW_LIMIT: Final = 2_048
"""Changes under way at once, whatever more the server would allow."""
_GOODBYE_S: Final = 2.0
_log = logs.get(__name__)


@dataclass(slots=True)
class Session:
    """One registration. Anybody may compare it with the current one: another object is another session."""

    number: int
    term_s: float
    cluster: str
    window: RequestWindow
    room: threading.Condition = field(default_factory=threading.Condition)
    """Guards the window; notified when a change has ended."""
    is_over: bool = False

    @contextmanager
    def request(self, deadline_s: float) -> "Iterator[RequestId]":
        """Yield the id of one change; when the block ends it is not sent again. Raises Overloaded at the deadline."""
        with self.room:
            while self.window.is_full:
                if not self.room.wait(deadline_s - time.monotonic()):
                    raise errors.Overloaded(f"{self.window.under_way} changes of this client are under way")
            identity = self.window.begin()
        try:
            yield identity
        finally:
            with self.room:
                self.window.end(identity.sequence)
                self.room.notify()


class SessionKeeper:
    """Opens sessions, one at a time, and keeps the current one alive."""

    def __init__(self, stub: Any, *, heartbeat_s: float, on_epoch: Callable[[int], None]) -> None:
        """`on_epoch` is told the epoch of the newest cluster map, from the keeper's thread."""
        self._stub = stub
        self._heartbeat_s = heartbeat_s
        self._on_epoch = on_epoch
        self._opening = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.current: Session | None = None
        self.cluster = ""
        """The cluster's id, once it was reached."""

    def get(self, deadline_s: float) -> Session:
        """Return the session, opening one when there is none. Raises ForeignCluster, and what the call raises."""
        session = self.current
        if session is not None:
            return session
        with self._opening:
            if self.current is None:
                self.current = self._open(deadline_s)
            return self.current

    def over(self, session: Session) -> None:
        """The group knows the session no longer."""
        with self._opening:
            session.is_over = True
            if self.current is session:
                self.current = None
                _log.warning("session_over", session=session.number)

    def close(self) -> None:
        """End the session: its handles and locks are given back. A group that does not answer ends it by itself."""
        self._stopping.set()
        thread, session = self._thread, self.current
        self.current = None
        if session is not None:
            session.is_over = True
            try:
                self._stub.CloseSession(CloseSessionRequest(session=session.number), timeout=_GOODBYE_S)
            except errors.BlockyardError as error:
                _log.info("session_left_behind", session=session.number, why=str(error))
        if thread is not None:
            thread.join(_GOODBYE_S)

    def _open(self, deadline_s: float) -> Session:
        if self._stopping.is_set():
            raise errors.Unavailable("this file system was closed")
        request = OpenSessionRequest(client=_who_am_i(), nonce=secrets.randbits(63) | 1)
        reply = self._stub.OpenSession(request, timeout=_left(deadline_s))
        if self.cluster and reply.cluster != self.cluster:
            raise errors.ForeignCluster(f"this was cluster {self.cluster}, and now {reply.cluster} answers")
        self.cluster = reply.cluster
        limit = min(reply.window // 2 or 1, WINDOW_LIMIT)
        session = Session(reply.session, reply.term_ms / 1000, reply.cluster, RequestWindow(reply.session, limit))
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="blockyard-session", daemon=True)
            self._thread.start()
        return session

    def _keep(self) -> None:
        session = None
        while not self._stopping.wait(self._heartbeat_s if session is None else self._pause(session)):
            session = self.current
            if session is not None:
                self._beat(session)

    def _pause(self, session: Session) -> float:
        return min(self._heartbeat_s, session.term_s / 3)

    def _beat(self, session: Session) -> None:
        try:
            request = KeepSessionRequest(session=session.number)
            self._on_epoch(self._stub.KeepSession(request, timeout=session.term_s / 3).map_epoch)
        except errors.SessionExpired:
            self.over(session)
        except errors.BlockyardError as error:
            _log.info("session_heartbeat_failed", session=session.number, why=str(error))


def _who_am_i() -> str:
    program = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"
    return f"{socket.gethostname()}/{program}[{os.getpid()}]"[:200]


def _left(deadline_s: float) -> float:
    return max(0.001, deadline_s - time.monotonic())
