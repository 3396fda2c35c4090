"""Directories sentence by sentence: names, listings, cookies, limits, and what the kernel cannot show us."""

import errno
import os
from typing import Any
from unittest import mock

import pytest
from blockyard.metaserver.namespace import dentries, links
from blockyard.metaserver.namespace.dentries import FIRST_COOKIE, first_cookie
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import (
    BlockyardError,
    Busy,
    Exists,
    InvalidArgument,
    IsDirectory,
    NameTooLong,
    NoSpace,
    NotDirectory,
    NotEmpty,
    NotFound,
    NotPermitted,
    PermissionDenied,
    StaleHandle,
    TooManyLinks,
    TooManySymlinks,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.metaserver.namespace.harness import ROOT, Client, World


@pytest.fixture
def client() -> Client:
    return World().session()


# --- Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [(b"x" * 256, NameTooLong), (b"", NotFound), (b"a/b", InvalidArgument), (b"a\0", InvalidArgument)],
)
def test_a_name_that_cannot_be_is_refused_everywhere(
    client: Client, name: bytes, expected: type[BlockyardError]
) -> None:
    client.create(ROOT, b"x" * 255)
    for method, fields in (
        ("Create", {}), ("MakeDirectory", {}), ("MakeNode", {"type": 4}), ("Symlink", {"target": b"t"}),
        ("Link", {"inode": 2}), ("Unlink", {}), ("RemoveDirectory", {}), ("PutFile", {}),
        ("Rename", {"new_parent": ROOT, "new_name": b"y"}),
    ):  # fmt: skip
        with pytest.raises(expected):
            client.change(method, parent=ROOT, name=name, **fields)
    with pytest.raises(expected):
        client.change("Rename", parent=ROOT, name=b"x", new_parent=ROOT, new_name=name)
    with pytest.raises(expected):
        client.lookup(ROOT, name)


def test_dots_are_looked_up_but_cannot_be_made_or_removed(client: Client) -> None:
    folder = client.mkdir(ROOT, b"d")
    assert client.lookup(folder, b".").inode == folder
    assert client.lookup(folder, b"..").inode == ROOT
    assert client.lookup(ROOT, b"..").inode == ROOT
    for dot in (b".", b".."):
        for method, fields in (("MakeDirectory", {}), ("MakeNode", {"type": 4}), ("Symlink", {"target": b"t"})):
            with pytest.raises(Exists):
                client.change(method, parent=folder, name=dot, **fields)
        with pytest.raises(IsDirectory):
            client.create(folder, dot)
        with pytest.raises(Exists):
            client.create(folder, dot, exclusive=True)
        with pytest.raises(IsDirectory):
            client.change("Unlink", parent=folder, name=dot)
        with pytest.raises(Busy):
            client.change("Rename", parent=folder, name=dot, new_parent=ROOT, new_name=b"x")
        with pytest.raises(Busy):
            client.change("Rename", parent=ROOT, name=b"d", new_parent=folder, new_name=dot)
    with pytest.raises(InvalidArgument):
        client.change("RemoveDirectory", parent=folder, name=b".")
    with pytest.raises(NotEmpty):
        client.change("RemoveDirectory", parent=folder, name=b"..")


# --- Walks


def test_a_walk_ends_at_the_first_symlink_or_error(client: Client) -> None:
    one = client.mkdir(ROOT, b"a")
    two = client.mkdir(one, b"b")
    client.change("Symlink", parent=two, name=b"link", target=b"../c")
    reply = client.read("Walk", start=ROOT, names=[b"a", b"b", b"..", b"b"])
    assert [found.inode for found in reply.found] == [one, two, one, two]
    assert not reply.HasField("error")
    reply = client.read("Walk", start=ROOT, names=[b"a", b"b", b"link", b"x"])
    assert (len(reply.found), reply.symlink_target) == (3, b"../c")
    reply = client.read("Walk", start=ROOT, names=[b"a", b"nothing", b"x"])
    assert (len(reply.found), reply.error.errno) == (1, errno.ENOENT)


# --- Listings


def test_a_listing_in_pages_has_every_entry_once(client: Client) -> None:
    names = {b"file%d" % number for number in range(500)}
    for name in names:
        client.create(ROOT, name)
    found = client.world.entries_of(ROOT, page=7)
    assert {entry.name for entry in found} == names
    assert len(found) == 500
    cookies = [entry.cookie for entry in found]
    assert cookies == sorted(set(cookies))
    assert min(cookies) >= FIRST_COOKIE
    assert max(cookies) < 2**63


def test_a_listing_goes_on_at_its_place_while_others_insert_and_remove(client: Client) -> None:
    stay = {b"stay%d" % number for number in range(100)}
    for name in stay:
        client.create(ROOT, name)
    for number in range(100):
        client.create(ROOT, b"go%d" % number)
    found: list[bytes] = []
    after = 0
    for step in range(1000):
        reply = client.read("ReadDirectory", inode=ROOT, after=after, limit=5)
        found += [entry.name for entry in reply.entries]
        if reply.end:
            break
        after = reply.entries[-1].cookie
        client.create(ROOT, b"new%d" % step)
        if step < 100:
            client.change("Unlink", parent=ROOT, name=b"go%d" % step)
        if step % 10 == 0:
            client.world.restart()
    assert len(found) == len(set(found))
    assert stay <= set(found)


def test_a_page_ends_at_a_mebibyte(client: Client) -> None:
    for number in range(4_200):
        client.create(ROOT, b"%0250d" % number)
    reply = client.read("ReadDirectory", inode=ROOT, limit=10_000)
    assert 3_000 < len(reply.entries) < 4_200
    assert reply.ByteSize() < 1 << 20
    assert not reply.end
    with pytest.raises(InvalidArgument):
        client.read("ReadDirectory", inode=ROOT, limit=10_001)


def test_attributes_in_a_listing_are_for_those_who_may_search(client: Client) -> None:
    folder = client.mkdir(ROOT, b"d", mode=0o744)
    file = client.create(folder, b"f")
    (entry,) = client.read("ReadDirectory", inode=folder, plus=True).entries
    assert entry.attributes == client.world.attributes(file)
    (entry,) = client.read("ReadDirectory", Caller(uid=7, gid=7), inode=folder, plus=True).entries
    assert not entry.HasField("attributes")


@given(st.binary(min_size=1, max_size=255))
def test_cookies_are_positive_and_leave_the_first_256_free(name: bytes) -> None:
    assert FIRST_COOKIE <= first_cookie(name) < 2**63
    assert first_cookie(name) % 256 == 0


def test_names_of_one_hash_live_side_by_side(client: Client) -> None:
    with (
        mock.patch.object(dentries, "first_cookie", return_value=512),
        mock.patch("blockyard.metaserver.namespace.fsck.first_cookie", return_value=512),
    ):
        world = client.world
        inodes = {b"n%d" % number: client.create(ROOT, b"n%d" % number) for number in range(20)}
        for name in (b"n0", b"n3", b"n19", b"n18", b"n7"):
            client.change("Unlink", parent=ROOT, name=name)
            del inodes[name]
            assert world.faults() == []
            world.restart()
            assert {entry.name: entry.inode for entry in world.entries_of(ROOT, page=3)} == inodes
            for other, inode in inodes.items():
                assert client.lookup(ROOT, other).inode == inode
        for number in range(300, 310):
            inodes[b"n%d" % number] = client.create(ROOT, b"n%d" % number)
        assert [entry.cookie for entry in world.entries_of(ROOT)] == list(range(512, 512 + 25))
        for name in list(inodes):
            client.change("Unlink", parent=ROOT, name=name)
            assert world.faults() == []
        assert world.entries_of(ROOT) == []
        assert not [key for key in world.store.rows if key[:1] == b"D"]


def test_256_names_of_one_hash_fill_it(client: Client) -> None:
    with mock.patch.object(dentries, "first_cookie", return_value=512):
        for number in range(256):
            client.create(ROOT, b"%d" % number)
        with pytest.raises(NoSpace):
            client.create(ROOT, b"one more")
        client.change("Unlink", parent=ROOT, name=b"5")
        client.create(ROOT, b"one more")


# --- Inodes that lost their names


def test_a_removed_directory_that_is_open_can_be_read_but_not_filled(client: Client) -> None:
    folder = client.mkdir(ROOT, b"d")
    handle = client.open(folder, os.O_RDONLY)
    client.change("RemoveDirectory", parent=ROOT, name=b"d")
    assert client.world.attributes(folder).nlink == 0
    assert client.world.entries_of(folder) == []
    with pytest.raises(NotFound):
        client.create(folder, b"f")
    assert client.world.faults() == []
    client.change("Close", inode=folder, handle=handle)
    with pytest.raises(StaleHandle):
        client.world.attributes(folder)


def test_an_unlinked_open_file_lives_until_its_last_close(client: Client) -> None:
    file = client.create(ROOT, b"f")
    first, second = client.open(file), client.open(file)
    removed = client.change("Unlink", parent=ROOT, name=b"f").removed
    assert (removed.inode, removed.nlink) == (file, 0)
    client.change("Close", inode=file, handle=first)
    client.world.restart()
    assert client.world.attributes(file).nlink == 0
    with pytest.raises(NotFound):
        client.change("Link", inode=file, parent=ROOT, name=b"again")
    client.change("Close", inode=file, handle=second)
    with pytest.raises(StaleHandle):
        client.world.attributes(file)


def test_a_rename_over_an_open_file_keeps_its_content(client: Client) -> None:
    old, new = client.create(ROOT, b"old"), client.create(ROOT, b"new")
    handle = client.open(old)
    reply = client.change("Rename", parent=ROOT, name=b"new", new_parent=ROOT, new_name=b"old")
    assert (reply.removed.inode, reply.removed.nlink) == (old, 0)
    assert client.lookup(ROOT, b"old").inode == new
    assert client.world.attributes(old).nlink == 0
    client.change("Close", inode=old, handle=handle)
    assert client.world.faults() == []


def test_an_unnamed_file_can_be_named_once(client: Client) -> None:
    reply = client.change("CreateUnnamed", parent=ROOT, mode=0o600, open_flags=os.O_RDWR)
    file = reply.attributes.inode
    assert reply.attributes.nlink == 0
    assert client.world.faults() == []
    client.change("Link", inode=file, parent=ROOT, name=b"f")
    client.change("Unlink", parent=ROOT, name=b"f")
    with pytest.raises(NotFound):
        client.change("Link", inode=file, parent=ROOT, name=b"g")
    client.change("Close", inode=file, handle=reply.handle)
    assert client.world.faults() == []


def test_an_unnamed_file_opened_exclusively_is_never_named(client: Client) -> None:
    reply = client.change("CreateUnnamed", parent=ROOT, mode=0o600, open_flags=os.O_RDWR | os.O_EXCL)
    with pytest.raises(NotFound):
        client.change("Link", inode=reply.attributes.inode, parent=ROOT, name=b"f")
    with pytest.raises(InvalidArgument):
        client.change("CreateUnnamed", parent=ROOT, mode=0o600, open_flags=os.O_RDONLY)


# --- Limits, flags, and types


def test_a_file_has_a_bounded_number_of_names(client: Client) -> None:
    file = client.create(ROOT, b"f")
    with mock.patch.object(links, "LINKS_MAX", 3):
        client.change("Link", inode=file, parent=ROOT, name=b"1")
        client.change("Link", inode=file, parent=ROOT, name=b"2")
        with pytest.raises(TooManyLinks):
            client.change("Link", inode=file, parent=ROOT, name=b"3")


def test_create_opens_what_is_there_or_says_what_it_is(client: Client) -> None:
    file = client.create(ROOT, b"f", mode=0o600)
    client.change("Symlink", parent=ROOT, name=b"link", target=b"f")
    fifo = client.change("MakeNode", parent=ROOT, name=b"fifo", type=pb.FILE_TYPE_FIFO, mode=0o666).attributes
    reply = client.change("Create", parent=ROOT, name=b"f", mode=0o777, open=True, open_flags=2)
    assert (reply.attributes.inode, reply.attributes.mode, bool(reply.handle)) == (file, 0o600, True)
    with pytest.raises(PermissionDenied):
        client.change("Create", Caller(uid=7, gid=7), parent=ROOT, name=b"f", mode=0o777, open=True, open_flags=2)
    with pytest.raises(TooManySymlinks):
        client.create(ROOT, b"link")
    reply = client.change("Create", parent=ROOT, name=b"fifo", mode=0o777, open=True, open_flags=2)
    assert (reply.attributes.inode, reply.handle) == (fifo.inode, 0)


def test_what_is_immutable_or_append_only_stays_so(client: Client) -> None:
    folder, file = client.mkdir(ROOT, b"d", mode=0o777), client.create(ROOT, b"f", mode=0o666)
    owner = Caller(uid=7, gid=7)
    with pytest.raises(NotPermitted):
        client.change("SetAttributes", owner, inode=file, flags=0x10)
    client.change("SetAttributes", inode=folder, flags=0x10)
    with pytest.raises(NotPermitted):
        client.create(folder, b"x")
    client.change("SetAttributes", inode=file, flags=0x20)
    refused: list[tuple[str, dict[str, Any]]] = [
        ("Unlink", {"parent": ROOT, "name": b"f"}),
        ("Link", {"inode": file, "parent": ROOT, "name": b"g"}),
        ("Open", {"inode": file, "flags": os.O_WRONLY}),
        ("SetAttributes", {"inode": file, "size": 0}),
        ("SetAttributes", {"inode": file, "mode": 0}),
        ("Rename", {"parent": ROOT, "name": b"f", "new_parent": ROOT, "new_name": b"g"}),
        ("SetXattr", {"inode": file, "name": b"user.x", "value": b""}),
    ]
    for method, fields in refused:
        with pytest.raises(NotPermitted):
            client.change(method, **fields)
    assert client.open(file, os.O_WRONLY | os.O_APPEND)
    assert client.commit(file, pb.Slice(length=1, block=1, block_length=1)).error.errno == errno.EPERM
    assert not client.commit(file, pb.Slice(length=1, block=1, block_length=1), append=True).HasField("error")


def test_operations_want_the_right_type(client: Client) -> None:
    file = client.create(ROOT, b"f")
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("Create", {"parent": file, "name": b"x"}),
        ("Unlink", {"parent": file, "name": b"x"}),
        ("Rename", {"parent": ROOT, "name": b"f", "new_parent": file, "new_name": b"x"}),
        ("RemoveDirectory", {"parent": ROOT, "name": b"f"}),
    ]
    for method, fields in wrong:
        with pytest.raises(NotDirectory):
            client.change(method, **fields)
    with pytest.raises(NotDirectory):
        client.lookup(file, b"x")
    with pytest.raises(StaleHandle):
        client.lookup(99, b"x")
    with pytest.raises(IsDirectory):
        client.change("SetAttributes", inode=ROOT, size=0)


def test_statfs_counts_inodes(client: Client) -> None:
    client.create(ROOT, b"f")
    reply = client.world.machine.filesystem(100, 60, 50)
    assert (reply.total_bytes, reply.free_bytes, reply.available_bytes) == (100, 60, 50)
    assert (reply.inodes, reply.name_max) == (2, 255)


def test_a_version_rises_with_every_change_and_only_then(client: Client) -> None:
    file = client.create(ROOT, b"f")
    versions = [client.world.attributes(file).version]
    client.change("SetAttributes", inode=file, mode=0o600)
    versions.append(client.world.attributes(file).version)
    client.change("Link", inode=file, parent=ROOT, name=b"g")
    versions.append(client.world.attributes(file).version)
    client.open(file)
    client.read("Lookup", parent=ROOT, name=b"f")
    assert versions == [1, 2, 3]
    assert client.world.attributes(file).version == 3
