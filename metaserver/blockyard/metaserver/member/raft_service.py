"""The Raft service: what the other members say to this one."""

from collections.abc import AsyncIterator
from typing import Protocol

from blockyard.metaserver.member import wire
from blockyard.metaserver.member.driver import Driver
from blockyard.metaserver.member.known_peers import KnownPeers
from blockyard.metaserver.member.peers import Peers
from blockyard.metaserver.raft import MemberId
from blockyard.proto import errors
from blockyard.proto.call import CallContext
from blockyard.proto.common_pb2 import Empty
from blockyard.proto.raft_pb2 import SnapshotPart, StepReply, StepRequest


class SnapshotReceiver(Protocol):
    """Where an incoming snapshot goes."""

    async def receive(self, parts: AsyncIterator[SnapshotPart], context: CallContext) -> None:
        """Stage a snapshot and step the message that announces it."""


class RaftService:
    """Takes messages for this member, refusing those of a foreign cluster, a copied directory or another member."""

    def __init__(self, driver: Driver, peers: Peers, known: KnownPeers, snapshots: SnapshotReceiver) -> None:
        self._driver = driver
        self._peers = peers
        self._known = known
        self._snapshots = snapshots

    def Step(self, request: StepRequest, context: CallContext) -> StepReply:
        """Take messages, and answer with what there is to say at once."""
        messages = wire.all_from_wire(request.messages)
        senders = {message.sender for message in messages}
        if len(senders) != 1:
            raise errors.MalformedRequest(f"the messages of a Step come from one member, not {sorted(senders)}")
        sender = MemberId(senders.pop())
        strays = [message.to for message in messages if message.to != self._driver.core.id]
        if strays:
            raise errors.MalformedRequest(f"messages for member {strays[0]} came to member {self._driver.core.id}")
        self._known.admit(request, sender)
        self._peers.learn(request.address_book, sender)
        answers = self._driver.step_and_answer(sender, messages)
        return self._peers.step_reply([wire.to_wire(answer) for answer in answers])

    async def SendSnapshot(self, parts: AsyncIterator[SnapshotPart], context: CallContext) -> Empty:
        """Take a snapshot; it counts only when its last part says so."""
        await self._snapshots.receive(parts, context)
        return Empty()
