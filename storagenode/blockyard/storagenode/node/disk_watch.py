"""Whether the disk still works: a small write and sync now and then, while nobody else shows it.

A disk that fails a write ends the process: what it acknowledged since the last sync cannot be vouched for. A disk that
hangs keeps its thread in the kernel for as long as it likes, so this watch only says so, and whoever would tell the
cluster that the node lives asks first: a node whose disk hangs must not.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from blockyard.proto import logs
from blockyard.proto.disk.failures import NO_DESCRIPTORS
from blockyard.storagenode.node.directory import NO_ROOM

PROBE_BYTES: Final = 4096
_log = logs.get(__name__)


class DiskWatch:
    """Tries a disk every `period_s` seconds."""

    def __init__(
        self,
        path: Path,
        syncs: Callable[[], int],
        failed: Callable[[OSError], None],
        *,
        period_s: float,
        hung_after_s: float,
    ) -> None:
        """Watch the disk of file `path`.

        `syncs` counts the syncs that others did: while it rises the disk shows by itself that it works. It may hang as
        the disk does. `failed` is told of an error; nothing is tried after that.
        """
        self._path = path
        self._syncs = syncs
        self._failed = failed
        self._period_s = period_s
        self._hung_after_s = hung_after_s
        self._began: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk-watch", daemon=True)
        self.probes = 0
        self.probe_us = 0
        """How long the last probe took, microseconds."""

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. A thread that hangs in the kernel is left there."""
        self._stopping.set()
        self._thread.join(self._period_s)

    @property
    def hung(self) -> bool:
        """Whether the disk has not answered for longer than it may."""
        began = self._began
        return began is not None and time.monotonic() - began > self._hung_after_s

    def _run(self) -> None:
        seen = -1
        while not self._stopping.is_set():
            self._began = time.monotonic()
            try:
                syncs = self._syncs()
                if syncs == seen:
                    self._probe()
                seen = syncs
            except OSError as error:
                self._failed(error)
                return
            took_s = time.monotonic() - self._began
            self._began = None
            if took_s > self._hung_after_s:
                _log.warning("disk_was_hung", path=self._path, seconds=round(took_s, 1))
            self._stopping.wait(self._period_s)

    def _probe(self) -> None:
        began = time.perf_counter()
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(fd, os.urandom(PROBE_BYTES), 0)
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in (*NO_ROOM, *NO_DESCRIPTORS):
                raise
        self.probes += 1
        self.probe_us = int((time.perf_counter() - began) * 1e6)
