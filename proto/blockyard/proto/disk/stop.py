"""Ending a process whose disk failed, at once and without a word to anybody but the log."""

import os
from typing import Final, NoReturn

from blockyard.proto import logs

EXIT_STATUS: Final = 3
"""What a process returns to its parent whose disk failed: starting it again is right once the disk has been seen to."""

log = logs.get(__name__)


def stop(error: Exception) -> NoReturn:
    """Log `error` and end the process. No handler runs and nothing is flushed: a second sync would lie."""
    log.critical("disk_failed", error=str(error))
    os._exit(EXIT_STATUS)
