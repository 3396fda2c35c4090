"""Directed links between hosts: delay, loss, duplication, reordering, cuts.

A host is a number: members use their member id, clients negative numbers. The same link carries requests, answers and
Raft messages; what is delivered is the object that was sent (production frames are protobuf, tested elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulator.world import TICK, World


@dataclass(slots=True)
class LinkQuality:
    """How every link behaves; the swarm draws one per run and storms change it for a while."""

    delay_min: int = 1
    delay_max: int = TICK // 10
    loss: float = 0.0
    duplication: float = 0.0
    reordering: bool = False  # False: a link delivers in the order of sending, as one TCP connection does
    spike: float = 0.0  # chance that one message takes `spike_delay` more
    spike_delay: int = 5 * TICK


@dataclass(slots=True)
class Network:
    """Carries messages; knows which directed links are cut."""

    world: World
    quality: LinkQuality
    cuts: dict[tuple[int, int], int] = field(default_factory=dict)  # directed link → how many faults cut it
    dropped: int = 0
    duplicated: int = 0
    sent: int = 0
    _last_arrival: dict[tuple[int, int], int] = field(default_factory=dict)

    def send(self, source: int, target: int, deliver: Callable[..., None], *payload: Any) -> None:
        """Call `deliver(*payload)` after the link's delay, once, twice or never."""
        world, quality, link = self.world, self.quality, (source, target)
        self.sent += 1
        if link in self.cuts:
            self.dropped += 1
            return
        random = world.chance.random
        if quality.loss and random() < quality.loss:
            self.dropped += 1
            return
        delay = quality.delay_min + int(random() * (quality.delay_max - quality.delay_min + 1))
        if quality.spike and random() < quality.spike:
            delay += int(random() * quality.spike_delay)
        if not quality.reordering:
            arrival = max(world.now + delay, self._last_arrival.get(link, 0))
            self._last_arrival[link] = arrival
            delay = arrival - world.now
        world.after(delay, self._arrive, link, deliver, payload)
        if quality.duplication and random() < quality.duplication:
            self.duplicated += 1
            world.after(delay + int(random() * 4 * quality.delay_max), self._arrive, link, deliver, payload)

    def _arrive(self, link: tuple[int, int], deliver: Callable[..., None], payload: tuple[Any, ...]) -> None:
        if link in self.cuts:  # a cut also drops what is under way
            self.dropped += 1
            return
        deliver(*payload)

    def cut(self, source: int, target: int) -> None:
        self.cuts[source, target] = self.cuts.get((source, target), 0) + 1

    def mend(self, source: int, target: int) -> None:
        """Undo one `cut`; the link carries again when every fault that cut it is over."""
        left = self.cuts.get((source, target), 0) - 1
        if left > 0:
            self.cuts[source, target] = left
        else:
            self.cuts.pop((source, target), None)

    def mend_all(self) -> None:
        self.cuts.clear()
