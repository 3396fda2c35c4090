"""A seeded swarm: one seed chooses the faults, their victims and their times; a workload runs through all of it.

    python -m tests.storagenode.faults.swarm --seed 7            one run
    python -m tests.storagenode.faults.swarm --hours 8           seed after seed; the first failure ends it

One node is harmed at a time, or all are killed. Afterwards everything is healed, and every checker must be content: the
manifest, the dead, and each disk by itself. A run in which nothing was at risk has failed.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blockyard.proto import failpoints

from tests.checkers.blocks import check_directory
from tests.storagenode.faults import test_rot as rot
from tests.storagenode.faults.disks import flip_bit, injected, large_files
from tests.storagenode.faults.workload import Workload, until_serving, until_sound
from tests.support.storage_cluster import StorageCluster, wait_until

ZONES = ("z1", "z2", "z3", "z4")
SETTINGS = {"storagenode": {"pack_size_bytes": 1 << 20}}
OUTCOME_S = 120.0
"""How long the cluster may take until all is well after the last fault."""

AT_REST = (
    rot.flip_large_file,
    rot.flip_pack_records,
    rot.flip_pack_header,
    rot.flip_index_tables,
    rot.flip_index_manifest,
    rot.tear_tail,
    rot.zero_tail,
    rot.swap_files,
    rot.lose_file,
    rot.lose_pack,
)
POINTS = [name for name in failpoints.TABLE if name.startswith(("write.", "seal.", "put.", "store.append", "store.seal",
                                                                  "store.drop"))]  # fmt: skip


@dataclass(slots=True)
class World:
    """One run."""

    cluster: StorageCluster
    work: Workload
    chance: random.Random
    dead: set[int] = field(default_factory=set)
    struck: Counter[str] = field(default_factory=Counter)
    """Faults that took effect, by name."""

    def victim(self) -> str:
        return self.chance.choice(tuple(self.cluster.nodes))

    def go_on(self) -> None:
        """Let some work be done; writes may be refused meanwhile, but not all of them for long."""
        self.work.more(self.chance.randint(3, 12), timeout_s=60)

    def back(self, name: str) -> None:
        self.cluster.start(name)
        until_serving(self.cluster, name, supervised=True)


# ------------------------------------------------------------------------------------------ faults


def kill(world: World) -> None:
    name = world.victim()
    world.cluster.kill(name)
    world.struck["kill"] += 1
    world.go_on()
    world.back(name)


def kill_all(world: World) -> None:
    world.cluster.kill()
    world.struck["kill_all"] += 1
    names = world.chance.sample(tuple(world.cluster.nodes), len(world.cluster.nodes))
    for name in names:
        world.cluster.start(name)
    for name in names:
        until_serving(world.cluster, name)
    world.go_on()


def kill_metadata(world: World) -> None:
    number = world.chance.choice((1, 2, 3))
    world.cluster.meta.kill(number)
    world.struck["kill_metadata"] += 1
    world.go_on()
    world.cluster.meta.start(number)


def die_at_a_point(world: World) -> None:
    name, point = world.victim(), world.chance.choice(POINTS)
    node = world.cluster.nodes[name]
    world.cluster.kill(name)
    world.cluster.start(name, environment={failpoints.VARIABLE: f"{point}=kill@{world.chance.randint(1, 5)}"})
    if point.startswith("store.drop"):
        bury(world)
    wait_until(lambda: not node.running, f"{name} dies at {point}", 60)
    world.struck[point] += 1
    world.back(name)


def pause(world: World) -> None:
    name = world.victim()
    world.cluster.pause(name)
    world.struck["pause"] += 1
    try:
        world.go_on()
    finally:
        world.cluster.resume(name)
    until_serving(world.cluster, name)


def slow_disk(world: World) -> None:
    delay_us = world.chance.choice((50_000, 500_000, 4_000_000))
    with injected(world.cluster, world.victim(), f"fsync,fdatasync:delay_enter={delay_us}"):
        world.struck["slow_disk"] += 1
        world.go_on()


def failed_sync(world: World) -> None:
    name = world.victim()
    with injected(world.cluster, name, "fsync,fdatasync:error=EIO:when=1"):
        assert world.cluster.ended(name, 60) == 3
    world.struck["failed_sync"] += 1
    world.go_on()
    world.back(name)


def rot_at_rest(world: World) -> None:
    name, damage = world.victim(), world.chance.choice(AT_REST)
    directory = world.cluster.nodes[name].directory
    if len(large_files(directory)) < 2:
        return
    world.cluster.stop(name)
    damage(directory, world.chance)
    world.struck[damage.__name__] += 1
    world.back(name)
    rot.scrub(world.cluster, name)
    mend(world)


def rot_alive(world: World) -> None:
    name = world.victim()
    files = large_files(world.cluster.nodes[name].directory)
    if files:
        path = world.chance.choice(files)
        try:
            flip_bit(path, world.chance)
        except FileNotFoundError:
            return  # it was dropped at this moment
        world.struck["rot_alive"] += 1
        rot.scrub(world.cluster, name)
        mend(world)


def wipe(world: World) -> None:
    name = world.victim()
    world.cluster.kill(name)
    world.cluster.wipe(name)
    world.struck["wipe"] += 1
    wait_until(lambda: not world.cluster.node(name).answers, f"{name} is missed")
    world.back(name)
    mend(world)


def mend(world: World) -> None:
    """Wait until all is whole: the next fault may take what is the last copy of something now."""
    world.work.rest()
    until_sound(world.cluster, world.work.manifest, world.dead, OUTCOME_S)
    world.work.go_on()


def bury(world: World) -> None:
    entries = world.work.manifest.snapshot()
    if len(entries) > 40:
        world.dead |= world.work.bury(world.chance.sample(entries, len(entries) // 3))
        world.struck["bury"] += 1


FAULTS: Sequence[Callable[[World], None]] = (
    kill, kill_all, kill_metadata, die_at_a_point, pause, slow_disk, failed_sync, rot_at_rest, rot_alive, wipe,
)  # fmt: skip


# ------------------------------------------------------------------------------------------ runs


def run(seed: int, root: Path, rounds: int = 6) -> Counter[str]:
    """Play one seed in an empty directory; return what struck. Raises AssertionError with what is wrong."""
    chance = random.Random(seed)
    chosen = chance.sample(FAULTS, chance.randint(3, len(FAULTS)))
    with StorageCluster(root / "cluster", ZONES, node_settings=SETTINGS) as cluster:
        with Workload(cluster, root / "manifest", seed=seed) as work:
            world = World(cluster, work, chance)
            for _ in range(rounds):
                chance.choice(chosen)(world)
                if chance.random() < 0.5:
                    bury(world)
            work.rest()
            until_sound(cluster, work.manifest, world.dead, OUTCOME_S)
            work.read_all()
        assert world.struck.total() - world.struck["bury"], "nothing was at risk"
        cluster.kill()
        for node in cluster.nodes.values():
            findings = check_directory(node.directory, work.manifest.written())
            assert not findings, f"{node.name}: {[str(finding) for finding in findings[:10]]}"
    return world.struck


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the first seed")
    parser.add_argument("--hours", type=float, default=0.0, help="go on for so long; 0: one run")
    parser.add_argument("--rounds", type=int, default=10, help="faults in a run")
    arguments: Any = parser.parse_args()
    end = time.monotonic() + arguments.hours * 3600
    total: Counter[str] = Counter()
    seed = arguments.seed
    while True:
        root = Path(tempfile.mkdtemp(prefix="swarm"))
        try:
            struck = run(seed, root, arguments.rounds)
        except BaseException:
            sys.stderr.write(f"seed {seed} failed; again: --seed {seed} --rounds {arguments.rounds}; logs in {root}\n")
            raise
        shutil.rmtree(root)
        total += struck
        sys.stdout.write(f"seed {seed}: {dict(struck)}\n")
        sys.stdout.flush()
        seed += 1
        if time.monotonic() >= end:
            break
    sys.stdout.write(f"all well: {dict(total)}\n")


if __name__ == "__main__":
    main()
