"""Marks of crowded chunks: they come and go with what makes a chunk crowded, and survive whoever leads."""

import pytest
from blockyard.metaserver.namespace.slices import CHUNK_BYTES, CROWDED_PIECES
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.commands import INTERNAL
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.internal_pb2 import UnmarkChunkRequest
from crc32c import crc32c

from tests.metaserver.namespace.harness import ROOT, Client, World, piece


@pytest.fixture
def client() -> Client:
    return World().session()


def marks(client: Client) -> list[tuple[int, int]]:
    assert client.world.faults() == []
    return client.world.machine.state.crowded.names()


def fill(client: Client, file: int, count: int, base: int = 0, block: int = 1) -> None:
    """Append so many pieces to a chunk."""
    client.commit(file, *[piece(base + 10 * at, 10, block + at) for at in range(count)])


def test_the_piece_too_many_marks_a_chunk_and_a_swap_takes_the_mark_away(client: Client) -> None:
    file = client.create(ROOT, b"f")
    fill(client, file, CROWDED_PIECES)
    assert marks(client) == []
    client.commit(file, piece(10 * CROWDED_PIECES, 10, 99))
    assert marks(client) == [(file, 0)]
    expected = list(client.read("ReadSlices", inode=file).slices)
    whole = 10 * (CROWDED_PIECES + 1)
    assert client.change(
        "ReplaceSlices", inode=file, chunk=0, expected=expected, replacement=[piece(0, whole, 200)]
    ).replaced
    assert marks(client) == []


def test_overwriting_marks_a_chunk_too(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.commit(file, piece(0, 10_000, 1))
    for at in range(CROWDED_PIECES // 2 + 1):
        client.commit(file, piece(20 + 100 * at, 10, 2 + at))
    assert marks(client) == [(file, 0)]


def test_a_block_of_which_much_is_hidden_marks_a_chunk_until_it_is_gone(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.commit(file, piece(CHUNK_BYTES, 100_000, 1))
    assert marks(client) == []
    client.change("SetAttributes", inode=file, size=CHUNK_BYTES + 70_000)
    assert marks(client) == [(file, 1)]
    client.change("SetAttributes", inode=file, size=CHUNK_BYTES)
    assert marks(client) == []


def test_a_part_of_a_block_marks_a_chunk_however_it_comes(client: Client) -> None:
    one, two = client.create(ROOT, b"1"), client.create(ROOT, b"2")
    client.commit(one, piece(0, 100, 1, 0, 100_000))
    client.commit(two, piece(0, 100, 2), piece(100, 100, 3, 0, 100_000))
    assert marks(client) == [(one, 0), (two, 0)]


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_removed_file_leaves_no_marks(client: Client, chunks: int) -> None:
    file = client.create(ROOT, b"f")
    for chunk in range(chunks):
        fill(client, file, 40, chunk * CHUNK_BYTES, 1 + 100 * chunk)
    assert len(marks(client)) == chunks
    client.change("Unlink", parent=ROOT, name=b"f")
    client.change("Create", parent=ROOT, name=b"g", mode=0o644)  # what is left of a large file goes with later entries
    assert marks(client) == []
    assert not client.world.machine.state.crowded.known, "nothing is remembered of them"


def test_marks_survive_a_restart_and_the_oldest_is_first(client: Client) -> None:
    files = [client.create(ROOT, b"%d" % number) for number in range(3)]
    for number in (1, 0, 2):
        fill(client, files[number], 40, block=1 + 100 * number)
    assert [inode for inode, _ in marks(client)] == [files[1], files[0], files[2]]
    client.world.restart()
    assert sorted(inode for inode, _ in marks(client)) == files


def test_a_refused_command_leaves_no_mark(client: Client) -> None:
    file = client.create(ROOT, b"f")
    commit = pb.FileCommit(inode=file, slices=[piece(10 * at, 10, 1 + at) for at in range(40)] + [piece(0, 5, 1, 0, 7)])
    reply = client.change("CommitSlices", files=[commit])
    assert reply.files[0].HasField("error")
    assert marks(client) == []


def test_a_hopeless_mark_goes_unless_the_chunk_has_changed(client: Client) -> None:
    file = client.create(ROOT, b"f")
    client.commit(file, *[piece(20 * at, 10, 1 + at) for at in range(40)])
    assert marks(client) == [(file, 0)]
    row = client.world.machine.state.tx.get(keys.chunk(file, 0))
    assert row is not None
    request = UnmarkChunkRequest(inode=file, chunk=0, row_crc32c=crc32c(row))
    client.commit(file, piece(2_000, 10, 99))
    client.world.command(f"{INTERNAL}UnmarkChunk", request)
    assert marks(client) == [(file, 0)]
    row = client.world.machine.state.tx.get(keys.chunk(file, 0))
    assert row is not None
    client.world.command(f"{INTERNAL}UnmarkChunk", UnmarkChunkRequest(inode=file, chunk=0, row_crc32c=crc32c(row)))
    assert marks(client) == []
    client.commit(file, piece(2_020, 10, 100))
    assert marks(client) == [(file, 0)]


def test_the_check_finds_marks_that_are_missing_and_marks_of_nothing(client: Client) -> None:
    file = client.create(ROOT, b"f")
    fill(client, file, 40)
    state = client.world.machine.state
    state.crowded.unmark(file, 0)
    state.crowded.mark(file, 5, 1)
    state.commit()
    client.world.write()
    assert client.world.faults() == [
        f"slice {file}: chunk 0 is crowded but not marked for compaction",
        f"slice {file}: chunk 5 is marked for compaction but has no pieces",
    ]
