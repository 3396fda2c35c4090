"""One rewriting that fails: what it leaves behind."""

from collections.abc import Iterator

import pytest
from blockyard.metaserver.member.group_machine import cluster, internal
from blockyard.proto import cluster_pb2
from blockyard.proto.common_pb2 import Address
from blockyard.proto.errors import DeadlineExceeded, InternalError, StaleEpoch
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


def test_a_block_whose_nodes_were_let_go_meanwhile_is_not_swapped_in(group: Group) -> None:
    inode = crowded_file(group)
    content, before = group.read(inode, 0, 160), group.pieces((inode, 0))
    job = begun(group)
    reply = group.carry_out(job.asked)
    replace_node(group, old=1, new=4)
    group.answer(job, reply)
    group.finish(job)
    assert isinstance(job.outcome, StaleEpoch)
    assert group.pieces((inode, 0)) == before
    assert group.read(inode, 0, 160) == content


def replace_node(group: Group, *, old: int, new: int) -> None:
    """Let another node take the place of one, up to where the old one is let go."""
    address = Address(host="h", lane_port=new)
    record = cluster_pb2.NodeRecord(
        name=f"n{new}", zone=f"z{new}", address=address, incarnation=new, capacity_bytes=1 << 40
    )
    group.run(cluster("RegisterNode"), cluster_pb2.RegisterNodeRequest(node=record, starts=1))
    group.run(cluster("ChangeNode"), cluster_pb2.ChangeNodeRequest(node=old, state=cluster_pb2.NODE_DRAINING))
    view = group.machine.cluster_state.view(group.machine.tx)
    for node in view.nodes:
        complete = [number for number, row in enumerate(view.groups) if node in row.nodes]
        report = cluster_pb2.NodeHeartbeatRequest(
            node=node, incarnation=node, map_epoch=view.epoch, complete_groups=complete
        )
        group.run(internal("ReportComplete"), report)
    view = group.machine.cluster_state.view(group.machine.tx)
    assert not any(old in row.holders for row in view.groups)
