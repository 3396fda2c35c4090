"""Clients: one operation at a time each, tried until it is answered or, rarely, given up.

A write keeps its request id on every retry, whichever member it asks; a write that is given up may still happen later
or never. A read is checked against everything that any client had been told when it began.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.checkers.linearizability import Operation
from tests.checkers.models import Append, CompareAndSet, Read, Write
from tests.simulator.state_machine import LISTS, REGISTERS, Answer, Command, CommandKind
from tests.simulator.world import TICK

if TYPE_CHECKING:
    from tests.simulator.cluster import Cluster


class Client:
    """Asks the member it believes to lead; anybody for reads."""

    def __init__(self, cluster: Cluster, id: int) -> None:
        self.cluster, self.world, self.id = cluster, cluster.world, id
        self.target = 0
        self.sequence = 0  # of its newest write
        self.request = 0  # of its newest operation, reads included
        self.attempt = 0
        self.command: Command | None = None  # the write under way, None while reading
        self.read_key = -1
        self.seen_at_start = 0
        self.busy = False
        self.began = 0
        self.last_read: dict[int, int] = {}
        self.done = 0
        self.retired = False

    def retire(self) -> None:
        """Finish the operation under way and begin no other."""
        self.retired = True

    def begin(self) -> None:
        """Start the next operation."""
        if self.retired:
            return
        chance, plan = self.world.chance, self.cluster.plan
        self.busy = True
        self.began = self.world.now
        self.request += 1
        if chance.random() < plan.read_share:
            self.command = None
            self.read_key = chance.randrange(REGISTERS)
            self.seen_at_start = self.cluster.checker.seen_index
        else:
            self.sequence += 1
            self.command = self._draw_command()
        self._try()

    def _draw_command(self) -> Command:
        chance = self.world.chance
        kind = chance.randrange(3)
        key = chance.randrange(LISTS if kind == CommandKind.APPEND else REGISTERS)
        self.cluster.last_value += 1
        return Command(self.id, self.sequence, kind, key, self.cluster.last_value, self.last_read.get(key, 0))

    def _try(self) -> None:
        cluster, plan = self.cluster, self.cluster.plan
        self.attempt += 1
        astray = plan.wrong_door if self.command is not None else max(plan.wrong_door, plan.read_anywhere)
        if self.target not in cluster.members or self.world.chance_of(astray):
            self.target = self.world.chance.choice(cluster.membership.ids)
        member = cluster.members[self.target]
        if self.command is not None:
            cluster.network.send(-self.id, self.target, member.client_write, self, self.command, self.attempt)
        else:
            cluster.network.send(
                -self.id, self.target, member.client_read, self, self.request, self.read_key, self.attempt
            )
        self.world.after(plan.client_timeout_ticks * TICK, self._timed_out, self.attempt)

    def _timed_out(self, attempt: int) -> None:
        if not self.busy or attempt != self.attempt:
            return
        self.target = self.world.chance.choice(self.cluster.membership.ids)
        if self.world.chance_of(self.cluster.plan.give_up):
            self.world.note("gave up", self.id, self.request)
            if self.command is not None:
                self._remember(0, None)  # perhaps it happened, perhaps it will
            self._finish()
        else:
            self._try()

    def refused(self, attempt: int, leader: int) -> None:
        """The member did nothing; try where it points, or anybody."""
        if self.busy and attempt == self.attempt:
            self.attempt += 1
            self.target = leader or self.world.chance.choice(self.cluster.membership.ids)
            self.world.after(1 + self.world.chance.randrange(TICK), self._try_again, self.attempt)

    def read_refused(self, request: int) -> None:
        if self.busy and self.command is None and request == self.request:
            self.refused(self.attempt, 0)

    def _try_again(self, attempt: int) -> None:
        if self.busy and attempt == self.attempt:
            self._try()

    def write_done(self, sequence: int, index: int, outcome: int) -> None:
        command = self.command
        if self.busy and command is not None and sequence == command.sequence:
            self.world.note("acknowledged", self.id, sequence, index, outcome)
            self.cluster.checker.write_acknowledged(command, Answer(index, outcome))
            self.done += 1
            self._remember(outcome, self.world.now)
            self._finish()

    def read_done(self, request: int, key: int, value: int, at_index: int) -> None:
        if self.busy and self.command is None and request == self.request:
            self.world.note("read", self.id, key, value, at_index)
            self.cluster.checker.read_answered(key, value, at_index, self.seen_at_start)
            self.last_read[key] = value
            self.done += 1
            self._remember(value, self.world.now)
            self._finish()

    def _remember(self, outcome: int, returned: int | None) -> None:
        self.cluster.history.append(as_operation(self.id, self.command, self.read_key, outcome, self.began, returned))

    def under_way(self) -> list[Operation[Any, Any]]:
        """Return the write that nobody has answered yet, if there is one."""
        if not self.busy or self.command is None:
            return []
        return [as_operation(self.id, self.command, -1, 0, self.began, None)]

    def _finish(self) -> None:
        self.busy = False
        self.cluster.longest_wait = max(self.cluster.longest_wait, self.world.now - self.began)
        think = max(self.cluster.plan.think_ticks, self.cluster.least_think_ticks) * TICK
        self.world.after(1 + int(self.world.chance.random() * 2 * think), self.begin)


def as_operation(
    client: int, command: Command | None, read_key: int, outcome: int, called: int, returned: int | None
) -> Operation[Any, Any]:
    """Return a client's operation as the sequential models name it; register 3 is part 3, list 3 part -4."""
    if command is None:
        return Operation(client, Read(read_key), outcome or None, called, returned)
    if command.kind == CommandKind.WRITE:
        return Operation(client, Write(command.value, command.key), None, called, returned)
    if command.kind == CommandKind.COMPARE_AND_SET:
        action = CompareAndSet(command.expected or None, command.value, command.key)
        return Operation(client, action, bool(outcome), called, returned)
    return Operation(client, Append(command.value, -1 - command.key), outcome, called, returned)
