"""Nodes that are killed, at random and at every failpoint, one or all (RELIABILITY.md, rows 1 and 2).

After each: every acknowledged block is whole and right on all its holders, what died is gone, and the disks hold
nothing that no row speaks of.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

from blockyard.proto import failpoints

from tests.checkers.blocks import check_directory
from tests.storagenode.faults.workload import Workload, until_serving, until_sound
from tests.support.storage_cluster import StorageCluster, wait_until

OWN = ("write.", "seal.", "put.", "store.", "identity.")
WRITING = (
    "write.opened",
    "write.appended",
    "seal.forwarded",
    "seal.sealed",
    "seal.acknowledged",
    "put.received",
    "put.stored",
    "put.acknowledging",
    "store.append.before",
    "store.append.written",
    "store.append.synced",
    "store.pack.created",
    "store.seal.synced",
    "store.seal.logged",
    "store.seal.named",
)
"""Points that a node comes to while clients write."""
DROPPING = (
    "store.drop.logged",
    "store.drop.renamed",
    "store.punch.filled",
    "store.rewrite.copied",
    "store.rewrite.renamed",
    "store.rewrite.switched",
)
"""Points that it comes to while blocks die."""
PULLING = ("store.append.written", "store.append.synced", "store.seal.synced", "store.seal.logged", "store.seal.named")
"""Points that it comes to as well while it fetches what it lacks."""
STARTING = ("identity.written", "identity.renamed", "store.rebuild.begun", "store.rebuild.replayed")


def test_every_failpoint_of_a_storage_node_is_killed_at_here() -> None:
    own = {name for name in failpoints.TABLE if name.startswith(OWN)}
    assert {*WRITING, *DROPPING, *STARTING} == own
    assert {*PULLING} <= own


def die(cluster: StorageCluster, doomed: Mapping[str, Sequence[str]], disturb: Callable[[], object]) -> None:
    """Let nodes die at one failpoint of theirs after the other, each time in the start that recovers from the last.

    `disturb` is called until they are dead. A point that a node does not come to is a failed test.
    """
    cluster.kill(*doomed)
    for points in zip_longest(*doomed.values()):
        armed = {name: point for name, point in zip(doomed, points, strict=True) if point is not None}
        for name, point in armed.items():
            arguments = ["--rebuild-index"] if point.startswith("store.rebuild.") else []
            cluster.start(name, environment={failpoints.VARIABLE: f"{point}=kill"}, arguments=arguments)
        for name, point in armed.items():
            node = cluster.nodes[name]
            wait_until(lambda node=node: disturb() or not node.running, f"{name} dies at {point}")  # type: ignore[misc]
            assert cluster.ended(name) == -9, f"{name} did not die of {point}: {node.output()[-2000:]}"
    cluster.start(*doomed)
    for name in doomed:
        until_serving(cluster, name)


def check_disks(cluster: StorageCluster, work: Workload) -> None:
    """Kill all nodes and demand that their disks are in order."""
    cluster.kill()
    for node in cluster.nodes.values():
        findings = check_directory(node.directory, work.manifest.written())
        assert not findings, f"{node.name}: {[str(finding) for finding in findings[:10]]}"


def test_nodes_that_die_at_any_point_of_a_write_lose_nothing(four: StorageCluster, work: Workload) -> None:
    die(four, {"n1": WRITING[::2], "n2": WRITING[1::2]}, lambda: None)
    work.more(10)
    work.rest()
    assert work.refused or work.detours, "nothing was at risk"
    until_sound(four, work.manifest)
    check_disks(four, work)


def test_nodes_that_die_at_any_point_of_a_drop_keep_nothing_dead(four: StorageCluster, work: Workload) -> None:
    dead: set[int] = set()

    def bury() -> None:
        if four.status().reclaim_blocks < 100:
            work.more(40)
            entries = work.manifest.snapshot()
            dead.update(work.bury(entries[: len(entries) * 3 // 4]))

    die(four, {"n2": DROPPING}, bury)
    work.rest()
    until_sound(four, work.manifest, dead)
    check_disks(four, work)
    four.start()
    for name in four.nodes:
        until_serving(four, name)
    until_sound(four, work.manifest, dead)


def test_a_node_that_dies_at_any_point_of_its_start_or_of_a_pull_goes_on(four: StorageCluster, work: Workload) -> None:
    work.more(100)
    four.kill("n3")
    work.more(100)
    work.rest()
    die(four, {"n3": (*STARTING, *PULLING)}, lambda: None)
    until_sound(four, work.manifest)
    check_disks(four, work)


def test_nodes_killed_at_random_and_all_at_once_lose_nothing(four: StorageCluster, work: Workload) -> None:
    chance = random.Random(12)
    kills = 0
    for _ in range(4):
        work.more(chance.randint(5, 30))
        victims: Sequence[str] = chance.sample(tuple(four.nodes), chance.choice([1, 1, 2]))
        four.kill(*victims)
        kills += len(victims)
        if len(victims) == 1:
            work.more(10)
        four.start(*victims)
        for name in victims:
            until_serving(four, name)
    for _ in range(2):
        work.more(10)
        four.kill()
        for name in chance.sample(tuple(four.nodes), 4):
            four.start(name)
            if chance.random() < 0.3:
                until_serving(four, name)
        for name in four.nodes:
            until_serving(four, name)
    work.more(10, reads=10)
    work.rest()
    assert work.refused, "no write was at risk"
    until_sound(four, work.manifest)
    work.read_all()
    check_disks(four, work)
