"""The writer's plans against a bytearray: whatever is written in whatever order, slices and memory show it."""

from dataclasses import dataclass, field

import pytest
from blockyard.client import piece_buffers
from blockyard.client.piece_buffers import PieceBuffers
from blockyard.client.writer import extents as extents_module
from blockyard.client.writer import file_core
from blockyard.client.writer.extents import Extents
from blockyard.client.writer.file_core import FileCore, Upload
from hypothesis import given, settings
from hypothesis import strategies as st

PIECE = 16
CHUNK = 128
SIZE = 500


@pytest.fixture(autouse=True, scope="module")
def small_numbers() -> "object":
    """Let chunks and pieces be so small that every border is met."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(piece_buffers, "PIECE_BYTES", PIECE)
        patch.setattr(extents_module, "PIECE_BYTES", PIECE)
        patch.setattr(file_core, "PIECE_BYTES", PIECE)
        patch.setattr(file_core, "PUT_BYTES", PIECE)
        patch.setattr(file_core, "STREAM_BYTES", 4 * PIECE)
        patch.setattr(file_core, "CHUNK_BYTES", CHUNK)
        yield


@dataclass
class Shell:
    """Carries out uploads in any order and keeps what the metadata group would."""

    core: FileCore
    buffers: PieceBuffers
    sealed: dict[int, bytes] = field(default_factory=dict)
    file: bytearray = field(default_factory=bytearray)
    next_block: int = 1

    def seal(self, upload: Upload) -> None:
        assert upload.ended
        data = b"".join(upload.pieces)
        assert len(data) == upload.length <= 64
        upload.block = self.next_block
        self.next_block += 1
        self.check(upload)
        self.sealed[upload.block] = data
        for buffer in upload.buffers:
            buffer[:] = b"!" * len(buffer)  # from now on it is another's
            self.buffers.give_back(buffer)

    def check(self, upload: Upload) -> None:
        offset = 0
        for part in upload.parts:
            assert part.offset == offset
            offset += part.length
            if not upload.append:
                assert part.position // CHUNK == (part.position + part.length - 1) // CHUNK, "a slice crosses a border"
        assert offset == upload.length
        if not upload.append and len(upload.parts) > 1:
            assert len({part.position // CHUNK for part in upload.parts}) == 1, "a block is shared by two chunks"

    def commit(self) -> None:
        ready = self.core.committable()
        for upload in ready:
            data = self.sealed[upload.block]
            for part in upload.parts:
                position = len(self.file) if upload.append else part.position
                if len(self.file) < position + part.length:
                    self.file.extend(bytes(position + part.length - len(self.file)))
                self.file[position : position + part.length] = data[part.offset : part.offset + part.length]
        self.core.committed(ready)

    def read(self, start: int, end: int) -> bytes | None:
        over = self.core.overlay(start, end)
        if over is None:
            return None
        seen = bytearray(self.file[start:end].ljust(end - start, b"\0"))
        for extent in over:
            low, high = max(start, extent.start), min(end, extent.end)
            seen[low - start : high - start] = extent.data[low - extent.start : high - extent.start]
        return bytes(seen)


writes = st.tuples(st.just("write"), st.integers(0, SIZE - 1), st.integers(1, 140))
steps = st.lists(
    st.one_of(
        writes,
        writes,
        writes,
        st.tuples(st.just("flush"), st.just(0), st.just(0)),
        st.tuples(st.just("seal"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("commit"), st.just(0), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, SIZE - 1), st.integers(1, 200)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps, st.booleans())
def test_what_was_written_is_read_whatever_is_in_memory_on_its_way_or_committed(
    plan: list[tuple[str, int, int]], append: bool
) -> None:
    buffers = PieceBuffers(4)
    shell = Shell(FileCore(buffers, block_bytes=64, append=append), buffers)
    model = bytearray()
    appended = 0
    for number, (action, where, length) in enumerate(plan):
        if action == "write":
            data = bytes((number + i) % 255 + 1 for i in range(length))
            position = appended if append else where
            appended += length
            if len(model) < position + length:
                model.extend(bytes(position + length - len(model)))
            model[position : position + length] = data
            for upload in shell.core.write(position, memoryview(data)):
                assert upload.length > 64 - PIECE
        elif action == "flush":
            shell.core.flush()
            assert not shell.core.has_waiting_bytes
        elif action == "seal":
            open_ones = [upload for upload in shell.core.uploads if upload.ended and not upload.block]
            if open_ones:
                shell.seal(open_ones[where % len(open_ones)])
        elif action == "commit":
            shell.commit()
        elif not append:
            found = shell.read(where, where + length)
            if found is not None:
                assert found == bytes(model[where : where + length].ljust(length, b"\0"))
        held = sum(extent.length for extent in shell.core.extents)
        assert shell.core.extents.bytes == held
        if not append:
            assert max(shell.core.end, len(shell.file)) == len(model)
    shell.core.flush()
    for upload in shell.core.uploads:
        if not upload.block:
            shell.seal(upload)
    shell.commit()
    assert shell.core.is_clean
    assert shell.file == model


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=60)), max_size=30))
def test_extents_are_disjoint_and_never_cross_a_piece(plan: list[tuple[int, bytes]]) -> None:
    extents, model = Extents(PieceBuffers(4)), bytearray(300)
    known: set[int] = set()
    for position, data in plan:
        extents.write(position, memoryview(data))
        model[position : position + len(data)] = data
        known.update(range(position, position + len(data)))
    seen: set[int] = set()
    end = 0
    for extent in extents:
        assert extent.start >= end
        end = extent.end
        assert extent.start // PIECE == (extent.end - 1) // PIECE
        assert extent.data == model[extent.start : extent.end]
        seen.update(range(extent.start, extent.end))
    assert seen == known
    for start in range(0, 260, 7):
        wanted = [extent for extent in extents if extent.start < start + 9 and extent.end > start]
        assert extents.overlap(start, start + 9) == wanted


def test_a_stream_begins_at_once_and_takes_the_pieces_that_follow() -> None:
    core = FileCore(PieceBuffers(4), block_bytes=CHUNK)
    assert core.write(0, memoryview(bytes(63))) == []
    (stream,) = core.write(63, memoryview(b"x"))
    assert stream.length == 64
    assert not stream.ended
    assert core.write(64, memoryview(bytes(PIECE))) == []
    assert stream.length == 64 + PIECE
    core.write(64 + PIECE, memoryview(bytes(CHUNK)))  # over the chunk's border
    assert stream.ended
    assert stream.length == CHUNK


def test_small_scattered_writes_share_a_block() -> None:
    core = FileCore(PieceBuffers(4), block_bytes=CHUNK)
    for position in (0, 40, 80):
        core.write(position, memoryview(b"abcd"))
    (upload,) = core.flush()
    assert [(part.position, part.length, part.offset) for part in upload.parts] == [(0, 4, 0), (40, 4, 4), (80, 4, 8)]
