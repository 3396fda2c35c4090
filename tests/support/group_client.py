"""A client of a metadata group as `client` will be: finds the leader, retries under the same request id.

Whoever fails to answer is asked again later; an answer is final. What every caller did and was told is kept, for
manifests and histories.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, cast

import grpc
from blockyard.proto import errors
from blockyard.proto.common_pb2 import Caller, RequestId
from blockyard.proto.lane import AioChannel
from blockyard.proto.metadata_pb2 import (
    CreateRequest,
    DirectoryEntry,
    KeepSessionRequest,
    LookupRequest,
    OpenSessionRequest,
    ReadDirectoryRequest,
)
from blockyard.proto.metadata_pb2_grpc import MetadataStub

ROOT = 1
ME = Caller(uid=0, gid=0)
RETRY_S = 0.02
ATTEMPT_S = 2.0
"""One try; a paused server must not hold up a client that knows another address."""

AGAIN = (
    errors.NotLeader,
    errors.LeadershipLost,
    errors.Unavailable,
    errors.ConnectionLost,
    errors.DeadlineExceeded,
    errors.ShuttingDown,
    errors.Overloaded,
)


class GroupClient:
    """One session of one client, on one event loop."""

    def __init__(self, addresses: Iterable[str], name: str = "test", deadline_s: float = 30.0) -> None:
        self.addresses = list(addresses)
        self.name = name
        self.deadline_s = deadline_s
        self.session = 0
        self.retries = 0
        self._channels: dict[str, AioChannel] = {}
        self._leader = self.addresses[0]
        self._sequences = itertools.count(1)
        self._open: set[int] = set()

    async def __aenter__(self) -> "GroupClient":
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self, term_ms: int = 60_000) -> int:
        """Open a session, the same one however often it takes."""
        request = OpenSessionRequest(client=self.name, nonce=random.SystemRandom().getrandbits(63) | 1, term_ms=term_ms)
        self.session = (await self._somewhere("OpenSession", request)).session
        return self.session

    async def close(self) -> None:
        """Close the connections; the session ends by itself."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    def stub(self, address: str) -> Any:
        """Return a stub of one member's Metadata service."""
        if address not in self._channels:
            self._channels[address] = AioChannel(address, timeout_s=ATTEMPT_S, connect_timeout_s=0.5)
        return MetadataStub(cast(grpc.Channel, self._channels[address]))

    # ------------------------------------------------------------------------------------------ calls

    async def change(self, method: str, request: Any, attempts: int | None = None) -> Any:
        """Carry out a change once; raise what the group answered, or DeadlineExceeded when nobody answers."""
        sequence = next(self._sequences)
        self._open.add(sequence)
        request.caller.CopyFrom(ME) if not request.HasField("caller") else None
        request.request.CopyFrom(RequestId(session=self.session, sequence=sequence, answered_below=min(self._open)))
        reply = await self._somewhere(method, request)
        self._open.discard(sequence)  # after an error nobody answered, it stays open for good
        return reply

    async def read(self, method: str, request: Any, address: str | None = None) -> Any:
        """Read from the leader, or from the member at `address` alone."""
        request.caller.CopyFrom(ME)
        if address is None:
            return await self._somewhere(method, request)
        return await getattr(self.stub(address), method)(request)

    async def _somewhere(self, method: str, request: Any) -> Any:
        deadline = time.monotonic() + self.deadline_s
        others = itertools.cycle(self.addresses)
        while True:
            address = self._leader
            try:
                return await getattr(self.stub(address), method)(request)
            except AGAIN as error:
                self.retries += 1
                if time.monotonic() > deadline:
                    raise errors.DeadlineExceeded(
                        f"nobody answered {method} in {self.deadline_s} s: {error}"
                    ) from error
                if error.leader is not None and error.leader.lane_port:
                    self._leader = f"{error.leader.host}:{error.leader.lane_port}"
                elif not isinstance(error, errors.Overloaded) and self._leader == address:
                    self._leader = next(each for each in others if each != address)
            except errors.BlockyardError:
                if (sequence := request.request.sequence if hasattr(request, "request") else 0) != 0:
                    self._open.discard(sequence)
                raise
            await asyncio.sleep(RETRY_S)  # not to find out when something is done, but to leave the servers in peace

    # ------------------------------------------------------------------------------------------ in short

    async def create(self, name: str, parent: int = ROOT, exclusive: bool = True) -> int:
        """Make a file; return its inode."""
        request = CreateRequest(parent=parent, name=name.encode(), mode=0o644, exclusive=exclusive)
        return int((await self.change("Create", request)).attributes.inode)

    async def lookup(self, name: str, parent: int = ROOT, address: str | None = None) -> int:
        """Return the inode of a name. Raises NotFound."""
        reply = await self.read("Lookup", LookupRequest(parent=parent, name=name.encode()), address)
        return int(reply.attributes.inode)

    async def list(self, parent: int = ROOT, address: str | None = None) -> list[DirectoryEntry]:
        """Return a directory's entries, page by page."""
        entries: list[DirectoryEntry] = []
        while True:
            after = entries[-1].cookie if entries else 0
            page = await self.read("ReadDirectory", ReadDirectoryRequest(inode=parent, after=after), address)
            entries += page.entries
            if page.end:
                return entries

    async def keep(self) -> None:
        """Say that the session lives."""
        await self._somewhere("KeepSession", KeepSessionRequest(session=self.session))
