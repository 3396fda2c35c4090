"""A whole chain without I/O: a writer and nodes, each with a real `ChainCore`, and links that carry messages in order.

A node does what the servicer does: it answers an append once its core need not wait, takes nothing new before that, and
only the newest link to it counts. Nodes may die at any moment. Bytes are not modelled, only where they begin and end.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from blockyard.proto.blocks.chain import Abort, Actions, Append, ChainCore, Open, Patience, Seal

PATIENCE = Patience(stall_s=1.0, hop_s=0.75)


@dataclass
class Link:
    """What is under way between a sender and its successor."""

    target: "Node"
    down: deque[object] = field(default_factory=deque)
    up: deque[tuple[object, ...]] = field(default_factory=deque)
    cut: bool = False


class Sender:
    """One end that sends: the writer, or a node towards those behind it."""

    def __init__(self, world: "World", chain: tuple[int, ...], holders_before: int, write_min: int) -> None:
        self.world = world
        self.core = ChainCore(chain, holders_before=holders_before, write_min=write_min, patience=PATIENCE)
        self.link: Link | None = None
        self.sent_to: dict[int, int] = {}

    def run(self, actions: Actions) -> None:
        for action in actions:
            match action:
                case Open(chain, resume):
                    self._leave()
                    self.link = Link(self.world.nodes[chain[0]])
                    self.world.links.append(self.link)
                    self.link.down.append((chain, resume))
                case Append(start, end):
                    assert self.link is not None
                    assert start < end
                    self.link.down.append(action)
                case Seal() | Abort():
                    assert self.link is not None
                    self.link.down.append(action)
        if not self.core.chain:
            self._leave()

    def hear(self, said: tuple[object, ...]) -> None:
        now = self.world.now
        match said:
            case "opened", int(received):
                self.run(self.core.opened(now, received))
            case "heard", int(acknowledged), list(failed):
                self.run(self.core.heard(now, acknowledged, failed))
            case "sealed", list(nodes):
                self.run(self.core.sealed(now, nodes))

    def _leave(self) -> None:
        if self.link is not None:
            self.link.cut = True
            self.link = None


class Node:
    """One node: what it has of the block, and its sending end."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.alive = True
        self.length = 0
        self.sealed = False
        self.upstream: Link | None = None
        self.onward: Sender | None = None
        self._answer_due = False
        self._reported = 0
        self._sealing: Seal | None = None

    def take(self, link: Link, message: object) -> None:
        """A message of its predecessor comes."""
        if isinstance(message, tuple):
            chain, resume = message
            assert resume or self.length == 0, "a block is opened anew where it was open"
            self.upstream = link
            self._reported, self._answer_due, self._sealing = 0, False, None
            if self.onward is not None:
                self.onward._leave()
            self.onward = Sender(self.world, chain[1:], holders_before=1, write_min=1)
            self._say("opened", self.length)
            core = self.onward.core
            self.onward.run(core.join(self.world.now) if resume else core.open(self.world.now))
            self.onward.run(core.offer(self.world.now, self.length))
            self._answer_due = self.length > 0
            return
        assert self.onward is not None
        match message:
            case Append(start, end):
                assert start <= self.length, (
                    f"node {self.number} has {self.length} bytes and is sent those from {start}"
                )
                self.length = max(self.length, end)
                self.onward.run(self.onward.core.offer(self.world.now, self.length))
                self._answer_due = True
            case Seal(length, _):
                assert length == self.length, f"node {self.number} has {self.length} of {length} bytes"
                self._sealing = message
                self.onward.run(self.onward.core.seal(self.world.now, length, 0))
            case Abort():
                self.onward.run(self.onward.core.abort())

    @property
    def busy(self) -> bool:
        """Whether it takes nothing new for now."""
        return self._answer_due or self._sealing is not None

    def answer(self) -> None:
        """Say what can be said."""
        if self.onward is None:
            return
        core = self.onward.core
        if self._answer_due and not core.must_wait:
            self._answer_due = False
            self._progress()
        elif self._sealing is not None and core.is_done:
            self._sealing, self.sealed = None, True
            self._say("sealed", [self.number, *core.nodes])

    def live(self) -> None:
        """Show that it lives while it waits for others."""
        if self.onward is not None and self.busy:
            self._progress()

    def _progress(self) -> None:
        assert self.onward is not None
        core = self.onward.core
        failed, self._reported = core.failed[self._reported :], len(core.failed)
        self._say("heard", min(self.length, core.acknowledged), failed)

    def _say(self, *said: object) -> None:
        assert self.upstream is not None
        if not self.upstream.cut:
            self.upstream.up.append(said)


class World:
    """A writer, its chain, and everything between."""

    def __init__(self, nodes: int, write_min: int, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.links: list[Link] = []
        self.nodes = {number: Node(self, number) for number in range(1, nodes + 1)}
        self.writer = Sender(self, tuple(self.nodes), holders_before=0, write_min=write_min)

    def step(self) -> bool:
        """Let one thing happen, whichever; return whether anything could."""
        possible = []
        for link in self.links:
            if (
                link.down
                and link.target.alive
                and not link.target.busy
                and not (link.cut and link.target.upstream is not link)
            ):
                possible.append((self._deliver_down, link))
            if link.up and not link.cut:
                possible.append((self._deliver_up, link))
        if not possible:
            return False
        deliver, link = self.random.choice(possible)
        deliver(link)
        self._answers()
        return True

    def wait(self, seconds: float) -> None:
        """Time passes; who waits for others says so first, as their clocks are finer."""
        self.now += seconds
        for node in self.nodes.values():
            if node.alive:
                node.live()
        for sender in self._senders():
            while sender.link is not None and sender.link.up:
                self._deliver_up(sender.link)
            sender.run(sender.core.tick(self.now))
        self._answers()

    def kill(self, number: int) -> None:
        """A node dies: nothing comes from it any more, and nobody is told."""
        self.nodes[number].alive = False

    def _senders(self) -> list[Sender]:
        return [self.writer, *(node.onward for node in self.nodes.values() if node.alive and node.onward is not None)]

    def _answers(self) -> None:
        for node in self.nodes.values():
            if node.alive:
                node.answer()

    def _deliver_down(self, link: Link) -> None:
        message = link.down.popleft()
        if link.cut or (link.target.upstream is not link and not isinstance(message, tuple)):
            return  # from a predecessor that counts no longer
        link.target.take(link, message)

    def _deliver_up(self, link: Link) -> None:
        said = link.up.popleft()
        for sender in self._senders():
            if sender.link is link:
                sender.hear(said)
