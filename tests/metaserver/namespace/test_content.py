"""Slices: against bytearrays under random writes, and sentence by sentence."""

import errno
from collections.abc import Callable
from typing import Any

import pytest
from blockyard.metaserver.namespace.blocks import EveryBlock
from blockyard.metaserver.namespace.content import FILE_BYTES_MAX
from blockyard.metaserver.namespace.slices import CHUNK_BYTES
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import BadHandle, BlockyardError, FileTooBig, InvalidArgument, LeaseExpired
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.metaserver.namespace.harness import ROOT, Client, World, piece

BORDER = CHUNK_BYTES
SPAN = 48
"""The model looks at this many bytes on both sides of a border between chunks."""

positions = st.integers(-SPAN, SPAN - 1)
lengths = st.integers(1, 30)
which = st.integers(0, 2)


class Contents(RuleBasedStateMachine):
    """Random writes to three files around a chunk border. In the model each byte is a (block, offset), or None."""

    @initialize(seed=st.integers(0, 2**16))
    def start(self, seed: int) -> None:
        self.world = World(seed=seed)
        self.client = self.world.session()
        self.files = [self.client.create(ROOT, b"%d" % number) for number in range(3)]
        self.model: list[list[tuple[int, int] | None]] = [[] for _ in self.files]  # from BORDER - SPAN on
        self.blocks = 0
        self.dead: set[int] = set()
        self.begun: tuple[int, int, list[pb.Slice]] | None = None

    def grow(self, file: int, size: int) -> None:
        """Let the model's file end at `size` (counted from BORDER - SPAN)."""
        bytes_ = self.model[file]
        bytes_.extend([None] * (size - len(bytes_)))

    def new_block(self) -> int:
        self.blocks += 1
        return self.blocks

    @rule(file=which, start=positions, length=lengths, offset=st.integers(0, 3), tail=st.integers(0, 3))
    def write(self, file: int, start: int, length: int, offset: int, tail: int) -> None:
        if start < 0 < start + length:
            length = -start  # a slice does not cross the border
        block = self.new_block()
        at = piece(BORDER + start, length, block, offset, offset + length + tail)
        assert not self.client.commit(self.files[file], at).HasField("error")
        self.grow(file, SPAN + start + length)
        for number in range(length):
            self.model[file][SPAN + start + number] = (block, offset + number)

    @rule(file=which, first=lengths, second=lengths)
    def append(self, file: int, first: int, second: int) -> None:
        if not self.model[file]:
            return
        if len(self.model[file]) + first + second > 3 * SPAN:
            return
        blocks = self.new_block(), self.new_block()
        pieces = [piece(0, length, block) for length, block in zip((first, second), blocks, strict=True)]
        committed = self.client.commit(self.files[file], *pieces, append=True)
        assert committed.position == BORDER - SPAN + len(self.model[file])
        for length, block in zip((first, second), blocks, strict=True):
            self.model[file] += [(block, number) for number in range(length)]

    @rule(file=which, size=st.integers(0, 2 * SPAN))
    def truncate(self, file: int, size: int) -> None:
        self.client.change("SetAttributes", inode=self.files[file], size=BORDER - SPAN + size)
        del self.model[file][size:]
        self.grow(file, size)

    @rule(file=which, start=positions, length=lengths, mode=st.integers(0, 4))
    def allocate(self, file: int, start: int, length: int, mode: int) -> None:
        self.client.change("Allocate", inode=self.files[file], offset=BORDER + start, length=length, mode=mode)
        if mode in (pb.ALLOCATE_RESERVE, pb.ALLOCATE_ZERO_RANGE):
            self.grow(file, SPAN + start + length)
        if mode >= pb.ALLOCATE_PUNCH_HOLE:
            bytes_ = self.model[file]
            for place in range(SPAN + start, min(SPAN + start + length, len(bytes_))):
                bytes_[place] = None

    @rule(file=which, start=positions, length=lengths)
    def write_a_hole(self, file: int, start: int, length: int) -> None:
        if start < 0 < start + length:
            length = -start
        self.client.commit(self.files[file], piece(BORDER + start, length, 0))
        self.grow(file, SPAN + start + length)
        self.model[file][SPAN + start : SPAN + start + length] = [None] * length

    @rule(source=which, sink=which, start=positions, into=positions, length=st.integers(0, 2 * SPAN))
    def copy(self, source: int, sink: int, start: int, into: int, length: int) -> None:
        def call() -> Any:
            return self.client.change(
                "CopyRange", source=self.files[source], source_offset=BORDER + start,
                target=self.files[sink], target_offset=BORDER + into, length=length,
            )  # fmt: skip

        if source == sink and abs(start - into) < length:
            with pytest.raises(InvalidArgument):
                call()
            return
        copied = self.model[source][SPAN + start : SPAN + start + length]
        if SPAN + into + len(copied) > 4 * SPAN:
            return
        assert call().copied == len(copied)
        if copied:
            self.grow(sink, SPAN + into)
            self.model[sink][SPAN + into : SPAN + into + len(copied)] = copied

    @rule(file=which, upper=st.booleans())
    def begin_compaction(self, file: int, upper: bool) -> None:
        """Read what a chunk is made of; other rules may run before it is swapped for one block."""
        start, end = (BORDER, BORDER + 4 * SPAN) if upper else (0, BORDER)
        inode = self.files[file]
        stored = list(self.client.read("ReadSlices", inode=inode, offset=start, length=end - start).slices)
        if stored:
            self.begun = (inode, int(upper), stored)

    @precondition(lambda self: self.begun is not None)
    @rule()
    def end_compaction(self) -> None:
        """Swap: bytes that are where they were move to the new block, unless most are somewhere else by now."""
        assert self.begun is not None
        inode, chunk, stored = self.begun
        self.begun = None
        whole = sum(one.length for one in stored)
        moved: dict[int, tuple[tuple[int, int], int]] = {}
        replacement, done, block = [], 0, self.new_block()
        for one in stored:
            replacement.append(piece(one.position, one.length, block, done, whole))
            for at in range(one.length):
                moved[one.position + at - BORDER + SPAN] = (one.block, one.block_offset + at), done + at
            done += one.length
        model = self.model[self.files.index(inode)] if inode in self.files else []
        unchanged = {at: new for at, (old, new) in moved.items() if at < len(model) and model[at] == old}
        reply = self.client.change("ReplaceSlices", inode=inode, chunk=chunk, expected=stored, replacement=replacement)
        assert reply.replaced == (2 * len(unchanged) >= whole)
        if reply.replaced:
            for at, new in unchanged.items():
                model[at] = (block, new)
        else:
            self.blocks -= 1  # nobody has referred to it

    @rule(file=which)
    def remove(self, file: int) -> None:
        name = b"%d" % file
        self.client.change("Unlink", parent=ROOT, name=name)
        self.files[file] = self.client.create(ROOT, name)
        self.model[file] = []

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @invariant()
    def every_byte_is_where_the_model_has_it(self) -> None:
        if not hasattr(self, "world"):
            return
        for inode, bytes_ in zip(self.files, self.model, strict=True):
            reply = self.client.read("ReadSlices", inode=inode)
            size = BORDER - SPAN + len(bytes_) if bytes_ else reply.attributes.size
            assert reply.attributes.size == size
            found: list[tuple[int, int] | None] = [None] * len(bytes_)
            before = 0
            for one in reply.slices:
                assert one.position >= before
                before = one.position + one.length
                place = one.position - (BORDER - SPAN)
                for number in range(one.length):
                    found[place + number] = (one.block, one.block_offset + number)
            assert found == bytes_

    @invariant()
    def blocks_are_reclaimed_exactly_when_no_byte_refers_to_them(self) -> None:
        if not hasattr(self, "world"):
            return
        assert self.world.faults() == []
        alive = {place[0] for bytes_ in self.model for place in bytes_ if place is not None}
        assert set(self.world.referenced()) == alive
        assert self.world.reclaimed() == set(range(1, self.blocks + 1)) - alive


Contents.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestContents = Contents.TestCase


# --- Sentences -------------------------------------------------------------------------------------------------------


@pytest.fixture
def client() -> Client:
    return World().session()


def test_an_append_goes_to_the_end_as_it_is_when_it_is_applied(client: Client) -> None:
    file = client.create(ROOT, b"log")
    other = client.world.session()
    assert client.commit(file, piece(0, 10, 1), append=True).position == 0
    assert other.commit(file, piece(0, 20, 2), piece(0, 5, 3), append=True).position == 10
    assert client.commit(file, piece(0, 1, 4), append=True).position == 35
    assert client.world.attributes(file).size == 36


def test_an_append_across_a_chunk_border_is_cut_in_two(client: Client) -> None:
    file = client.create(ROOT, b"log")
    client.change("SetAttributes", inode=file, size=CHUNK_BYTES - 4)
    client.commit(file, piece(0, 10, 1), append=True)
    slices = client.read("ReadSlices", inode=file).slices
    assert [(one.position, one.length, one.block_offset) for one in slices] == [
        (CHUNK_BYTES - 4, 4, 0),
        (CHUNK_BYTES, 6, 4),
    ]
    assert client.world.referenced() == {1: 2}
    assert client.world.faults() == []


def test_pieces_of_one_block_that_continue_each_other_are_one(client: Client) -> None:
    file = client.create(ROOT, b"f")
    for start in range(0, 40, 10):
        client.commit(file, piece(start, 10, 7, start, 40))
    assert len(client.read("ReadSlices", inode=file).slices) == 1
    assert client.world.referenced() == {7: 1}


def test_a_refused_file_of_a_commit_does_not_touch_the_others(client: Client) -> None:
    one, two = client.create(ROOT, b"1"), client.create(ROOT, b"2")
    files = [
        pb.FileCommit(inode=one, slices=[piece(0, 10, 1)]),
        pb.FileCommit(inode=999, slices=[piece(0, 10, 2)]),
        pb.FileCommit(inode=two, slices=[piece(0, 10, 3), piece(10, 10, 3, 0, 20)]),  # two lengths of one block
        pb.FileCommit(inode=two, slices=[piece(0, 10, 4)]),
    ]
    outcomes = client.change("CommitSlices", files=files).files
    assert [outcome.error.errno for outcome in outcomes] == [0, errno.ESTALE, errno.EINVAL, 0]
    assert client.world.referenced() == {1: 1, 4: 1}
    assert client.world.faults() == []


def test_a_commit_can_close_its_handle_and_give_up_an_unlinked_file(client: Client) -> None:
    reply = client.change("Create", parent=ROOT, name=b"f", mode=0o644, open=True, open_flags=1)
    client.change("Unlink", parent=ROOT, name=b"f")
    file = pb.FileCommit(inode=reply.attributes.inode, handle=reply.handle, slices=[piece(0, 9, 5)], close=True)
    client.change("CommitSlices", files=[file])
    assert client.world.reclaimed() == {5}
    assert client.world.faults() == []


def test_a_dead_block_is_never_referred_to_again(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.commit(file, piece(0, 10, 5))
    client.change("SetAttributes", inode=file, size=0)
    assert client.commit(file, piece(0, 10, 5)).error.kind == "LeaseExpired"
    assert client.world.attributes(file).size == 0


def test_a_block_may_move_within_one_change(client: Client) -> None:
    client.change("PutFile", parent=ROOT, name=b"f", mode=0o644, size=10, slices=[piece(0, 10, 5)])
    client.change("PutFile", parent=ROOT, name=b"f", mode=0o644, size=9, slices=[piece(0, 9, 5, 1)], replace=True)
    assert client.world.referenced() == {5: 1}
    assert client.world.reclaimed() == set()


class SomeBlocks(EveryBlock):
    """Leases of blocks 1 to 9 to everybody, each to be used by one command."""

    def __init__(self) -> None:
        self.spent: set[int] = set()

    def owned(self, session: int, block: int) -> bool:
        return block < 10 and block not in self.spent

    def spend(self, session: int, block: int, map_epoch: int) -> bool:
        owned = self.owned(session, block)
        self.spent.add(block)
        return owned


def test_only_leased_blocks_and_those_of_the_same_chunk_may_be_committed() -> None:
    client = World(leases=SomeBlocks()).session()
    file = client.create(ROOT, b"f")
    assert client.commit(file, piece(0, 10, 12)).error.kind == "LeaseExpired"
    with pytest.raises(LeaseExpired):
        client.change("PutFile", parent=ROOT, name=b"g", mode=0o644, size=10, slices=[piece(0, 10, 12)])
    client.commit(file, piece(0, 10, 9))
    client.world.leases = None
    assert not client.commit(file, piece(20, 5, 9, 0, 10)).HasField("error")


def test_a_block_is_committed_by_one_command_which_may_use_it_in_several_files() -> None:
    client = World(leases=SomeBlocks()).session()
    one, two = client.create(ROOT, b"1"), client.create(ROOT, b"2")
    files = [pb.FileCommit(inode=file, slices=[piece(0, 5, 3, 5 * at, 10)]) for at, file in enumerate((one, two))]
    reply = client.change("CommitSlices", files=files)
    assert not any(file.HasField("error") for file in reply.files)
    assert client.world.referenced() == {3: 2}
    third = client.create(ROOT, b"3")
    assert client.commit(third, piece(0, 5, 3, 0, 10)).error.kind == "LeaseExpired"
    for name in (b"1", b"2"):
        client.change("Unlink", parent=ROOT, name=name)
    assert client.world.reclaimed() == {3}


def test_a_file_may_be_replaced_by_other_parts_of_its_own_blocks() -> None:
    client = World(leases=SomeBlocks()).session()
    fields: dict[str, Any] = {"parent": ROOT, "name": b"f", "mode": 0o644, "size": 5, "replace": True}
    client.change("PutFile", slices=[piece(0, 5, 7, 0, 10)], **fields)
    client.change("PutFile", slices=[piece(0, 5, 7, 5, 10)], **fields)
    assert client.world.referenced() == {7: 1}
    client.change("Unlink", parent=ROOT, name=b"f")
    with pytest.raises(LeaseExpired):
        client.change("PutFile", slices=[piece(0, 5, 7, 5, 10)], **fields)
    assert client.world.reclaimed() == {7}
    assert client.world.faults() == []


def test_a_handle_must_be_the_sessions_own_and_open_for_writing(client: Client) -> None:
    file = client.create(ROOT, b"f", mode=0o666)
    reading, writing = client.open(file, 0), client.open(file, 1)
    other = client.world.session()
    assert client.commit(file, piece(0, 1, 1), handle=reading).error.errno == errno.EBADF
    assert other.commit(file, piece(0, 1, 2), handle=writing).error.errno == errno.EBADF
    with pytest.raises(BadHandle):
        client.read("ReadSlices", inode=file, handle=writing)
    client.change("SetAttributes", inode=file, mode=0)
    stranger = Caller(uid=7, gid=7)
    assert not client.commit(file, piece(0, 1, 3), handle=writing, caller=stranger).HasField("error")
    assert client.commit(file, piece(0, 1, 4), caller=stranger).error.errno == errno.EACCES


def test_a_write_by_somebody_else_than_root_takes_setuid_and_setgid(client: Client) -> None:
    file = client.create(ROOT, b"f", mode=0o6777)
    client.commit(file, piece(0, 1, 1))
    assert client.world.attributes(file).mode == 0o6777
    client.commit(file, piece(0, 1, 2), caller=Caller(uid=7, gid=7))
    assert client.world.attributes(file).mode == 0o777


def in_three_parts(client: Client, name: bytes, first_block: int) -> tuple[int, list[pb.Slice]]:
    """Make a file of three pieces of ten bytes; return it and them."""
    file = client.create(ROOT, name)
    client.commit(file, *[piece(10 * number, 10, first_block + number) for number in range(3)])
    return file, list(client.read("ReadSlices", inode=file).slices)


def test_compaction_leaves_what_was_written_meanwhile(client: Client) -> None:
    file, expected = in_three_parts(client, b"f", 1)
    client.commit(file, piece(5, 11, 50))
    client.change("Allocate", inode=file, offset=25, length=1, mode=pb.ALLOCATE_PUNCH_HOLE)
    replacement = [piece(0, 30, 60)]
    assert client.change("ReplaceSlices", inode=file, chunk=0, expected=expected, replacement=replacement).replaced
    stored = client.read("ReadSlices", inode=file).slices
    assert [(one.position, one.length, one.block, one.block_offset) for one in stored] == [
        (0, 5, 60, 0),
        (5, 11, 50, 0),
        (16, 9, 60, 16),
        (26, 4, 60, 26),
    ]
    assert client.world.reclaimed() == {1, 2, 3}
    assert client.world.faults() == []


def test_compaction_leaves_bytes_of_the_same_block_that_came_to_another_place(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.commit(file, piece(0, 20, 1))
    expected = list(client.read("ReadSlices", inode=file).slices)
    client.commit(file, piece(0, 10, 1, 10, 20))
    replacement = [piece(0, 20, 60)]
    assert client.change("ReplaceSlices", inode=file, chunk=0, expected=expected, replacement=replacement).replaced
    stored = client.read("ReadSlices", inode=file).slices
    assert [(one.position, one.length, one.block, one.block_offset) for one in stored] == [
        (0, 10, 1, 10),
        (10, 10, 60, 10),
    ]


def test_compaction_is_refused_when_most_was_overwritten_or_is_gone(client: Client) -> None:
    changes: list[Callable[[int], Any]] = [
        lambda file: client.commit(file, piece(5, 16, 50)),
        lambda file: client.change("SetAttributes", inode=file, size=14),
        lambda file: client.commit(file, piece(0, 30, 70)),
    ]
    for number, change in enumerate(changes):
        file, expected = in_three_parts(client, b"%d" % number, 10 * number + 1)
        change(file)
        before = client.read("ReadSlices", inode=file).slices
        replacement = [piece(0, 30, 60)]
        reply = client.change("ReplaceSlices", inode=file, chunk=0, expected=expected, replacement=replacement)
        assert not reply.replaced
        assert client.read("ReadSlices", inode=file).slices == before
    assert not client.change("ReplaceSlices", inode=99, chunk=0, expected=expected, replacement=replacement).replaced
    assert client.world.faults() == []


@pytest.mark.parametrize(
    "replacement",
    [
        [piece(0, 29, 60)],
        [piece(0, 31, 60)],
        [piece(0, 20, 60), piece(10, 20, 61)],
        [piece(0, 10, 60), piece(20, 10, 61)],
    ],
)
def test_compaction_that_covers_other_bytes_than_it_replaces_is_refused(
    client: Client, replacement: list[pb.Slice]
) -> None:
    file, expected = in_three_parts(client, b"f", 1)
    with pytest.raises(InvalidArgument):
        client.change("ReplaceSlices", inode=file, chunk=0, expected=expected, replacement=replacement)
    assert list(client.read("ReadSlices", inode=file).slices) == expected


def test_a_version_known_spares_the_slices(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.commit(file, piece(0, 10, 1))
    version = client.world.attributes(file).version
    reply = client.read("ReadSlices", inode=file, known_version=version)
    assert reply.unchanged
    assert not reply.slices
    client.commit(file, piece(0, 10, 2))
    assert not client.read("ReadSlices", inode=file, known_version=version).unchanged


def test_many_slices_come_in_pages_and_crowded_chunks_are_named(client: Client) -> None:
    file = client.create(ROOT, b"f")
    pieces = [piece(2 * number, 1, number + 1) for number in range(10_050)]
    client.commit(file, *pieces)
    first = client.read("ReadSlices", inode=file)
    assert len(first.slices) == 10_000
    assert first.next_offset == 20_000
    assert list(first.crowded_chunks) == [0]
    rest = client.read("ReadSlices", inode=file, offset=first.next_offset)
    assert (len(rest.slices), rest.next_offset) == (50, 0)


def test_a_copy_of_more_pieces_than_one_command_takes_is_short(client: Client) -> None:
    source, target = client.create(ROOT, b"s"), client.create(ROOT, b"t")
    client.commit(source, *[piece(2 * number, 1, number + 1) for number in range(2_100)])
    reply = client.change("CopyRange", source=source, target=target, length=30_000)
    assert reply.copied == 4_096
    reply = client.change(
        "CopyRange", source=source, source_offset=4_096, target=target, target_offset=4_096, length=30_000
    )
    assert client.world.attributes(target).size == client.world.attributes(source).size
    assert client.world.faults() == []


def test_a_large_file_is_given_back_bit_by_bit(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.commit(file, *[piece(CHUNK_BYTES * number, 1, number + 1) for number in range(5_000)])
    client.change("Unlink", parent=ROOT, name=b"f")
    after_one = len(client.world.reclaimed())
    assert 0 < after_one < 5_000
    assert client.world.faults() == []
    client.world.restart()
    for _ in range(3):
        client.create(ROOT, b"%d" % client.sequence)
    assert len(client.world.reclaimed()) == 5_000
    assert client.world.faults() == []


@pytest.mark.parametrize("size", [0, CHUNK_BYTES * 500 + 1])
def test_a_large_file_is_cut_off_at_once_and_its_blocks_come_back_bit_by_bit(client: Client, size: int) -> None:
    file = client.create(ROOT, b"f")
    client.commit(file, *[piece(CHUNK_BYTES * number, 2, number + 1) for number in range(5_000)])
    kept = 501 if size else 0
    client.change("SetAttributes", inode=file, size=size)
    attributes = client.world.attributes(file)
    assert (attributes.size, attributes.allocated) == (size, 2 * kept - (1 if size else 0))
    assert 0 < len(client.world.reclaimed()) < 5_000 - kept
    assert client.world.faults() == []
    client.commit(file, piece(CHUNK_BYTES * 4_000, 1, 9_000))
    client.world.restart()
    for _ in range(3):
        client.create(ROOT, b"%d" % client.sequence)
    assert len(client.world.reclaimed()) == 5_000 - kept
    slices = client.read("ReadSlices", inode=file).slices
    assert [each.block for each in slices] == [*range(1, kept + 1), 9_000]
    assert client.world.faults() == []


def test_a_hole_over_many_pieces_within_one_chunk_is_punched_at_once(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.commit(file, *[piece(2 * number, 1, number + 1) for number in range(5_000)])
    client.change("Allocate", inode=file, offset=0, length=9_000, mode=pb.ALLOCATE_PUNCH_HOLE)
    assert len(client.read("ReadSlices", inode=file).slices) == 500
    assert len(client.world.reclaimed()) == 4_500
    assert client.world.faults() == []


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (piece(CHUNK_BYTES - 1, 2, 1), InvalidArgument),
        (piece(0, 0, 1), InvalidArgument),
        (piece(0, CHUNK_BYTES + 1, 1), InvalidArgument),
        (piece(0, 10, 1, 5, 14), InvalidArgument),
        (piece(2**63, 1, 1), InvalidArgument),
        (pb.Slice(position=0, length=1, block_offset=1), InvalidArgument),
    ],
)
def test_a_malformed_slice_is_refused(client: Client, bad: pb.Slice, expected: type[BlockyardError]) -> None:
    file = client.create(ROOT, b"f")
    with pytest.raises(expected):
        client.commit(file, bad)


def test_files_end_at_256_pebibytes(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.commit(file, piece(FILE_BYTES_MAX - 1, 1, 1))
    assert client.commit(file, piece(FILE_BYTES_MAX, 1, 2)).error.errno == errno.EFBIG
    with pytest.raises(FileTooBig):
        client.change("SetAttributes", inode=file, size=FILE_BYTES_MAX + 1)
    with pytest.raises(FileTooBig):
        client.change("Allocate", inode=file, offset=FILE_BYTES_MAX, length=1)
    client.change("SetAttributes", inode=file, size=0)
    assert client.world.reclaimed() == {1}
