"""What is worth rewriting: the bounds that the policy promises, and what it leaves alone."""

import random
from collections.abc import Sequence

import pytest
from blockyard.metaserver.compaction.policy import (
    JOB_COST_BYTES,
    PATIENCE_MAX,
    PIECE_COST_BYTES,
    QUIET_UNIT_S,
    Plan,
    hopeless,
    plan,
)
from blockyard.metaserver.namespace import slices
from blockyard.metaserver.namespace.slices import CHUNK_BYTES, CROWDED_PIECES, Piece
from hypothesis import given
from hypothesis import strategies as st

KIB, MIB = 1 << 10, 1 << 20
LONG_S = PATIENCE_MAX * QUIET_UNIT_S


class Chunk:
    """A chunk that is written to, and compacted at once whenever the policy says so."""

    def __init__(self, size: int) -> None:
        self.blocks = 1
        self.row = slices.encode([(0, size, 1, 0, size)]) if size else b""
        self.written = self.rewritten = self.jobs = self.most_pieces = 0

    @property
    def pieces(self) -> list[Piece]:
        return slices.parse(self.row)

    def write(self, start: int, length: int) -> None:
        self.blocks += 1
        self.row, _, _ = slices.overlaid(self.row, (start, length, self.blocks, 0, length))
        self.written += length
        self.most_pieces = max(self.most_pieces, len(self.pieces))

    def compact(self, quiet_s: float = 0) -> bool:
        found = decide(self.pieces, quiet_s) if slices.crowded(self.row) else None
        if found is None:
            return False
        self.blocks += 1
        ranges = [(piece[0], piece[0] + piece[1]) for piece in found.pieces]
        _, kept = slices.cut(self.pieces, ranges)
        before = slices.spans(self.pieces)
        self.row = slices.encode(slices.joined([*kept, *found.replacement(self.blocks)]))
        assert slices.spans(self.pieces) == before, "the same bytes are covered"
        self.rewritten += found.length
        self.jobs += 1
        return True


def decide(pieces: Sequence[Piece], quiet_s: float = 0) -> Plan | None:
    """Ask the policy about a chunk whose blocks nobody else refers to."""
    counts: dict[int, int] = {}
    for piece in pieces:
        counts[piece[2]] = counts.get(piece[2], 0) + 1
    return plan(pieces, counts.__getitem__, quiet_s)


def adjoining(count: int, length: int) -> list[Piece]:
    return [(at * length, length, at + 1, 0, length) for at in range(count)]


@pytest.mark.parametrize(("write", "bound"), [(4 * KIB, 49), (24 * KIB, 9), (64 * KIB, 4), (MIB, 1)])
def test_random_overwrites_of_a_hot_chunk_cost_a_bounded_number_of_bytes_each(write: int, bound: float) -> None:
    chunk, rng = Chunk(CHUNK_BYTES), random.Random(1)
    for _ in range(3_000):
        chunk.write(rng.randrange(CHUNK_BYTES // write) * write, write)
        chunk.compact()
    assert chunk.jobs > 0
    assert chunk.rewritten <= bound * chunk.written
    assert chunk.most_pieces <= CHUNK_BYTES // PIECE_COST_BYTES + JOB_COST_BYTES // PIECE_COST_BYTES + 4


def test_an_appended_log_is_written_anew_a_few_times_only() -> None:
    chunk, at = Chunk(0), 0
    while at < CHUNK_BYTES:
        chunk.write(at, 4 * KIB)
        at += 4 * KIB
        chunk.compact()
    assert chunk.rewritten <= 2 * chunk.written
    assert chunk.most_pieces <= CHUNK_BYTES // PIECE_COST_BYTES + CROWDED_PIECES
    while chunk.compact(quiet_s=LONG_S):
        pass
    assert len(chunk.pieces) == 1
    assert chunk.rewritten <= 3 * chunk.written


def test_a_hot_end_of_a_long_chunk_is_joined_without_the_cold_rest() -> None:
    chunk, rng = Chunk(CHUNK_BYTES), random.Random(2)
    for _ in range(200):
        chunk.write(rng.randrange(256) * 4 * KIB, 4 * KIB)
    found = decide(chunk.pieces)
    assert found is not None
    assert found.length <= 2 * MIB


def test_quiet_makes_a_long_chunk_of_few_pieces_one() -> None:
    pieces = adjoining(CROWDED_PIECES + 1, 1_900 * KIB)
    assert decide(pieces) is None
    assert decide(pieces, quiet_s=60) is None
    found = decide(pieces, quiet_s=150)
    assert found == Plan(tuple(pieces))
    assert found.replacement(99) == [(0, 33 * 1_900 * KIB, 99, 0, 33 * 1_900 * KIB)]


def test_few_pieces_are_left_alone_however_long() -> None:
    assert decide(adjoining(CROWDED_PIECES, 4 * KIB), quiet_s=LONG_S) is None


def test_pieces_with_holes_between_them_cannot_be_joined() -> None:
    pieces = [(at * MIB, 4 * KIB, at + 1, 0, 4 * KIB) for at in range(64)]
    assert hopeless(pieces, lambda block: 1)
    joined = [*pieces, (63 * MIB + 4 * KIB, 9, 99, 0, 9)]
    assert not hopeless(joined, lambda block: 1)


def test_a_block_of_which_little_is_visible_is_written_anew_without_the_others() -> None:
    little, whole = (0, MIB, 1, 5 * MIB, 64 * MIB), (8 * MIB, 8 * MIB, 2, 0, 8 * MIB)
    found = decide([little, whole])
    assert found is not None
    assert found.pieces == (little,)
    assert found.replacement(7) == [(0, MIB, 7, 0, MIB)]


def test_the_parts_of_one_block_become_one_block_with_the_holes_left_out() -> None:
    pieces = [(0, 10, 1, 0, 8 * MIB), (100, 20, 1, 100, 8 * MIB), (120, 5, 1, 500, 8 * MIB)]
    found = decide(pieces)
    assert found is not None
    assert found.replacement(7) == [(0, 10, 7, 0, 35), (100, 25, 7, 10, 35)]


def test_hidden_bytes_that_others_show_are_not_counted() -> None:
    cloned = [(0, 32 * MIB, 1, 0, 64 * MIB)]  # the other half belongs to another file
    assert plan(cloned, lambda block: 2, LONG_S) is None
    cut = [(0, 20 * MIB, 1, 0, 64 * MIB)]
    assert plan(cut, lambda block: 1, 0) is not None
    assert plan(cut, lambda block: 4, LONG_S) is None


def test_a_block_that_hides_less_than_it_shows_waits_for_quiet() -> None:
    pieces = [(0, 40 * MIB, 1, 0, 52 * MIB), (40 * MIB, MIB, 2, 0, MIB)]
    assert decide(pieces) is None
    assert decide(pieces, quiet_s=60) == Plan((pieces[0],))
    assert decide([(0, 45 * MIB, 1, 0, 52 * MIB)], quiet_s=LONG_S) is None, "an eighth may stay hidden"


def test_little_hidden_waits_for_quiet_and_less_than_a_page_forever() -> None:
    assert decide([(0, 4 * KIB, 1, 0, 100 * KIB)]) is None
    assert decide([(0, 4 * KIB, 1, 0, 100 * KIB)], quiet_s=60) is not None
    assert hopeless([(0, 1, 1, 0, 4 * KIB)], lambda block: 1)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40), st.integers(1, 6)), min_size=1, max_size=120),
    st.sampled_from([0, 10, 1_000, LONG_S]),
)
def test_what_is_chosen_reads_the_same_and_saves_more_than_it_costs(
    writes: list[tuple[int, int, int]], quiet_s: float
) -> None:
    row = b""
    for number, (start, length, waste) in enumerate(writes):
        unit = 8 * KIB
        piece = (start * unit, length * unit, number + 1, 0, length * unit * waste)
        row, _, _ = slices.overlaid(row, piece)
    pieces = slices.parse(row)
    found = decide(pieces, quiet_s)
    if found is None:
        return
    assert set(found.pieces) <= set(pieces)
    new = found.replacement(10**6)
    assert slices.spans(new) == slices.spans(found.pieces)
    assert sum(piece[1] for piece in new) == new[0][4] == found.length <= CHUNK_BYTES
    offset = 0
    for piece in new:
        assert piece[3] == offset
        offset += piece[1]
    whole = {piece[2]: piece[4] for piece in pieces}
    left = {piece[2] for piece in pieces if piece not in found.pieces}
    freed = sum(size for block, size in whole.items() if block not in left)
    saved = (len(found.pieces) - len(new)) * PIECE_COST_BYTES + freed
    assert saved * min(max(quiet_s / QUIET_UNIT_S, 1), PATIENCE_MAX) >= JOB_COST_BYTES
