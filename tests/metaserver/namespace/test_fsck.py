"""The check finds what is damaged, and says nothing about what is sound."""

from collections.abc import Callable

import pytest
from blockyard.metaserver.namespace import fsck
from blockyard.metaserver.namespace.slices import encode
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import WriteBatch
from blockyard.proto.metadata_pb2 import LOCK_EXCLUSIVE, Attributes

from tests.metaserver.namespace.harness import ROOT, World, piece

Damage = Callable[[World], None]


def world_with_everything() -> World:
    """A directory 2 with a file 3 (two names, two slices, an attribute, a handle, a lock), a symlink 4."""
    world = World()
    client = world.session()
    folder = client.mkdir(ROOT, b"d")
    file = client.create(folder, b"f")
    client.change("Symlink", parent=ROOT, name=b"link", target=b"d/f")
    client.change("Link", inode=file, parent=ROOT, name=b"g")
    client.commit(file, piece(0, 10, 1), piece(20, 10, 2))
    client.change("SetXattr", inode=file, name=b"user.x", value=b"v")
    client.open(file)
    client.lock(file, 1, LOCK_EXCLUSIVE)
    world.write()
    return world


def put(key: bytes, value: bytes) -> Damage:
    return lambda world: world.store.write(WriteBatch(puts=[(key, value)]))


def drop(key: bytes) -> Damage:
    return lambda world: world.store.write(WriteBatch(deletes=[key]))


def drop_all(prefix: bytes) -> Damage:
    return lambda world: world.store.write(
        WriteBatch(deletes=[key for key in world.store.rows if key.startswith(prefix)])
    )


def edit(number: int, **fields: int) -> Damage:
    def damage(world: World) -> None:
        record = Attributes.FromString(world.store.rows[keys.inode(number)])
        for name, value in fields.items():
            setattr(record, name, value)
        put(keys.inode(number), record.SerializeToString())(world)

    return damage


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (drop(keys.inode(3)), "dangling"),
        (drop_all(keys.dentries(2)), "size"),
        (drop_all(keys.DENTRY), "orphan"),
        (edit(3, nlink=1), "nlink"),
        (edit(2, nlink=3), "nlink"),
        (edit(2, size=7), "size"),
        (edit(2, parent=9), "parent"),
        (edit(3, type=4), "type"),
        (edit(3, allocated=1), "size"),
        (edit(3, size=15), "slice"),
        (drop(keys.block(1)), "block"),
        (put(keys.block(9), bytes(8)), "block"),
        (put(keys.reclaim(2), b""), "block"),
        (put(keys.chunk(3, 0), encode([(0, 10, 1, 0, 10), (5, 10, 2, 0, 10)])), "slice"),
        (put(keys.chunk(99, 0), encode([(0, 10, 1, 0, 10)])), "slice"),
        (drop(keys.symlink(4)), "symlink"),
        (put(keys.symlink(99), b"x"), "symlink"),
        (put(keys.xattr(3, b"user.y"), b"v"), "xattr"),
        (put(keys.xattr(99, b"user.y"), b"v"), "xattr"),
        (drop_all(keys.SESSION), "handle"),
        (drop_all(keys.SESSION), "lock"),
        (drop_all(keys.SESSION), "session"),
        (put(keys.counter(b"inodes"), (9).to_bytes(8, "big")), "count"),
        (put(keys.dentry(2, 512), b"\3" + bytes(7) + b"\1" + b"f"), "dentry"),
        (put(keys.dentry(2, 513), b"\3" + bytes(7) + b"\1" + b"f"), "dentry"),
    ],
)
def test_damage_is_found(damage: Damage, kind: str) -> None:
    world = world_with_everything()
    damage(world)
    state = world.machine.state
    state.inodes.known.clear()
    state.counters.known[b"inodes"] = int.from_bytes(world.store.rows[keys.counter(b"inodes")], "big")
    assert kind in {finding.kind for finding in fsck.check(state)}


def test_a_sound_state_has_no_findings_and_everything_was_looked_at() -> None:
    world = world_with_everything()
    progress = fsck.Progress()
    assert list(fsck.check(world.machine.state, progress, block_passes=3)) == []
    assert (progress.inodes, progress.dentries, progress.slices) == (4, 4, 2)
