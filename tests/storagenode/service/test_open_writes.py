"""The table of blocks under way: one writer at a time, the newest, and none for ever."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.blocks import PAGE_BYTES, page_checksums
from blockyard.storagenode.service.open_writes import GRACE_S, IDLE_S, Claim, OpenWrites
from blockyard.storagenode.store import BlockStore
from crc32c import crc32c

from tests.storagenode.service.nodes import SETTINGS, new_block, some_bytes

DATA = some_bytes(6 * PAGE_BYTES + 5)


class Clock:
    """Time as a test wants it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writes(tmp_path: Path, clock: Clock) -> Iterator[OpenWrites]:
    store = BlockStore(tmp_path, SETTINGS)
    store.open()
    table = OpenWrites(store, clock=clock)
    yield table
    table.close()
    store.close()


def append(claim: Claim, start: int, end: int) -> None:
    claim.append(start, memoryview(DATA)[start:end], page_checksums(DATA[start:end]))


def seal(claim: Claim) -> None:
    claim.check_seal(len(DATA), crc32c(DATA))
    claim.seal(len(DATA), crc32c(DATA), durable=False)


def stored(writes: OpenWrites, block: int) -> bytes:
    with writes.store.open_range(block) as replica:
        return os.pread(replica.fd, replica.length, replica.file_offset)


def test_a_second_writer_is_refused_and_a_successor_is_not(writes: OpenWrites) -> None:
    first = writes.claim(block := new_block(), 0, resume=False)
    append(first, 0, 2 * PAGE_BYTES)
    with pytest.raises(errors.Exists):
        writes.claim(block, 0, resume=False)
    second = writes.claim(block, 0, resume=True)
    assert second.length == 2 * PAGE_BYTES
    with pytest.raises(errors.ChainBroken):
        append(first, 2 * PAGE_BYTES, 3 * PAGE_BYTES)
    first.abort()
    first.release()
    append(second, 2 * PAGE_BYTES, len(DATA))
    seal(second)
    second.release()
    assert stored(writes, block) == DATA


def test_bytes_that_are_here_are_passed_over_and_a_gap_is_not(writes: OpenWrites) -> None:
    claim = writes.claim(block := new_block(), 0, resume=False)
    append(claim, 0, 3 * PAGE_BYTES)
    append(claim, 0, 2 * PAGE_BYTES)
    append(claim, PAGE_BYTES, 5 * PAGE_BYTES)
    assert claim.length == 5 * PAGE_BYTES
    with pytest.raises(errors.InvalidArgument, match="gap"):
        append(claim, 6 * PAGE_BYTES, len(DATA))
    append(claim, 4 * PAGE_BYTES, len(DATA))
    for start, end in ((0, len(DATA)), (PAGE_BYTES, 2 * PAGE_BYTES), (5 * PAGE_BYTES, len(DATA))):
        assert claim.read(start, end) == DATA[start:end]
        assert claim.checksums(start, end) == page_checksums(DATA[start:end])
    seal(claim)
    assert claim.read(7, 100_000) == DATA[7:100_000]
    claim.release()
    assert stored(writes, block) == DATA


def test_a_bad_page_leaves_the_block_as_it_was(writes: OpenWrites) -> None:
    claim = writes.claim(block := new_block(), 0, resume=False)
    append(claim, 0, PAGE_BYTES)
    with pytest.raises(errors.CorruptBlock):
        claim.append(PAGE_BYTES, memoryview(bytes(2 * PAGE_BYTES)), page_checksums(DATA[: 2 * PAGE_BYTES]))
    assert claim.length == PAGE_BYTES
    append(claim, PAGE_BYTES, len(DATA))
    seal(claim)
    claim.release()
    assert stored(writes, block) == DATA


@pytest.mark.parametrize(("is_left", "limit_s"), [(True, GRACE_S), (False, IDLE_S)])
def test_an_open_block_disappears_in_time_and_no_sooner(
    writes: OpenWrites, clock: Clock, is_left: bool, limit_s: float
) -> None:
    claim = writes.claim(block := new_block(), 0, resume=False)
    append(claim, 0, PAGE_BYTES)
    if is_left:
        claim.release()
    writes.sweep(limit_s - 1)
    assert writes.claim(block, 0, resume=True).length == PAGE_BYTES
    writes.sweep(limit_s + IDLE_S)
    assert writes.claim(block, 0, resume=True).length == 0, "it had to be begun anew"


def test_a_sealed_block_outlives_its_writer_and_is_resumed_as_it_is(writes: OpenWrites) -> None:
    claim = writes.claim(block := new_block(), 0, resume=False)
    append(claim, 0, len(DATA))
    seal(claim)
    claim.release()
    writes.sweep(1e9)
    again = writes.claim(block, 0, resume=True)
    assert again.length == len(DATA)
    seal(again)
    again.abort()  # a late predecessor's: it did not seal this block
    assert stored(writes, block) == DATA
    with pytest.raises(errors.Exists):
        writes.claim(block, 0, resume=False)


def test_a_writer_can_take_its_own_seal_back(writes: OpenWrites) -> None:
    claim = writes.claim(block := new_block(), 0, resume=False)
    append(claim, 0, len(DATA))
    seal(claim)
    claim.abort()
    with pytest.raises(errors.UnknownBlock):
        writes.store.find(block)


def test_a_predecessor_that_wakes_up_takes_nothing_from_its_successor(writes: OpenWrites) -> None:
    block = new_block()
    append(writes.claim(block, 0, resume=False, precedence=(0, 0, 0)), 0, 2 * PAGE_BYTES)
    present = writes.claim(block, 0, resume=True, precedence=(1, 0))
    for cut_out in ((0, 1), (0, 0, 1), (0, 0, 0), (1, 0)):
        with pytest.raises(errors.ChainBroken):
            writes.claim(block, 0, resume=True, precedence=cut_out)
    append(present, 2 * PAGE_BYTES, len(DATA))
    seal(present)
    with pytest.raises(errors.ChainBroken):
        writes.claim(block, 0, resume=True, precedence=(0, 2))
    next_one = writes.claim(block, 0, resume=True, precedence=(1, 1))
    assert next_one.length == len(DATA)
    next_one.release()
    assert stored(writes, block) == DATA


def test_a_sealed_block_that_is_being_given_up_is_not_taken_over(
    writes: OpenWrites, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = writes.claim(block := new_block(), 0, resume=False)
    append(claim, 0, len(DATA))
    seal(claim)
    lengths: list[int] = []
    successor = threading.Thread(target=lambda: lengths.append(writes.claim(block, 0, resume=True).length))
    drop = writes.store.drop

    def drop_while_another_claims(blocks: list[int]) -> int:
        successor.start()
        successor.join(0.3)  # it comes back from this only when it got what is about to go
        return drop(blocks)

    monkeypatch.setattr(writes.store, "drop", drop_while_another_claims)
    claim.abort()
    successor.join(10)
    assert lengths == [0], "it has to be written anew"


def claim_together(writes: OpenWrites, block: int) -> tuple[list[Claim], list[errors.BlockyardError]]:
    """Let an opener and three successors claim a block at once; return who got it and who was refused."""
    claims: list[Claim] = []
    refused: list[errors.BlockyardError] = []
    together = threading.Barrier(4)

    def take(resume: bool) -> None:
        together.wait(10)
        try:
            claims.append(writes.claim(block, 0, resume))
        except errors.Exists as error:
            refused.append(error)

    threads = [threading.Thread(target=take, args=(number > 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return claims, refused


def test_whoever_opens_at_the_same_moment_one_of_them_writes(writes: OpenWrites) -> None:
    for _ in range(50):
        claims, refused = claim_together(writes, new_block())
        assert len(claims) >= 3, f"a successor was refused: {refused}"
        able = 0
        for claim in claims:
            try:
                append(claim, 0, PAGE_BYTES)
            except errors.ChainBroken:
                continue
            able += 1
        assert able == 1
        for claim in claims:
            claim.abort()
