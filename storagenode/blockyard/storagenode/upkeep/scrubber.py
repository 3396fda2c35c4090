"""Scrub: every replica is read within the scrub period, the least recently read first, and never in a hurry.

When each replica was last read is in the store, so a restart goes on where it was. A pass that somebody asked for reads
everything once, faster.
"""

import ctypes
import os
import platform
import threading
import time
from dataclasses import dataclass
from typing import Final

from blockyard.proto import errors, logs
from blockyard.storagenode.node.service_list import Progress
from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.upkeep.examiner import Examiner
from blockyard.storagenode.upkeep.pace import SECOND_NS, ScrubPace, TokenBucket

LOOKED_AT_ONCE: Final = 64
IDLE_S: Final = 30.0
_BURST_BYTES: Final = 1 << 20
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
_IOPRIO_IDLE: Final = 3 << 13
_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class ScrubProgress:
    """How far the pass under way is. Without one, `share` is 1."""

    running: bool
    share: float  # of the pass's bytes, 0 to 1
    ended_ns: int  # when the last pass that was asked for ended; 0 for never


class Scrubber:
    """Reads replicas on a thread of its own."""

    name = "scrub"

    def __init__(
        self,
        store: BlockStore,
        examiner: Examiner,
        stopping: threading.Event,
        period_s: float,
        pass_bytes_per_second: int,
    ) -> None:
        """`pass_bytes_per_second` is for passes that were asked for; 0: as fast as it goes."""
        self._store = store
        self._examiner = examiner
        self._stopping = stopping
        self._pace = ScrubPace(period_s)
        self._pass_rate = pass_bytes_per_second
        self._bucket = TokenBucket(1, _BURST_BYTES, time.monotonic())
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._pass_ns = 0  # a pass is under way that reads what was last read before this; 0: none
        self._pass_bytes = 0
        self._read_bytes = 0
        self._ended_ns = 0
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the replica that is being read. `stopping` is set already."""
        self._wake.set()
        self._thread.join()

    def progress(self) -> Progress:
        """Scrub is not in the heartbeat."""
        return Progress()

    def begin_pass(self) -> int:
        """Read everything once, from now on; return how many replicas. A pass under way goes on."""
        usage = self._store.usage()
        with self._lock:
            if not self._pass_ns:
                self._pass_ns = time.time_ns()
                self._pass_bytes, self._read_bytes = usage.live_bytes, 0
        self._wake.set()
        return usage.blocks

    def pass_progress(self) -> ScrubProgress:
        """Return how far the pass under way is."""
        with self._lock:
            share = min(1.0, self._read_bytes / max(1, self._pass_bytes)) if self._pass_ns else 1.0
            return ScrubProgress(self._pass_ns > 0, share, self._ended_ns)

    # ------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        run_idle()
        while not self._stopping.is_set():
            self._wake.wait(self._read_some())
            self._wake.clear()

    def _read_some(self) -> float:
        """Read a few replicas; return for how long nothing is due, in seconds."""
        blocks = self._store.oldest_scrubbed(LOOKED_AT_ONCE)
        live_bytes = self._store.usage().live_bytes
        for block in blocks:
            if self._wake.is_set():
                return 0.0
            try:
                replica = self._store.find(block)
            except errors.UnknownBlock:
                continue
            read_ns = max(replica.scrubbed_ns, replica.sealed_ns)
            if self._pass_ns and read_ns >= self._pass_ns:
                self._end_pass()
            due_s = (self._pace.due_ns(read_ns) - time.time_ns()) / SECOND_NS
            if not self._pass_ns and due_s > 0:
                return min(IDLE_S, due_s)
            self._read(block, replica.length, self._pass_rate if self._pass_ns else self._pace.rate(live_bytes))
        if not blocks:
            self._end_pass()
            return IDLE_S
        return 0.0

    def _read(self, block: int, length: int, rate: float) -> None:
        now = time.monotonic()
        self._bucket.set_rate(rate, now)
        if self._wake.wait(self._bucket.take(length, now)):
            return  # the node ends, or a pass begins, which has another pace
        try:
            if self._examiner.examine(block, "scrub").good:
                self._store.mark_scrubbed(block, time.time_ns())
        except errors.UnknownBlock:
            return  # dropped meanwhile
        with self._lock:
            self._read_bytes += length

    def _end_pass(self) -> None:
        with self._lock:
            if self._pass_ns:
                self._pass_ns, self._ended_ns = 0, time.time_ns()
                _log.info("scrub_pass_ended", bytes=self._read_bytes)


def run_idle() -> None:
    """Let this thread's disk requests wait for everybody else's, where the disk's scheduler knows of priorities."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, 1, 0, _IOPRIO_IDLE) < 0:
        _log.info("scrub_not_idle", why=os.strerror(ctypes.get_errno()))
