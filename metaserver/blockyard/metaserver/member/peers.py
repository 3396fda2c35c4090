"""Links to the other members: Raft's messages out, and what they answer at once back in.

One connection per peer; messages of one turn of the loop travel in one Step. A link that is down drops messages: Raft
says again what matters.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import grpc
from blockyard.metaserver import raft
from blockyard.metaserver.member import wire
from blockyard.metaserver.member.known_peers import KnownPeers
from blockyard.metaserver.raft import MemberId
from blockyard.proto import errors, logs
from blockyard.proto.lane import AioChannel
from blockyard.proto.raft_pb2 import GroupMember, RaftMessage, StepReply, StepRequest
from blockyard.proto.raft_pb2_grpc import RaftStub

STEP_TIMEOUT_S = 5.0
RECONNECT_S = 0.1
MAX_STEPS = 256
"""Steps under way to one peer; what comes beyond is dropped, as a slow network would."""
_log = logs.get(__name__)


class Peers:
    """The other members of the group, by id. The address book grows by what the others know."""

    def __init__(
        self,
        me: MemberId,
        envelope: StepRequest,
        known: KnownPeers,
        receive: Callable[[Sequence[raft.Message]], None],
        unreachable: Callable[[MemberId], None],
        learned: Callable[[], None],
        refused: Callable[[str], None],
    ) -> None:
        """`envelope` carries who this member is; `receive` steps answers, `unreachable` is told of broken links.

        `learned` is told when the address book has changed, `refused` when a peer says that this member is not who it
        was.
        """
        self.book: dict[MemberId, GroupMember] = {}
        self._me = me
        self._envelope = envelope
        self._known = known
        self._receive = receive
        self._unreachable = unreachable
        self._learned = learned
        self._refused = refused
        self._nearly_full: set[MemberId] = set()
        self._links: dict[MemberId, Link] = {}
        self.nearly_full = False  # this member's own disk

    def begin(self, members: Sequence[GroupMember]) -> None:
        """Start from what the settings or the last run knew."""
        self.book.update((MemberId(member.id), member) for member in members)

    def learn(self, members: Sequence[GroupMember], authority: MemberId) -> bool:
        """Take addresses into the book; return whether any was new.

        `authority` is the member that speaks: where it is itself it knows best; of others, only what was not known
        is taken, or two members that know different things of a third would never agree.
        """
        changed = False
        for member in members:
            id = MemberId(member.id)
            known = self.book.get(id)
            if known is None or (id == authority and known.address != member.address):
                self.book[id] = member
                if known is None or _endpoint(known) != _endpoint(member):
                    self._drop(id)
                changed = True
        if changed:
            self._learned()
            for link in self._links.values():
                link.introduce()
        return changed

    def address(self, member: MemberId) -> str | None:
        """Return a member's lane address, None when it is not in the book."""
        known = self.book.get(member)
        return None if known is None else f"{known.address.host}:{known.address.lane_port}"

    def send(self, message: raft.Message) -> None:
        """Send a message with the others until `flush`."""
        link = self._links.get(message.to)
        if link is None:
            address = self.address(message.to)
            if address is None:
                return  # nobody has told us where it is, yet
            link = self._links[message.to] = Link(self, message.to, address)
        link.send(message)

    def flush(self) -> None:
        """Let everything that was sent leave now: the disk write that follows does not hold it up."""
        for link in self._links.values():
            link.flush()

    def channel(self, member: MemberId) -> AioChannel | None:
        """Return the channel to a member, for snapshots; None when it is not in the book."""
        link = self._links.get(member)
        return None if link is None else link.channel

    async def close(self) -> None:
        """Close every link."""
        for link in list(self._links.values()):
            await link.close()

    def step_request(self, to: MemberId, messages: Sequence[RaftMessage], first: bool) -> StepRequest:
        """Return the envelope around `messages`; the first of a connection brings the address book."""
        known = self._known.of(to)
        request = StepRequest(
            cluster=self._envelope.cluster,
            incarnation=self._envelope.incarnation,
            starts=self._envelope.starts,
            messages=messages,
            receiver_incarnation=known.incarnation,
            receiver_starts=known.starts,
        )
        if first:
            request.address_book.extend(self.book[member] for member in sorted(self.book))
        return request

    def step_reply(self, messages: Sequence[RaftMessage]) -> StepReply:
        """Return the envelope around what there is to say at once."""
        return StepReply(
            messages=messages,
            incarnation=self._envelope.incarnation,
            starts=self._envelope.starts,
            nearly_full=self.nearly_full,
        )

    def received(self, member: MemberId, reply: StepReply) -> None:
        """Step what a peer answered at once. Raises StaleIncarnation when it is not who it was."""
        self._known.check(member, reply.incarnation, reply.starts)
        if reply.nearly_full:
            self._nearly_full.add(member)
        elif self._nearly_full:
            self._nearly_full.discard(member)
        if reply.messages:
            self._receive(wire.all_from_wire(reply.messages))

    @property
    def any_nearly_full(self) -> bool:
        """Whether the disk of this member, or of one that answers it, is nearly full."""
        return self.nearly_full or bool(self._nearly_full)

    def refused(self, error: errors.StaleIncarnation) -> None:
        """A peer says that this member is not who it was."""
        self._refused(error.message)

    def broken(self, member: MemberId) -> None:
        """A link broke: what was on its way is probably lost."""
        self._nearly_full.discard(member)  # nothing is written to the disk of a member that is down
        self._unreachable(member)

    def _drop(self, member: MemberId) -> None:
        link = self._links.pop(member, None)
        if link is not None:
            link.abandon()


class Link:
    """The connection to one peer."""

    def __init__(self, peers: Peers, member: MemberId, address: str) -> None:
        self.channel = AioChannel(address, timeout_s=STEP_TIMEOUT_S, connect_timeout_s=1.0, keepalive_s=2.0)
        self._peers = peers
        self._member = member
        self._step: Any = RaftStub(cast(grpc.Channel, self.channel)).Step
        self._loop = asyncio.get_running_loop()
        self._waiting: list[RaftMessage] = []
        self._under_way = 0
        self._introduced = False
        self._down_until = 0.0
        self._closing: asyncio.Task[None] | None = None
        self._complaint = ""

    def send(self, message: raft.Message) -> None:
        """Send a message with the others of this turn."""
        if self._under_way >= MAX_STEPS or self._loop.time() < self._down_until:
            return
        self._waiting.append(wire.to_wire(message))

    def introduce(self) -> None:
        """Send the address book with the next messages."""
        self._introduced = False

    def flush(self) -> None:
        """Let the messages leave, at the latest when this callback of the event loop ends."""
        if not self._waiting:
            return
        messages, self._waiting = self._waiting, []
        request = self._peers.step_request(self._member, messages, first=not self._introduced)
        self._introduced = True
        self._under_way += 1
        future: asyncio.Future[StepReply] = self._step(request)
        self.channel.flush()
        future.add_done_callback(self._answered)

    def _answered(self, future: asyncio.Future[StepReply]) -> None:
        self._under_way -= 1
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            try:
                self._peers.received(self._member, future.result())
                self._complaint = ""
            except errors.StaleIncarnation as stale:
                self._complain("peer_is_not_who_it_was", stale)
            return
        if isinstance(error, errors.Unavailable | errors.ConnectionLost | errors.DeadlineExceeded):
            self._introduced = False
            self._down_until = self._loop.time() + RECONNECT_S
            self._peers.broken(self._member)
        elif isinstance(error, errors.StaleIncarnation):
            self._peers.refused(error)
        elif isinstance(error, errors.BlockyardError):
            self._complain("peer_refuses", error)
        else:
            raise error

    def _complain(self, event: str, error: errors.BlockyardError) -> None:
        """Log it, unless it is what was logged last: it comes again with every heartbeat."""
        if self._complaint != error.message:
            self._complaint = error.message
            _log.warning(event, member=int(self._member), error=error.message)

    def abandon(self) -> None:
        """Close without waiting: the address changed."""
        self._closing = self._loop.create_task(self.channel.close())

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()


def _endpoint(member: GroupMember) -> tuple[str, int]:
    return member.address.host, member.address.lane_port
