"""The operation log: what is in it, and how it is kept small."""

from unittest import mock

import pytest
from blockyard.metaserver.namespace import oplog
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import BlockyardError

from tests.metaserver.namespace.harness import FIRST_TIME_NS, ROOT, TICK_NS, Client, World, piece


@pytest.fixture
def client() -> Client:
    return World().session()


def test_every_change_is_logged_with_who_what_where_and_how_it_ended(client: Client) -> None:
    who = Caller(uid=7, gid=8)
    with pytest.raises(BlockyardError):
        client.create(ROOT, b"f", caller=who)
    file = client.create(ROOT, b"f")
    client.change("Rename", parent=ROOT, name=b"f", new_parent=ROOT, new_name=b"g")
    client.commit(file, piece(0, 1, 1))
    handle = client.open(file)
    client.change("Close", inode=file, handle=handle)
    client.change("SetXattr", inode=file, name=b"user.x", value=b"v")
    client.change("Unlink", parent=ROOT, name=b"g")
    found = list(oplog.read(client.world.machine.state))
    assert [(record.operation, record.inode, record.name, record.errno) for record in found] == [
        ("create", 0, b"f", 13),
        ("create", file, b"f", 0),
        ("rename", file, b"f", 0),
        ("write", file, b"", 0),
        ("set_xattr", file, b"", 0),
        ("unlink", file, b"g", 0),
    ]
    assert (found[0].uid, found[0].gid, found[0].session, found[0].parent) == (7, 8, client.number, ROOT)
    assert (found[2].new_parent, found[2].new_name) == (ROOT, b"g")
    assert found[1].time_ns == FIRST_TIME_NS + found[1].index * TICK_NS
    assert [record.index for record in found] == sorted(record.index for record in found)


def test_old_rows_go_when_the_log_is_too_long(client: Client) -> None:
    with mock.patch.object(oplog, "BYTES_MAX", 2_000):
        for number in range(200):
            client.create(ROOT, b"%d" % number)
        client.world.restart()
        for number in range(200, 300):
            client.create(ROOT, b"%d" % number)
    found = [int(record.name) for record in oplog.read(client.world.machine.state)]
    assert found == list(range(300 - len(found), 300))
    assert 20 < len(found) < 60


def test_old_rows_go_when_they_are_too_old(client: Client) -> None:
    for number in range(100):
        client.create(ROOT, b"%d" % number)
    client.world.now += oplog.AGE_MAX_NS
    client.create(ROOT, b"100")
    client.create(ROOT, b"101")
    assert [record.name for record in oplog.read(client.world.machine.state)] == [b"100", b"101"]


def test_a_commit_logs_each_of_its_files(client: Client) -> None:
    one, two = client.create(ROOT, b"1"), client.create(ROOT, b"2")
    files = [pb.FileCommit(inode=inode, slices=[piece(0, 1, inode)]) for inode in (one, 99, two)]
    client.change("CommitSlices", files=files)
    found = [record for record in oplog.read(client.world.machine.state) if record.operation == "write"]
    assert [(record.inode, record.errno) for record in found] == [(one, 0), (99, 116), (two, 0)]
