"""The store's one thread of its own: makes durable what was not asked to be, and writes the index out."""

import threading
from collections.abc import Callable

from blockyard.proto import logs
from blockyard.proto.disk.failures import NO_DESCRIPTORS, StorageFailed
from blockyard.proto.disk.stop import stop

log = logs.get(__name__)


class Keeper:
    """Calls `tick` at an interval until it is stopped."""

    def __init__(self, tick: Callable[[], None], interval_s: float) -> None:
        self._tick = tick
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, after the tick that runs."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            try:
                self._tick()
            except (StorageFailed, OSError) as error:
                if not isinstance(error, OSError) or error.errno not in NO_DESCRIPTORS:
                    stop(error)
                log.warning("keeper_without_descriptors", why=error)
