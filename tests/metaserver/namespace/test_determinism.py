"""The same log gives the same rows: under other hash seeds, other rhythms of writing, and after restarts."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from blockyard.metaserver.namespace.machine import StateMachine
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.commands import METADATA, method_id
from blockyard.metaserver.state.hash import state_hash
from blockyard.metaserver.state.transaction import MemoryStore, WriteBatch
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import BlockyardError
from blockyard.proto.metadata_pb2 import LOCK_EXCLUSIVE, LOCK_SHARED

from tests.metaserver.namespace.harness import ROOT, World
from tests.metaserver.namespace.posix import Machine
from tests.metaserver.namespace.test_like_the_kernel import USERS, Calls

REPLAY = """
import struct, sys
from blockyard.metaserver.namespace.machine import StateMachine
from blockyard.metaserver.state.transaction import MemoryStore
log, place = open(sys.argv[1], "rb").read(), 0
machine, index = StateMachine(MemoryStore()), 0
while place < len(log):
    (length,) = struct.unpack_from("<I", log, place)
    entry = machine.catalogue.decode(log[place + 4 : place + 4 + length])
    place += 4 + length
    index += 1
    machine.apply(index, entry.time_ns, entry.session_clock_ms, entry.commands)
print(machine.state_hash())
"""


def busy_world(seed: int) -> World:
    """Return a world after a few hundred random commands of several sessions, some of them in large entries."""
    world = World(seed=seed)
    calls, machine = Calls(seed), Machine(world)
    sessions = [world.session(term_ms=5_000) for _ in range(3)]
    machine.call(USERS[0], "chmod", ".", 0o777)
    draw = calls.random
    files = [sessions[0].create(ROOT, b"file%d" % number, mode=0o666) for number in range(4)]
    for _ in range(200):
        name, arguments = calls.draw()
        machine.call(draw.choice(USERS), name, *arguments)
        client = draw.choice(sessions)
        file = draw.choice(files)
        world.clock_ms += draw.randrange(300)
        kind = draw.choice((LOCK_SHARED, LOCK_EXCLUSIVE))
        start = draw.randrange(10)
        lock = pb.FileLock(owner=draw.randrange(3), kind=kind, start=start, end=start + 5)
        requests = [
            ("SetLock", client.request(pb.SetLockRequest, inode=file, lock=lock, wait=True)),
            ("Open", client.request(pb.OpenRequest, inode=file, flags=2)),
            ("Create", client.request(pb.CreateRequest, parent=ROOT, name=b"new", mode=0o644)),
            ("Unlink", client.request(pb.UnlinkRequest, parent=ROOT, name=b"new")),
        ]
        world.apply([(method, request) for method, request in _with_ids(requests)])
        if draw.random() < 0.02:
            world.expire()
            sessions = [world.session(term_ms=5_000) for _ in range(3)]
        if draw.random() < 0.05:
            world.restart()
    return world


def _with_ids(requests: list[tuple[str, object]]) -> list[tuple[int, object]]:
    return [(method_id(METADATA + method), request) for method, request in requests]


def test_two_hash_seeds_and_no_restarts_give_the_same_state(tmp_path: Path) -> None:
    world = busy_world(1)
    log = tmp_path / "log"
    log.write_bytes(b"".join(struct.pack("<I", len(entry)) + entry for entry in world.entries))
    hashes = {world.machine.state_hash()}
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", REPLAY, str(log)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        hashes.add(int(done.stdout))
    assert len(hashes) == 1
    assert world.faults() == []


@pytest.mark.parametrize("seed", range(2, 6))
def test_every_rhythm_of_writing_gives_the_same_state_and_answers(seed: int) -> None:
    world = busy_world(seed)
    steady = StateMachine(MemoryStore())
    store = MemoryStore()
    restarted = StateMachine(store)
    for index, data in enumerate(world.entries, 1):
        entry = steady.catalogue.decode(data)
        arguments = index, entry.time_ns, entry.session_clock_ms
        one = steady.apply(*arguments, entry.commands)
        two = restarted.apply(*arguments, entry.commands)
        assert one.encoded == two.encoded
        assert [(grant.session, grant.sequence) for grant in one.grants] == [
            (grant.session, grant.sequence) for grant in two.grants
        ]
        store.write(restarted.changes())
        restarted.written()
        restarted = StateMachine(store)
    assert steady.state_hash() == restarted.state_hash() == world.machine.state_hash()
    assert list(steady.check()) == []


def test_the_members_own_rows_are_not_hashed() -> None:
    store = MemoryStore()
    before = state_hash(store)
    store.write(WriteBatch(puts=[(keys.APPLIED_INDEX, b"7")]))
    assert state_hash(store) == before
    store.write(WriteBatch(puts=[(keys.counter(b"x"), b"7")]))
    assert state_hash(store) != before


def test_every_prefix_is_either_agreed_or_the_members_own() -> None:
    prefixes = {
        value for name, value in vars(keys).items() if name.isupper() and isinstance(value, bytes) and len(value) == 1
    }
    assert prefixes == {*keys.AGREED, keys.LOCAL}


def test_a_refused_command_leaves_nothing_but_its_answer() -> None:
    world = World()
    client = world.session()
    client.mkdir(ROOT, b"d")
    stranger = Caller(uid=7, gid=7)
    world.write()
    before = {key: value for key, value in world.store.rows.items() if key[:1] not in b"SAOM"}
    for method, fields in (
        ("Create", {"parent": ROOT, "name": b"f"}),
        ("MakeDirectory", {"parent": ROOT, "name": b"d"}),
        ("Rename", {"parent": ROOT, "name": b"d", "new_parent": 2, "new_name": b"x"}),
        ("PutFile", {"parent": ROOT, "name": b"f", "size": 9, "slices": [pb.Slice(length=9, block=1, block_length=9)]}),
        ("SetAttributes", {"inode": 2, "mode": 0o777, "atime_now": True}),
    ):
        with pytest.raises(BlockyardError):
            client.change(method, stranger, **fields)
    world.write()
    assert {key: value for key, value in world.store.rows.items() if key[:1] not in b"SAOM"} == before
