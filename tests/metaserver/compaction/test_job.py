"""One rewriting that fails: what it leaves behind."""

from collections.abc import Iterator

import pytest
from blockyard.proto.errors import DeadlineExceeded, InternalError
from blockyard.proto.storage_pb2 import CompactChunkReply, CompactChunkRequest

from tests.metaserver.compaction.group import Group, Running, small_scale


@pytest.fixture
def group() -> Iterator[Group]:
    with small_scale():
        yield Group()


def crowded_file(group: Group) -> int:
    """Make a file worth compacting."""
    inode = int(group.change("Create", parent=1, name=b"f", mode=0o644).attributes.inode)
    for at in range(40):
        group.write(inode, 4 * at, bytes([at]) * 4)
    return inode


def begun(group: Group) -> Running:
    """Begin the job that a crowded file is worth, up to where a node is asked to write."""
    assert group.look() == 1
    [job] = group.jobs
    group.answer(job, group.carry_out(job.asked))
    assert isinstance(job.asked.request, CompactChunkRequest)
    return job


def test_what_was_written_by_a_job_that_failed_is_dropped_without_a_search(group: Group) -> None:
    crowded_file(group)
    before = set(group.blocks)
    job = begun(group)
    group.carry_out(job.asked)
    assert len(group.blocks) == len(before) + 1
    group.answer(job, DeadlineExceeded("no answer came"))
    group.finish(job)
    assert isinstance(job.outcome, DeadlineExceeded)
    group.reclaim()
    assert set(group.blocks) == before


def test_what_was_written_in_vain_is_dropped_without_a_search(group: Group) -> None:
    inode = crowded_file(group)
    job = begun(group)
    group.answer(job, group.carry_out(job.asked))
    group.write(inode, 0, bytes(130))
    group.finish(job)
    assert job.outcome is False
    group.reclaim()
    assert set(group.blocks) == set(group.referenced())


def test_a_swap_whose_answer_was_lost_keeps_its_block(group: Group) -> None:
    inode = crowded_file(group)
    content = group.read(inode, 0, 160)
    job = begun(group)
    group.answer(job, group.carry_out(job.asked))
    group.carry_out(job.asked)
    group.answer(job, DeadlineExceeded("no answer came"))
    group.finish(job)
    assert len(group.pieces((inode, 0))) == 1
    group.reclaim()
    group.collect_orphans()
    assert group.read(inode, 0, 160) == content
    assert group.faults() == []


def test_a_node_that_answers_something_else_than_it_was_asked_for_changes_nothing(group: Group) -> None:
    inode = crowded_file(group)
    before = group.pieces((inode, 0))
    job = begun(group)
    reply: CompactChunkReply = group.carry_out(job.asked)
    reply.slices[0].block_offset += 1
    group.answer(job, reply)
    group.finish(job)
    assert isinstance(job.outcome, InternalError)
    assert group.pieces((inode, 0)) == before
