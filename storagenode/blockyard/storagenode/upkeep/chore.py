"""Work that is done now and then, or when somebody asks for it, on a thread of its own."""

import threading
from collections.abc import Callable
from typing import Final

from blockyard.proto import errors, logs
from blockyard.storagenode.node.service_list import Progress

RETRY_S: Final = 2.0
_log = logs.get(__name__)


class Chore:
    """Runs `work` when woken, and when the time is over that it returned, in seconds.

    A BlockyardError is logged and the work is tried again: it must be such that a run that broke off does no harm.
    """

    def __init__(self, name: str, work: Callable[[], float], stopping: threading.Event) -> None:
        self.name = name
        self.failures = 0
        self._work = work
        self._stopping = stopping
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin with a run."""
        self._thread.start()

    def stop(self) -> None:
        """End; `stopping` is set already, and the work looks at it."""
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Run soon; once more after the run under way, if there is one."""
        self._wake.set()

    def progress(self) -> Progress:
        """A chore has nothing to say in heartbeats."""
        return Progress()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            self._wake.wait(self._once())

    def _once(self) -> float:
        try:
            return self._work()
        except errors.BlockyardError as error:
            if not self._stopping.is_set():
                self.failures += 1
                _log.warning("chore_failed", chore=self.name, why=error)
            return RETRY_S
