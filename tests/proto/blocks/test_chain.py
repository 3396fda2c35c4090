"""The decisions of a write chain: whole chains of real cores under random schedules and deaths, and transcripts."""

from pathlib import Path

import pytest
from blockyard.proto.blocks.chain import PIECE_BYTES, WINDOW_BYTES, Append, ChainCore, Open, Patience, State
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.proto.blocks.chain_world import World
from tests.proto.blocks.transcripts import run_transcript

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))
PIECES = st.integers(1, 20)


def drive(world: World, total: int, deaths: dict[int, int], sleeps: set[int]) -> None:
    """Write `total` bytes; node deaths[step] dies at that step, and time passes at the steps in `sleeps`."""
    core = world.writer.core
    world.writer.run(core.open(world.now))
    offered, sealed, idle = 0, False, 0
    for step in range(20_000):
        if step in deaths:
            world.kill(deaths[step])
        if step in sleeps:
            world.wait(0.25)
        if not core.must_wait and core.state is State.STREAMING:
            if offered < total:
                offered = min(total, offered + PIECE_BYTES)
                world.writer.run(core.offer(world.now, offered))
                core.release(max(0, core.acknowledged - core.acknowledged % PIECE_BYTES))
            elif not sealed:
                sealed = True
                world.writer.run(core.seal(world.now, total, 0))
        check_acknowledged(world)
        moved = world.step()
        idle = 0 if moved else idle + 1
        if not moved:
            world.wait(0.25)
        if core.state is State.SEALED or not core.chain:
            return
        assert idle < 200, f"nothing happens any more: {core.state}"
    raise AssertionError("the write never ended")


def check_acknowledged(world: World) -> None:
    core = world.writer.core
    for number in core.chain:
        node = world.nodes[number]
        assert core.acknowledged <= node.length, f"{core.acknowledged} acknowledged, node {number} has {node.length}"


@settings(max_examples=300, deadline=None)
@given(
    nodes=st.integers(1, 5),
    total=st.integers(1, 12 * PIECE_BYTES),
    seed=st.integers(0, 2**32),
    deaths=st.dictionaries(st.integers(0, 120), st.integers(1, 5), max_size=4),
    sleeps=st.sets(st.integers(0, 200), max_size=30),
)
def test_what_is_sealed_is_whole_on_every_node_that_is_named(
    nodes: int, total: int, seed: int, deaths: dict[int, int], sleeps: set[int]
) -> None:
    deaths = {step: node for step, node in deaths.items() if node <= nodes}
    world = World(nodes, write_min=1, seed=seed)
    drive(world, total, deaths, sleeps)
    core = world.writer.core
    if core.state is State.SEALED:
        assert core.nodes
        for number in core.nodes:
            assert world.nodes[number].sealed
            assert world.nodes[number].length == total
    assert set(core.nodes) | set(core.failed) == set(world.nodes) or not core.nodes
    if not sleeps and not deaths:
        assert core.nodes == tuple(world.nodes), "nobody failed, and somebody was cut out"


@settings(max_examples=100, deadline=None)
@given(nodes=st.integers(2, 5), dies=st.integers(1, 5), at=st.integers(0, 80), seed=st.integers(0, 2**32))
def test_one_dead_node_costs_no_other(nodes: int, dies: int, at: int, seed: int) -> None:
    world = World(nodes, write_min=1, seed=seed)
    drive(world, 8 * PIECE_BYTES + 5, {at: dies} if dies <= nodes else {}, set())
    survivors = [number for number, node in world.nodes.items() if node.alive]
    assert [number for number in world.writer.core.nodes if number in survivors] == survivors


@settings(max_examples=200, deadline=None)
@given(
    received=st.integers(0, 1 << 24),
    acknowledged=st.integers(0, 1 << 24),
    nodes=st.lists(st.integers(0, 5)),
    failed=st.lists(st.integers(0, 5)),
    words=st.lists(st.sampled_from(["opened", "heard", "sealed", "tick"]), max_size=8),
)
def test_whatever_a_successor_says_nothing_is_believed_that_cannot_be(
    received: int, acknowledged: int, nodes: list[int], failed: list[int], words: list[str]
) -> None:
    core = ChainCore([1, 2, 3], holders_before=0, write_min=1, patience=Patience())
    core.open(0.0)
    core.offer(0.0, 2 * PIECE_BYTES)
    for word in words:
        before = core.acknowledged if core.chain else 0
        match word:
            case "opened":
                core.opened(0.0, received)
            case "heard":
                core.heard(0.0, acknowledged, failed)
            case "sealed":
                core.sealed(0.0, nodes)
            case _:
                core.tick(0.0)
        assert core.state is not State.SEALED, "nobody asked for a seal"
        assert before <= core.acknowledged <= 2 * PIECE_BYTES
        assert sorted([*core.chain, *core.failed]) == [1, 2, 3]


def test_the_window_bounds_what_is_sent_ahead() -> None:
    core = ChainCore([1], holders_before=0, write_min=1, patience=Patience())
    core.open(0.0)
    core.offer(0.0, 64 * PIECE_BYTES)
    ends = [each.end for each in core.opened(0.0, 0) if isinstance(each, Append)]
    assert WINDOW_BYTES < ends[-1] <= WINDOW_BYTES + PIECE_BYTES
    assert core.must_wait


def test_a_successor_that_lost_what_the_writer_no_longer_holds_is_passed_over() -> None:
    core = ChainCore([1, 2, 3], holders_before=0, write_min=1, patience=Patience())
    core.open(0.0)
    core.offer(0.0, PIECE_BYTES)
    core.opened(0.0, 0)
    core.heard(0.0, PIECE_BYTES, [])
    core.release(PIECE_BYTES)
    assert core.lost(0.0) == (Open((2, 3), resume=True),)
    assert core.opened(0.0, 0) == (Open((3,), resume=True),)
    assert core.failed == [1, 2]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    assert run_transcript(path.read_text()) == path.read_text()


def test_there_are_transcripts() -> None:
    assert len(GOLDEN) >= 4
