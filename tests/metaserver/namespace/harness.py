"""A state machine on a dict, driven one call at a time, the way a client would."""

import random
from collections.abc import Iterable
from typing import Any

from blockyard.metaserver.namespace.blocks import BlockLeases
from blockyard.metaserver.namespace.locks import WAITING
from blockyard.metaserver.namespace.machine import Applied, Grant, StateMachine
from blockyard.metaserver.state.commands import INTERNAL, METADATA, encode, method_id
from blockyard.metaserver.state.transaction import MemoryStore
from blockyard.proto import internal_pb2 as internal
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import Caller, RequestId

ROOT = 1
FIRST_TIME_NS = 1_800_000_000_000_000_000
TICK_NS = 1_000_000

SUPERUSER = Caller(uid=0, gid=0)


class World:
    """One member of the group, its store, and its clocks."""

    def __init__(self, leases: BlockLeases | None = None, seed: int | None = None) -> None:
        """With a seed, batches are written now and then only, and every command also passes through bytes."""
        self.store = MemoryStore()
        self.leases = leases
        self.machine = StateMachine(self.store, leases, cluster="test")
        self.index = 0
        self.now = FIRST_TIME_NS
        self.clock_ms = 1_000
        self.grants: list[Grant] = []
        self.entries: list[bytes] = []
        self.random = None if seed is None else random.Random(seed)

    def apply(self, commands: Iterable[tuple[int, Any]]) -> Applied:
        """Apply one entry through its bytes, as a follower does."""
        self.index += 1
        self.now += TICK_NS
        data = encode(
            self.now, self.clock_ms, [(method, request.SerializeToString(), ()) for method, request in commands]
        )
        self.entries.append(data)
        entry = self.machine.catalogue.decode(data)
        applied = self.machine.apply(self.index, entry.time_ns, entry.session_clock_ms, entry.commands)
        self.grants += applied.grants
        if self.random is None or self.random.random() < 0.3:
            self.write()
        return applied

    def write(self) -> None:
        """Write what is applied."""
        self.store.write(self.machine.changes())
        self.machine.written()

    def restart(self) -> None:
        """Load the state machine from its rows."""
        self.write()
        self.machine = StateMachine(self.store, self.leases, cluster="test")

    def command(self, path: str, request: Any) -> Any:
        """Apply one command; return its reply or WAITING, or raise its refusal."""
        outcome = self.apply([(method_id(path), request)]).outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def read(self, method: str, request: Any) -> Any:
        return self.machine.read(method_id(METADATA + method), request)

    def session(self, nonce: int = 0, term_ms: int = 0) -> "Client":
        """Open a session."""
        request = pb.OpenSessionRequest(client="test", nonce=nonce, term_ms=term_ms)
        return Client(self, self.command(f"{METADATA}OpenSession", request).session)

    def expire(self) -> list[int]:
        reply = self.command(f"{INTERNAL}ExpireSessions", internal.ExpireSessionsRequest())
        return list(reply.sessions)

    def faults(self) -> list[str]:
        """Return what the check finds, as text."""
        return [f"{kind} {inode}: {message}" for kind, inode, message in self.machine.check()]

    def attributes(self, inode: int) -> pb.Attributes:
        found: pb.Attributes = self.read("GetAttributes", pb.GetAttributesRequest(inode=inode)).attributes
        return found

    def entries_of(self, inode: int, page: int = 1000) -> list[pb.DirectoryEntry]:
        """List a directory as root."""
        found: list[pb.DirectoryEntry] = []
        after = 0
        while True:
            request = pb.ReadDirectoryRequest(caller=SUPERUSER, inode=inode, after=after, limit=page)
            reply = self.read("ReadDirectory", request)
            found += reply.entries
            if reply.end:
                return found
            after = found[-1].cookie

    def reclaimed(self) -> set[int]:
        """Return the blocks that wait to be reclaimed."""
        self.write()
        return {int.from_bytes(key[1:], "big") for key in self.store.rows if key[:1] == b"G"}

    def referenced(self) -> dict[int, int]:
        """Return the counted references of each block."""
        self.write()
        return {
            int.from_bytes(key[1:], "big"): int.from_bytes(row[:4], "little")
            for key, row in self.store.rows.items()
            if key[:1] == b"B"
        }


class Client:
    """One session's calls. Every change gets a request id of its own."""

    def __init__(self, world: World, session: int) -> None:
        self.world = world
        self.number = session
        self.sequence = 0

    def request(self, kind: Any, caller: Caller = SUPERUSER, **fields: Any) -> Any:
        """Return a request for a change with the next request id."""
        self.sequence += 1
        number = RequestId(session=self.number, sequence=self.sequence, answered_below=self.sequence)
        if "caller" in kind.DESCRIPTOR.fields_by_name:
            fields["caller"] = caller
        return kind(request=number, **fields)

    def change(self, method: str, caller: Caller = SUPERUSER, **fields: Any) -> Any:
        """Make a change by the method's name."""
        kind = getattr(pb, f"{method}Request")
        return self.world.command(METADATA + method, self.request(kind, caller, **fields))

    def read(self, method: str, caller: Caller = SUPERUSER, **fields: Any) -> Any:
        return self.world.read(method, getattr(pb, f"{method}Request")(caller=caller, **fields))

    # --- short forms, as root unless said otherwise

    def mkdir(self, parent: int, name: bytes, mode: int = 0o755, caller: Caller = SUPERUSER) -> int:
        reply = self.change("MakeDirectory", caller, parent=parent, name=name, mode=mode)
        return int(reply.attributes.inode)

    def create(self, parent: int, name: bytes, mode: int = 0o644, caller: Caller = SUPERUSER, **fields: Any) -> int:
        return int(self.change("Create", caller, parent=parent, name=name, mode=mode, **fields).attributes.inode)

    def open(self, inode: int, flags: int = 2, caller: Caller = SUPERUSER) -> int:
        return int(self.change("Open", caller, inode=inode, flags=flags).handle)

    def lookup(self, parent: int, name: bytes, caller: Caller = SUPERUSER) -> pb.Attributes:
        found: pb.Attributes = self.read("Lookup", caller, parent=parent, name=name).attributes
        return found

    def commit(self, inode: int, *pieces: pb.Slice, caller: Caller = SUPERUSER, **fields: Any) -> pb.FileCommitted:
        """Commit slices to one file."""
        file = pb.FileCommit(inode=inode, slices=pieces, **fields)
        committed: pb.FileCommitted = self.change("CommitSlices", caller, files=[file]).files[0]
        return committed

    def lock(self, inode: int, owner: int, kind: int, start: int = 0, end: int = 2**63 - 1, **fields: Any) -> bool:
        """Take or give back a lock; return False when the call waits."""
        wait = fields.pop("wait", False)
        lock = pb.FileLock(owner=owner, kind=kind, start=start, end=end, **fields)  # type: ignore[arg-type]
        return self.change("SetLock", inode=inode, lock=lock, wait=wait) is not WAITING


def piece(position: int, length: int, block: int, offset: int = 0, whole: int = 0) -> pb.Slice:
    """Return a slice; its block ends with it unless `whole` says otherwise."""
    return pb.Slice(
        position=position,
        length=length,
        block=block,
        block_offset=offset,
        block_length=0 if block == 0 else whole or offset + length,
    )
