"""One run: safety under anything, then a healed quorum that must make progress.

A run is named by its seed and its event count; the same two give the same trace, on any machine.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from tests.simulator.cluster import Cluster
from tests.simulator.faults import Cell, Nemesis
from tests.simulator.member import Member
from tests.simulator.plan import Fault, Plan, draw_plan
from tests.simulator.state_machine import differing_rows
from tests.simulator.trace_check import require
from tests.simulator.world import TICK, Violation, World

PROGRESS_BOUND_TICKS = 1_500
"""Within so many ticks of healing, every client has a new answer and all living data members agree."""

CALM_THINK_TICKS = 8.0
"""How long clients think after healing: some groups are drawn with links too narrow to catch up under full load."""

DEFAULT_EVENTS = 4_000


@dataclass(slots=True)
class RunResult:
    """What one run did. `violation` is empty when every promise was kept."""

    seed: int
    events: int  # asked for in the first phase
    without: tuple[Fault, ...] = ()
    total_events: int = 0
    digest: int = 0
    violation: str = ""
    failed_at_event: int = 0
    tail: str = ""
    faults: Counter[Fault] = field(default_factory=Counter)
    cells: Counter[Cell] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    progress_ticks: int = 0
    counts: bool = True  # False: nothing was at risk

    @property
    def command(self) -> str:
        without = "".join(f" --without {fault.name.lower()}" for fault in self.without)
        return f"python -m tests.simulator --seed {self.seed} --events {self.events}{without}"


class Run:
    """A cluster, its nemesis, and the two phases."""

    def __init__(self, seed: int, without: Collection[Fault] = (), plan: Plan | None = None) -> None:
        self.world = World(seed)
        self.plan = plan or draw_plan(self.world.chance)
        self.cluster = Cluster(self.world, self.plan)
        self.nemesis = Nemesis(self.cluster, without)
        self.progress_ticks = 0

    def suffer(self, events: int) -> None:
        """Phase one: anything may happen, and nothing may be broken."""
        self.cluster.start()
        self.nemesis.start()
        self.world.run_events(events)

    def recover(self) -> None:
        """Phase two: with a quorum healed, clients get answers and members agree, within the bound."""
        world, cluster = self.world, self.cluster
        world.note("heal")
        self.nemesis.heal(self._stays_dead())
        cluster.least_think_ticks = CALM_THINK_TICKS
        healed_at = world.now
        before = {client.id: client.done for client in cluster.clients}
        deadline = healed_at + PROGRESS_BOUND_TICKS * TICK

        def answered() -> bool:
            return all(client.done > before[client.id] for client in cluster.clients) and not cluster.operator.replacing

        if not world.run_until(answered, deadline):
            waiting = [client.id for client in cluster.clients if client.done == before[client.id]]
            replacing = cluster.operator.old, cluster.operator.new
            raise Violation(
                f"no progress within {PROGRESS_BOUND_TICKS} ticks of healing: clients {waiting} wait, "
                f"replacing {replacing}, members {self._summary()}"
            )
        self.progress_ticks = (world.now - healed_at) // TICK
        for client in cluster.clients:
            client.retire()
        require(
            world.run_until(self._agreed, world.now + PROGRESS_BOUND_TICKS * TICK),
            "no agreement within {} ticks of the last write: {}", PROGRESS_BOUND_TICKS, self._summary(),
        )  # fmt: skip
        self._compare_states()

    def _stays_dead(self) -> Member | None:
        """Any two of the three suffice, so sometimes one stays dead for good."""
        cluster, chance = self.cluster, self.world.chance
        draw = chance.random()
        if not cluster.disk_may_be_lost or self.plan.heal_all or draw < 0.3:
            return None
        return chance.choice([cluster.members[id] for id in cluster.membership.ids])

    def _living_data(self) -> list[Member]:
        return [member for member in self.cluster.data_members() if member.core is not None]

    def _agreed(self) -> bool:
        newest = self.cluster.checker.reference_applied
        waiting = any(client.busy for client in self.cluster.clients)
        return not waiting and all(member.machine.applied == newest for member in self._living_data())

    def _compare_states(self) -> None:
        """Row by row, not only by digest."""
        reference = self.cluster.checker.reference.rows
        for member in self._living_data():
            self.cluster.checker.acknowledged_survive(member.id, member.machine.applied, member.machine.digest)
            rows = differing_rows(member.machine.rows, reference)
            require(not rows, "member {} ends with other rows {} than the log says", member.id, rows)

    def _summary(self) -> str:
        parts = []
        for id, member in self.cluster.members.items():
            core = member.core
            if core is None:
                parts.append(f"{id}: {'lost' if member.lost else 'dead'}")
            else:
                parts.append(
                    f"{id}: {core.role.value} term {core.term} commit {core.commit} applied {member.machine.applied} "
                    f"log {member.disk.base.index}..{member.disk.last_index()} of {core.membership.ids}"
                )
        return "; ".join(parts)


def run_seed(
    seed: int, events: int = DEFAULT_EVENTS, without: Collection[Fault] = (), plan: Plan | None = None
) -> RunResult:
    """Run both phases; any broken promise, and any exception of the core, is the result's `violation`."""
    result = RunResult(seed, events, tuple(sorted(without)))
    run = Run(seed, without, plan)
    try:
        run.suffer(events)
        run.recover()
    except Violation as violation:
        result.violation = str(violation)
    except Exception as error:  # noqa: BLE001 -- a core that raises has failed this seed, and must not end the others
        result.violation = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    world, nemesis = run.world, run.nemesis
    result.total_events, result.digest = world.events, world.digest
    result.faults, result.cells, result.facts = nemesis.happened, nemesis.cells, world.facts
    result.acknowledged = len(run.cluster.checker.acknowledged)
    result.progress_ticks = run.progress_ticks
    result.counts = not run.cluster.checker.nothing_was_at_risk(sum(nemesis.happened.values()))
    if result.violation:
        result.failed_at_event = world.events
        result.tail = world.readable_tail()
    return result
