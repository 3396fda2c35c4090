"""The session that the leader leases ids of new blocks with, and swaps them in with, as any client would.

A job that fails gives its id up. The session ends with the leader, or when there is nothing to do; ids that were lost
with a leader are nobody's from then on, so the search for orphans finds blocks that were written under them.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Final, Protocol

from blockyard.metaserver.state.commands import INTERNAL, METADATA, method_id
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.call import Deferred
from blockyard.proto.common_pb2 import RequestId
from blockyard.proto.errors import BlockyardError
from blockyard.proto.internal_pb2 import AbandonBlockRequest
from google.protobuf.message import Message

CLIENT: Final = "compaction"

_OPEN: Final = method_id(f"{METADATA}OpenSession")
_CLOSE: Final = method_id(f"{METADATA}CloseSession")
_ABANDON: Final = method_id(f"{INTERNAL}AbandonBlock")


class Proposer(Protocol):
    """What agrees on commands."""

    def propose(self, method: int, request: Message, inputs: Sequence[int] = ()) -> Deferred:
        """Agree on a command and return what it came to."""
        ...


class Session:
    """One session of the leader's own."""

    def __init__(self, proposer: Proposer, number: int) -> None:
        self.number = number
        self.jobs = 0
        self.idle_rounds = 0
        self.retired = False
        """Takes no new jobs: it has ended."""
        self._proposer = proposer
        self._sequence = 0
        self._unanswered: set[int] = set()

    @classmethod
    async def open(cls, proposer: Proposer) -> "Session":
        """Register one. Raises a BlockyardError."""
        request = pb.OpenSessionRequest(client=CLIENT, nonce=secrets.randbits(64))
        return cls(proposer, (await proposer.propose(_OPEN, request)).session)

    async def change(self, method: int, request: Any, inputs: Sequence[int] = ()) -> Any:
        """Make a change under the next request id; return its reply. Raises a BlockyardError."""
        self._sequence += 1
        sequence = self._sequence
        self._unanswered.add(sequence)
        below = min(self._unanswered)
        request.request.CopyFrom(RequestId(session=self.number, sequence=sequence, answered_below=below))
        try:
            return await self._proposer.propose(method, request, inputs)
        finally:
            self._unanswered.discard(sequence)

    async def abandon(self, block: int) -> None:
        """Give a leased id up: what was written under it is dropped by its nodes, unless it was committed after all."""
        try:
            await self._proposer.propose(_ABANDON, AbandonBlockRequest(session=self.number, block=block))
        except BlockyardError:
            pass  # it becomes nobody's when the session ends, and the search for orphans finds it

    def close(self) -> None:
        """End it; should that be lost, it ends by its silence."""
        self._proposer.propose(_CLOSE, pb.CloseSessionRequest(session=self.number))
