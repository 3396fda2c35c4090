"""The namespace as one user sees it: reads through the cache, changes into it. Everything is by inode and name."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from blockyard.client.metadata.cache import ABSENT, NamespaceCache
from blockyard.client.metadata.calls import MetadataCalls
from blockyard.client.metadata.path import PathFollower
from blockyard.client.metadata.session import Session
from blockyard.proto import errors
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.ids import ROOT_INODE

OPERATIONS_PER_BATCH = 1_000
"""Operations sent in one batch: an entry of the log others wait behind."""
_ENTRIES_PER_PAGE = 2_000
_NAMES_PER_WALK = 1_000


class Namespace:
    """Names, attributes and everything else the metadata group knows. Any number of threads may use it.

    G4: what this client changed, it sees: a reply to a change is in the cache before the change returns. What others
    changed is seen at the latest after the cache's age, and always by opening a file.
    """

    def __init__(self, calls: MetadataCalls, cache: NamespaceCache) -> None:
        self.calls = calls
        self._cache = cache
        self._lock = threading.Lock()  # guards the cache

    # ------------------------------------------------------------------------------------------ the cache

    def cached(self, inode: int) -> pb.Attributes | None:
        """Return an inode's attributes when they are known and young enough."""
        with self._lock:
            return self._cache.attributes(inode, time.monotonic())

    def saw(self, attributes: pb.Attributes) -> pb.Attributes:
        """Remember attributes that a reply carried, and return them."""
        with self._lock:
            self._cache.saw(attributes, time.monotonic())
        return attributes

    def forget(self, inode: int) -> None:
        """Ask again next time."""
        with self._lock:
            self._cache.forget(inode)

    def forget_all(self) -> None:
        """Ask about everything again."""
        with self._lock:
            self._cache.clear()

    # ------------------------------------------------------------------------------------------ reading

    def attributes(self, inode: int) -> pb.Attributes:
        """Return an inode's attributes. Raises StaleHandle."""
        return self.cached(inode) or self.fresh(inode)

    def fresh(self, inode: int) -> pb.Attributes:
        """Return an inode's attributes as they are now."""
        return self.saw(self.calls.read("GetAttributes", pb.GetAttributesRequest(inode=inode)).attributes)

    def find(self, path: bytes, *, follow: bool = True, fresh: bool = False) -> pb.Attributes:
        """Return the attributes of what a path leads to; `fresh`: the last name is looked up now, as open(2) must.

        Raises NotFound, NotDirectory, PermissionDenied, TooManySymlinks, NameTooLong.
        """
        follower = PathFollower(path, follow_last=follow)
        while not follower.done:
            self._advance(follower, fresh=fresh)
        return follower.found or self.attributes(follower.here)

    def find_parent(self, path: bytes) -> tuple[int, bytes]:
        """Return the directory a path's last name is in, and that name. Raises InvalidArgument when it has none."""
        stripped = path.rstrip(b"/")
        head, _, name = stripped.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise errors.InvalidArgument("the path ends without a name")
        PathFollower(name, follow_last=False)  # its length
        follower = PathFollower(head + b"/", follow_last=True)
        while not follower.done:
            self._advance(follower, on_the_way=True)
        return follower.here, name

    def _advance(self, follower: PathFollower, *, fresh: bool = False, on_the_way: bool = False) -> None:
        """Follow names as far as the cache leads, then ask.

        Of directories `on_the_way` only the inode matters, so an own change of them since does not either.
        """
        most = 1 if fresh else 0
        while len(follower.names) > most:
            found = self._known_child(follower.here, follower.names[0], on_the_way or len(follower.names) > 1)
            if found is None or (
                found.type == pb.FILE_TYPE_SYMLINK and (len(follower.names) > 1 or follower.follow_last)
            ):
                break
            follower.step(found)
        if not follower.done:
            self._walk(follower)

    def known_child(self, parent: int, name: bytes) -> int:
        """Return the inode that a name is known to lead to, 0 for nothing or when it is not known."""
        with self._lock:
            return self._cache.child(parent, name, time.monotonic()) or 0

    def read_link(self, path: bytes) -> bytes:
        """Return where a symlink points. Raises InvalidArgument when it is none."""
        found = self.find(path, follow=False)
        if found.type != pb.FILE_TYPE_SYMLINK:
            raise errors.InvalidArgument("it is no symbolic link")
        target: bytes = self.calls.read("ReadLink", pb.ReadLinkRequest(inode=found.inode)).target
        return target

    def _known_child(self, parent: int, name: bytes, on_the_way: bool) -> pb.Attributes | None:
        now = time.monotonic()
        with self._lock:
            inode = self._cache.child(parent, name, now)
            if inode == ABSENT:
                raise errors.NotFound(f"directory {parent} has no entry {name!r}")
            if inode is None:
                return None
            known = self._cache.attributes(inode, now)
            return self._cache.directory(inode) if known is None and on_the_way else known

    def _walk(self, follower: PathFollower) -> None:
        names = follower.names[:_NAMES_PER_WALK]
        parent = follower.here
        with self._lock:
            ticket = self._cache.ticket()
        reply = self.calls.read("Walk", pb.WalkRequest(start=parent, names=names))
        now = time.monotonic()
        with self._lock:
            for name, found in zip(names, reply.found, strict=False):
                self._cache.saw(found, now)
                if name != b"..":
                    self._cache.saw_name(parent, name, found.inode, ticket, now)
                parent = found.inode
            failed = reply.HasField("error")
            if failed and reply.error.kind == "NotFound" and len(reply.found) < len(names):
                self._cache.saw_name(parent, names[len(reply.found)], ABSENT, ticket, now)
        for found in reply.found:
            follower.step(found, reply.symlink_target)
        if failed:
            raise errors.from_detail(reply.error)

    def entries(self, inode: int) -> Iterator[pb.DirectoryEntry]:
        """Yield a directory's entries with their attributes, page by page.

        What comes and goes meanwhile may be missed.
        """
        after = 0
        while True:
            with self._lock:
                ticket = self._cache.ticket()
            request = pb.ReadDirectoryRequest(inode=inode, after=after, limit=_ENTRIES_PER_PAGE, plus=True)
            page = self.calls.read("ReadDirectory", request)
            now = time.monotonic()
            with self._lock:
                for entry in page.entries:
                    if entry.HasField("attributes"):
                        self._cache.saw(entry.attributes, now)
                        self._cache.saw_name(inode, entry.name, entry.inode, ticket, now)
            yield from page.entries
            if page.end:
                return
            after = page.entries[-1].cookie

    # ------------------------------------------------------------------------------------------ changing names

    def make(self, method: str, request: Any, session: Session | None = None) -> pb.EntryReply:
        """Carry out a change that gives `request.name` in `request.parent` to an inode; return it."""
        reply: pb.EntryReply = self._named(method, request, session)
        with self._lock:
            now = time.monotonic()
            self._cache.set_name(request.parent, request.name, reply.attributes.inode, now)
            self._cache.saw(reply.attributes, now)
        return reply

    def remove(self, parent: int, name: bytes, *, directory: bool) -> pb.Attributes:
        """Unlink, or rmdir; return the inode's attributes as they are then."""
        request: Any = pb.RemoveDirectoryRequest if directory else pb.UnlinkRequest
        reply = self._named("RemoveDirectory" if directory else "Unlink", request(parent=parent, name=name))
        removed: pb.Attributes = reply.removed
        with self._lock:
            self._cache.set_name(parent, name, ABSENT, time.monotonic())
            self._cache.saw(removed, time.monotonic())
        return removed

    def rename(self, request: pb.RenameRequest) -> None:
        """Rename as the request says."""
        try:
            self.calls.change("Rename", request)
        finally:
            with self._lock:
                self._cache.forget_name(request.parent, request.name)
                self._cache.forget_name(request.new_parent, request.new_name)

    def _named(self, method: str, request: Any, session: Session | None = None) -> Any:
        try:
            return self.calls.change(method, request, session)
        except errors.BlockyardError:
            with self._lock:
                self._cache.forget_name(request.parent, request.name)
            raise

    # ------------------------------------------------------------------------------------------ changing inodes

    def edit(self, method: str, request: Any, session: Session | None = None) -> Any:
        """Carry out a change of `request.inode`; return the reply."""
        try:
            reply = self.calls.change(method, request, session)
        except errors.BlockyardError:
            self.forget(request.inode)
            raise
        if isinstance(reply, pb.EntryReply):
            self.saw(reply.attributes)
        else:
            self.forget(request.inode)
        return reply

    def batch(self, operations: Sequence[pb.Operation], session: Session | None = None) -> list[pb.Outcome]:
        """Carry out changes in order, each by itself all or nothing; return their outcomes.

        Callers see to the cache. They travel `OPERATIONS_PER_BATCH` at a time.
        """
        outcomes: list[pb.Outcome] = []
        for start in range(0, len(operations), OPERATIONS_PER_BATCH):
            request = pb.BatchRequest(operations=operations[start : start + OPERATIONS_PER_BATCH])
            outcomes += self.calls.change("Batch", request, session).outcomes
        return outcomes

    def named(self, parent: int, name: bytes, attributes: pb.Attributes | None) -> None:
        """A change in a batch let a name lead to an inode, or to nothing (None)."""
        with self._lock:
            now = time.monotonic()
            self._cache.set_name(parent, name, ABSENT if attributes is None else attributes.inode, now)
            if attributes is not None:
                self._cache.saw(attributes, now)

    @property
    def root(self) -> int:
        """The root's inode."""
        return ROOT_INODE
