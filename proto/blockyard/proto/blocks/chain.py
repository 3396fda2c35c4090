"""The sending end of a write chain: what goes to the successor, and who is cut out when it fails. Pure.

A client sends a block to the first node of its chain and each node sends it to the next; both ends hold one of these.
Events come in with the time in seconds, and what is to be done comes out, to be carried out in order. When a successor
is lost, the one after it becomes the successor and goes on from what it has.

Pace: a node lets what it acknowledges fall at most `WINDOW_BYTES`, and `WINDOW_MESSAGES` appends, behind what it has
received; so does its successor, and therefore an answer that is waited for always comes. A successor that is expected
to answer and says nothing for `Patience.of` seconds is lost. Each node waits longer than those behind it, so that the
one next to the fault finds it.

Invariants: `acknowledged` never falls; nothing is sent twice to one successor, nothing with a gap; a node that was cut
out is never a successor again; after the end nothing is to be done.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

PIECE_BYTES: Final = 1 << 20
"""Longest append that is sent."""
WINDOW_BYTES: Final = 4 << 20
WINDOW_MESSAGES: Final = 31


@dataclass(frozen=True, slots=True)
class Open:
    """Open the block at the first of these nodes, the rest of the chain behind it; `resume`: others had it before."""

    chain: tuple[int, ...]
    resume: bool


@dataclass(frozen=True, slots=True)
class Append:
    """Send bytes `start` to `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Seal:
    """Ask for the seal."""

    length: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Tell the successor that the block shall disappear."""


Action: TypeAlias = Open | Append | Seal | Abort
Actions: TypeAlias = Sequence[Action]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a successor may say nothing when it is expected to answer, seconds."""

    stall_s: float = 1.5
    """The last of the chain."""
    hop_s: float = 0.75
    """More for each node behind it."""

    def of(self, nodes: int) -> float:
        """Return the patience with a successor, it and those behind it being `nodes`."""
        return self.stall_s + self.hop_s * (nodes - 1)


class State(Enum):
    """What the successor is doing."""

    ALONE = auto()
    """There is none: not yet, or no longer."""
    OPENING = auto()
    STREAMING = auto()
    SEALING = auto()
    SEALED = auto()
    ENDED = auto()
    """The block was given up."""


class ChainCore:
    """One block on its way down one chain."""

    def __init__(self, chain: Sequence[int], *, holders_before: int, write_min: int, patience: Patience) -> None:
        """`chain`: the node ids that follow. `holders_before`: 1 for a node that keeps the block itself, else 0."""
        self.state = State.ALONE
        self.chain = list(chain)
        """The successor and those behind it, as far as they live."""
        self.nodes: tuple[int, ...] = ()
        """Nodes of the chain that have sealed the block."""
        self.failed: list[int] = []
        """Nodes that were cut out, in the order in which that happened."""
        self._holders_before = holders_before
        self._write_min = write_min
        self._patience = patience
        self._available = self._base = self._sent = self._acknowledged = 0
        self._unanswered: deque[int] = deque()  # where the appends end that are not acknowledged
        self._seal: Seal | None = None
        self._heard_at = 0.0
        self._reopening = False

    # ------------------------------------------------------------------------------------------ what is known

    @property
    def acknowledged(self) -> int:
        """Bytes that every live node of the chain has received and checked; all, when none is left."""
        return self._acknowledged if self.chain else self._available

    @property
    def is_below_minimum(self) -> bool:
        """Whether fewer nodes are left, this one counted, than must hold the block."""
        return self._holders_before + len(self.chain) < self._write_min

    @property
    def must_wait(self) -> bool:
        """Whether nothing is to be sent before the successor has answered."""
        if self.state is State.OPENING:
            return True
        return self.state is State.STREAMING and self._is_behind

    @property
    def _is_behind(self) -> bool:
        return self._sent - self._acknowledged > WINDOW_BYTES or len(self._unanswered) > WINDOW_MESSAGES

    @property
    def is_done(self) -> bool:
        """Whether nothing more is expected of the chain after a seal was asked for."""
        return self.state in (State.ALONE, State.SEALED, State.ENDED)

    # ------------------------------------------------------------------------------------------ this end's wishes

    def open(self, now: float) -> Actions:
        """Begin."""
        assert self.state is State.ALONE
        return self._open_next(now)

    def join(self, now: float) -> Actions:
        """Begin where the nodes may have part of the block, or all, from a predecessor that was cut out."""
        self._reopening = True
        return self.open(now)

    def offer(self, now: float, end: int) -> Actions:
        """The bytes up to `end` are there to be sent."""
        assert end >= self._available
        assert self._seal is None or end == self._available
        self._available = end
        return self._advance(now)

    def release(self, start: int) -> None:
        """The bytes before `start`, all acknowledged, are kept no longer: a successor that lacks them is of no use."""
        assert self._base <= start <= self.acknowledged
        self._base = start

    def seal(self, now: float, length: int, checksum: int) -> Actions:
        """The block ends: `length` bytes, all offered, whose CRC32C is `checksum`."""
        assert length == self._available
        self._seal = Seal(length, checksum)
        return self._advance(now)

    def abort(self) -> Actions:
        """Give the block up, sealed or not."""
        linked = self.state in (State.OPENING, State.STREAMING, State.SEALING, State.SEALED)
        self.state = State.ENDED
        return (Abort(),) if linked else ()

    # ------------------------------------------------------------------------------------------ the successor

    def opened(self, now: float, received: int) -> Actions:
        """The successor has opened the block and has `received` bytes of it."""
        possible = self._base <= received <= self._available if self._reopening else received == 0
        if self.state is not State.OPENING or not possible:
            return self.lost(now)
        self.state, self._sent, self._heard_at = State.STREAMING, received, now
        self._unanswered.clear()
        return self._advance(now)

    def heard(self, now: float, acknowledged: int, failed: Collection[int]) -> Actions:
        """The successor says how far its part of the chain is, and who of it failed; or only that it is alive."""
        if not set(failed) <= set(self.chain[1:]) or acknowledged > self._sent:
            return self.lost(now)
        self._heard_at = now
        self._cut(failed)
        self._acknowledged = max(self._acknowledged, acknowledged)
        while self._unanswered and self._unanswered[0] <= self._acknowledged:
            self._unanswered.popleft()
        return self._advance(now)

    def sealed(self, now: float, nodes: Collection[int]) -> Actions:
        """The successor has sealed the block, and so have the others of `nodes`."""
        if self.state is not State.SEALING or not {self.chain[0]} <= set(nodes) <= set(self.chain):
            return self.lost(now)
        self._cut([node for node in self.chain if node not in nodes])
        self.state, self.nodes, self._acknowledged = State.SEALED, tuple(self.chain), self._available
        return ()

    def lost(self, now: float) -> Actions:
        """The successor failed, stalled or talked nonsense: cut it out and go on with the next."""
        if self.state in (State.ALONE, State.SEALED, State.ENDED):
            return ()
        self._cut(self.chain[:1])
        self._reopening = True
        return self._open_next(now)

    def tick(self, now: float) -> Actions:
        """Time has passed."""
        expected = self.must_wait or self.state is State.SEALING
        if expected and now - self._heard_at >= self._patience.of(len(self.chain)):
            return self.lost(now)
        return ()

    # ------------------------------------------------------------------------------------------ steps

    def _cut(self, nodes: Collection[int]) -> None:
        self.failed += [node for node in self.chain if node in nodes]
        self.chain = [node for node in self.chain if node not in nodes]

    def _open_next(self, now: float) -> Actions:
        if not self.chain:
            self.state = State.ALONE
            return ()
        self.state, self._heard_at = State.OPENING, now
        return (Open(tuple(self.chain), self._reopening),)

    def _advance(self, now: float) -> Actions:
        if self.state is not State.STREAMING:
            return ()
        if not self.must_wait:
            self._heard_at = now  # nothing was expected until now
        actions: list[Action] = []
        while self._sent < self._available and not self._is_behind:
            end = min(self._available, self._sent + PIECE_BYTES - self._sent % PIECE_BYTES)
            actions.append(Append(self._sent, end))
            self._unanswered.append(end)
            self._sent = end
        if self._seal is not None and self._sent == self._available:
            self.state = State.SEALING
            self._heard_at = now
            actions.append(self._seal)
        return actions
