"""Random operations of several sessions on the state machine and on a plain model of dicts.

The kernel's test covers rights and errnos; this one covers what the kernel cannot show: handles of several sessions,
files kept while they are open, retries, restarts, and the end of sessions. The model holds each file's names, handles
and blocks; the tree is a dict of dicts.
"""

import errno
from dataclasses import dataclass, field
from typing import Any

from blockyard.metaserver.state.commands import METADATA, method_id
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.errors import BlockyardError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.metaserver.namespace.harness import ROOT, SUPERUSER, Client, World, piece

names = st.sampled_from([b"a", b"b", b"c"])
paths = st.lists(names, min_size=1, max_size=3)
places = st.integers(0, 2)


@dataclass(eq=False)
class File:
    """A file of the model."""

    inode: int
    links: int = 1
    handles: set[tuple[int, int]] = field(default_factory=set)  # session, handle
    blocks: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Folder:
    """A directory of the model."""

    inode: int
    entries: dict[bytes, "File | Folder"] = field(default_factory=dict)


class Refused(Exception):
    """What the model answers with an errno."""


class Model(RuleBasedStateMachine):
    """The state machine beside the model."""

    @initialize(seed=st.integers(0, 2**16))
    def start(self, seed: int) -> None:
        self.world = World(seed=seed)
        self.clients = [self.world.session() for _ in range(3)]
        self.root = Folder(ROOT)
        self.files: list[File] = []
        self.blocks = 0
        self.dead: set[int] = set()

    # --- the model

    def find(self, path: list[bytes]) -> tuple[Folder, bytes]:
        """Return the directory of a path's last name. Raises Refused."""
        here: File | Folder = self.root
        for name in path[:-1]:
            if isinstance(here, File):
                raise Refused(errno.ENOTDIR)
            if name not in here.entries:
                raise Refused(errno.ENOENT)
            here = here.entries[name]
        if isinstance(here, File):
            raise Refused(errno.ENOTDIR)
        return here, path[-1]

    def lose_name(self, file: File) -> None:
        file.links -= 1
        self.bury(file)

    def bury(self, file: File) -> None:
        """Forget a file that has neither name nor handle."""
        if file.links == 0 and not file.handles and file in self.files:
            self.files.remove(file)
            self.dead.update(file.blocks)

    def both(self, client: Client, method: str, expected: int, **fields: Any) -> Any:
        """Make a change, send it again, and expect the same answer; return the reply, or None when refused."""
        kind = getattr(pb, f"{method}Request")
        request = client.request(kind, SUPERUSER, **fields)
        outcomes = [self.world.apply([(method_id(METADATA + method), request)]).outcomes[0] for _ in range(2)]
        first, again = outcomes
        if isinstance(first, BlockyardError):
            assert isinstance(again, BlockyardError)
            assert (first.errno, first.message) == (again.errno, again.message)
            assert first.errno == expected, f"{method}: {first}, expected {expected}"
            return None
        assert first == again
        assert expected == 0, f"{method} succeeded, expected {expected}"
        return first

    def located(self, path: list[bytes]) -> tuple[Folder, bytes] | None:
        try:
            return self.find(path)
        except Refused:
            return None

    # --- operations

    @rule(place=places, path=paths, keep_open=st.booleans())
    def create(self, place: int, path: list[bytes], keep_open: bool) -> None:
        found = self.located(path)
        if found is None:
            return
        folder, name = found
        client = self.clients[place]
        expected = errno.EEXIST if name in folder.entries else 0
        reply = self.both(
            client, "Create", expected, parent=folder.inode, name=name, mode=0o644, exclusive=True,
            open=keep_open, open_flags=2,
        )  # fmt: skip
        if reply:
            file = File(reply.attributes.inode)
            if keep_open:
                file.handles.add((client.number, reply.handle))
            folder.entries[name] = file
            self.files.append(file)

    @rule(place=places, path=paths)
    def make_directory(self, place: int, path: list[bytes]) -> None:
        found = self.located(path)
        if found is None:
            return
        folder, name = found
        expected = errno.EEXIST if name in folder.entries else 0
        reply = self.both(self.clients[place], "MakeDirectory", expected, parent=folder.inode, name=name, mode=0o755)
        if reply:
            folder.entries[name] = Folder(reply.attributes.inode)

    @rule(place=places, path=paths)
    def unlink(self, place: int, path: list[bytes]) -> None:
        found = self.located(path)
        if found is None:
            return
        folder, name = found
        entry = folder.entries.get(name)
        expected = errno.ENOENT if entry is None else errno.EISDIR if isinstance(entry, Folder) else 0
        reply = self.both(self.clients[place], "Unlink", expected, parent=folder.inode, name=name)
        if reply and isinstance(entry, File):
            del folder.entries[name]
            self.lose_name(entry)
            assert reply.removed.nlink == entry.links

    @rule(place=places, path=paths)
    def remove_directory(self, place: int, path: list[bytes]) -> None:
        found = self.located(path)
        if found is None:
            return
        folder, name = found
        entry = folder.entries.get(name)
        if entry is None:
            expected = errno.ENOENT
        elif isinstance(entry, File):
            expected = errno.ENOTDIR
        else:
            expected = errno.ENOTEMPTY if entry.entries else 0
        if self.both(self.clients[place], "RemoveDirectory", expected, parent=folder.inode, name=name):
            del folder.entries[name]

    @rule(place=places, number=st.integers(0, 9), path=paths)
    def link(self, place: int, number: int, path: list[bytes]) -> None:
        found = self.located(path)
        if found is None or number >= len(self.files):
            return
        folder, name = found
        file = self.files[number]
        expected = errno.EEXIST if name in folder.entries else 0 if file.links else errno.ENOENT
        if self.both(self.clients[place], "Link", expected, inode=file.inode, parent=folder.inode, name=name):
            folder.entries[name] = file
            file.links += 1

    @rule(place=places, path=paths, to=paths, exchange=st.booleans())
    def rename(self, place: int, path: list[bytes], to: list[bytes], exchange: bool) -> None:
        source, target = self.located(path), self.located(to)
        if source is None or target is None:
            return
        (old, name), (new, new_name) = source, target
        moved, replaced = old.entries.get(name), new.entries.get(new_name)
        expected = self.renaming(old, moved, new, replaced, exchange)
        done = self.both(
            self.clients[place], "Rename", expected, parent=old.inode, name=name, new_parent=new.inode,
            new_name=new_name, exchange=exchange,
        )  # fmt: skip
        if done is None or moved is replaced or moved is None:
            return
        if exchange and replaced is not None:
            old.entries[name] = replaced
        else:
            del old.entries[name]
        new.entries[new_name] = moved
        if not exchange and isinstance(replaced, File):
            self.lose_name(replaced)

    def renaming(
        self, old: Folder, moved: "File | Folder | None", new: Folder, replaced: "File | Folder | None", exchange: bool
    ) -> int:
        """Return the errno of a rename."""
        if moved is None or (replaced is None and exchange):
            return errno.ENOENT
        if isinstance(moved, Folder) and old is not new and self.holds(moved, new):
            return errno.EINVAL
        if isinstance(replaced, Folder) and old is not new and self.holds(replaced, old):
            return errno.EINVAL if exchange else errno.ENOTEMPTY
        if exchange or moved is replaced or replaced is None:
            return 0
        if isinstance(moved, Folder) != isinstance(replaced, Folder):
            return errno.ENOTDIR if isinstance(moved, Folder) else errno.EISDIR
        return errno.ENOTEMPTY if isinstance(replaced, Folder) and replaced.entries else 0

    def holds(self, folder: Folder, sought: Folder) -> bool:
        """Return whether `sought` is the folder or lies below it."""
        below = [entry for entry in folder.entries.values() if isinstance(entry, Folder)]
        return folder is sought or any(self.holds(entry, sought) for entry in below)

    @rule(place=places, number=st.integers(0, 9))
    def open(self, place: int, number: int) -> None:
        if number < len(self.files):
            client, file = self.clients[place], self.files[number]
            reply = self.both(client, "Open", 0, inode=file.inode, flags=2)
            file.handles.add((client.number, reply.handle))

    @rule(place=places, number=st.integers(0, 9), which=st.integers(0, 9))
    def close(self, place: int, number: int, which: int) -> None:
        if number >= len(self.files) or which >= len(self.files[number].handles):
            return
        client, file = self.clients[place], self.files[number]
        owner, handle = sorted(file.handles)[which]
        expected = 0 if owner == client.number else errno.EBADF
        if self.both(client, "Close", expected, inode=file.inode, handle=handle):
            file.handles.remove((owner, handle))
            self.bury(file)

    @rule(place=places, number=st.integers(0, 9))
    def append(self, place: int, number: int) -> None:
        if number >= len(self.files):
            return
        file = self.files[number]
        self.blocks += 1
        commit = pb.FileCommit(inode=file.inode, slices=[piece(0, 10, self.blocks)], append=True)
        reply = self.both(self.clients[place], "CommitSlices", 0, files=[commit])
        assert reply.files[0].position == 10 * len(file.blocks)
        file.blocks.append(self.blocks)

    @rule(place=places)
    def end_session(self, place: int) -> None:
        number = self.clients[place].number
        self.world.command(f"{METADATA}CloseSession", pb.CloseSessionRequest(session=number))
        self.clients[place] = self.world.session()
        for file in list(self.files):
            file.handles = {held for held in file.handles if held[0] != number}
            self.bury(file)

    @rule()
    def restart(self) -> None:
        self.world.restart()

    # --- what must hold

    @invariant()
    def the_trees_are_equal_and_nothing_is_lost(self) -> None:
        if not hasattr(self, "world"):
            return
        assert self.world.faults() == []
        self.compare(self.root)
        for file in self.files:
            attributes = self.world.attributes(file.inode)
            assert (attributes.nlink, attributes.size) == (file.links, 10 * len(file.blocks))
        assert set(self.world.referenced()) == {block for file in self.files for block in file.blocks}
        assert self.world.reclaimed() == self.dead

    def compare(self, folder: Folder) -> None:
        listed = {entry.name: entry.inode for entry in self.world.entries_of(folder.inode, page=2)}
        assert listed == {name: entry.inode for name, entry in folder.entries.items()}
        for entry in folder.entries.values():
            if isinstance(entry, Folder):
                assert self.world.attributes(entry.inode).parent == folder.inode
                self.compare(entry)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestModel = Model.TestCase
