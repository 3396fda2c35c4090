"""What runs in the background of a node: repair, scrub, reclaim, compaction, …"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from blockyard.proto import logs

_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """What one service, or all of them together, report in the node's heartbeat. Zero and empty mean nothing to say."""

    repair_blocks: int = 0  # still to be fetched
    repair_bytes: int = 0
    repair_bytes_per_second: int = 0
    complete_groups: tuple[int, ...] = ()  # rising; as of `map_epoch`
    map_epoch: int = 0  # the map under which `complete_groups` is true; 0 for none

    def __add__(self, other: "Progress") -> "Progress":
        """Only one of the two may have groups to report: they are true of one map."""
        assert not (self.map_epoch and other.map_epoch), "two services report groups"
        return Progress(
            self.repair_blocks + other.repair_blocks,
            self.repair_bytes + other.repair_bytes,
            self.repair_bytes_per_second + other.repair_bytes_per_second,
            self.complete_groups or other.complete_groups,
            self.map_epoch or other.map_epoch,
        )


class BackgroundService(Protocol):
    """Work that goes on beside the calls."""

    name: str

    def start(self) -> None:
        """Begin; returns at once."""

    def stop(self) -> None:
        """End, in the middle of what it does if need be; returns when its threads have ended."""

    def progress(self) -> Progress:
        """Say how far it is; returns at once."""


@dataclass(slots=True)
class ServiceList:
    """The services of one process. They start in order and stop in the opposite one."""

    services: Sequence[BackgroundService] = ()
    _running: list[BackgroundService] = field(default_factory=list)

    def start(self) -> None:
        """Start all of them."""
        for service in self.services:
            service.start()
            self._running.append(service)
            _log.debug("service_started", service=service.name)

    def stop(self) -> None:
        """Stop those that were started."""
        while self._running:
            service = self._running.pop()
            service.stop()
            _log.debug("service_stopped", service=service.name)

    def progress(self) -> Progress:
        """Return the sum of what they report."""
        return sum((service.progress() for service in self._running), Progress())
