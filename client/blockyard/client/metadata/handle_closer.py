"""Closes handles that nobody waits for: those of files that were only read, many in one call."""

import threading
from collections import deque
from concurrent.futures import Executor

from blockyard.client.metadata.namespace import Namespace
from blockyard.client.metadata.session import Session
from blockyard.proto import errors, logs
from blockyard.proto.metadata_pb2 import CloseRequest, Operation

_log = logs.get(__name__)


class HandleCloser:
    """Handles on their way to be closed. A session that ends closes them too."""

    def __init__(self, namespace: Namespace, background: Executor) -> None:
        self._namespace = namespace
        self._background = background
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, int, Session]] = deque()
        self._running = False

    def close(self, inode: int, handle: int, session: Session) -> None:
        """Close a handle soon."""
        with self._lock:
            self._waiting.append((inode, handle, session))
            if self._running:
                return
            self._running = True
        self._background.submit(self._drain)

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running = False
                    return
                session = self._waiting[0][2]
                together: list[tuple[int, int, Session]] = []
                while self._waiting and self._waiting[0][2] is session and len(together) < 1_000:
                    together.append(self._waiting.popleft())
            operations = [Operation(close=CloseRequest(inode=inode, handle=handle)) for inode, handle, _ in together]
            try:
                self._namespace.batch(operations, session)
            except errors.BlockyardError as error:
                _log.info("handles_not_closed", count=len(operations), why=str(error))
