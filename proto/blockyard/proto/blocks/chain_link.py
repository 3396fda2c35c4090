"""Carries out what a `ChainCore` decides: one stream to the successor, and after its loss one to the next."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from blockyard.proto import errors, logs
from blockyard.proto.blocks.chain import Abort, Action, Actions, Append, ChainCore, Open, Patience, Seal, State
from blockyard.proto.blocks.channels import Channels
from blockyard.proto.blocks.pages import Buffer
from blockyard.proto.blocks.refusals import is_refusal
from blockyard.proto.common_pb2 import Empty
from blockyard.proto.lane.stream import Stream
from blockyard.proto.storage_pb2 import (
    ChainNode,
    PageChecksums,
    WriteBlockReply,
    WriteBlockRequest,
    WriteData,
    WriteOpen,
    WriteSeal,
)

WRITE_TIMEOUT_S = 3600.0
"""A whole block, however slow its writer; a chain that makes no progress is given up long before."""
TICK_S = 0.25
"""How often whoever waits for the chain looks at the clock, and may tell others that it lives."""
_log = logs.get(__name__)


class Source(Protocol):
    """Where the bytes of the block are until every node has them."""

    def read(self, start: int, end: int) -> Buffer:
        """Return bytes `start` to `end`."""

    def checksums(self, start: int, end: int) -> Sequence[int]:
        """Return the checksums that go with them."""


class ChainLink:
    """This process's place in a chain: it holds the block, or passes it on. Used by one thread.

    `failed` in the core grows as nodes are cut out. A refusal of the request, which every node would share, is raised
    by whatever meets it; the block is then given up.
    """

    def __init__(
        self,
        channels: Channels,
        opening: WriteOpen,
        chain: Sequence[ChainNode],
        source: Source,
        *,
        holders_before: int,
        write_min: int,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`opening` is what every open says but for chain and `resume`; `chain` are the nodes that follow.

        Its `precedence` is that of this end's own predecessor.
        """
        self.core = ChainCore(
            [each.node for each in chain], holders_before=holders_before, write_min=write_min, patience=patience
        )
        self._channels = channels
        self._opening = opening
        self._nodes = {each.node: each for each in chain}
        self._source = source
        self._patience = patience
        self._is_client = not holders_before
        self._clock = clock
        self._stream: Stream | None = None
        self._opened = 0

    # ------------------------------------------------------------------------------------------ wishes

    def open(self, resume: bool = False) -> None:
        """Open the block at the successor; what it answers is taken later."""
        now = self._clock()
        self._run(self.core.join(now) if resume else self.core.open(now))

    def offer(self, end: int) -> None:
        """Bytes up to `end` can be read from the source: send them as far as the window allows."""
        self._run(self.core.offer(self._clock(), end))

    def seal(self, length: int, checksum: int) -> None:
        """Ask for the seal once everything has been sent."""
        self._run(self.core.seal(self._clock(), length, checksum))

    def abort(self) -> None:
        """Make the block disappear from the nodes of the chain, sealed or not, as far as they can be told."""
        self._run(self.core.abort())
        self.close()

    def close(self) -> None:
        """Leave the successor: an open block waits there for another predecessor, a sealed one stays."""
        stream, self._stream = self._stream, None
        if stream is not None:
            if self.core.state in (State.SEALED, State.ENDED):
                self._end_politely(stream)
            stream.cancel()

    # ------------------------------------------------------------------------------------------ waiting

    def poll(self, timeout_s: float = 0.0) -> None:
        """Take what the successor has said, waiting `timeout_s` seconds at most for the first of it."""
        while self._stream is not None and not self.core.is_done:
            try:
                if not self._stream.await_answer(timeout_s):
                    break
                reply = self._stream.receive()
                if reply is None:
                    raise errors.ConnectionLost("the successor ended the write before its seal")
            except errors.BlockyardError as error:
                self._run(self._lost(error))
                continue
            self._run(self._heard(reply))
            timeout_s = 0.0
        self._run(self.core.tick(self._clock()))

    def settle(self) -> Iterator[None]:
        """Wait until more may be sent; yields every `TICK_S`."""
        self.poll()
        while self.core.must_wait:
            self.poll(TICK_S)
            yield

    # ------------------------------------------------------------------------------------------ actions

    def _run(self, actions: Actions) -> None:
        waiting: deque[Action] = deque(actions)
        while waiting:
            try:
                waiting.extend(self._carry_out(waiting.popleft()))
            except errors.BlockyardError as error:
                waiting = deque(self._lost(error))
        if self.core.state is State.ALONE:
            self._leave()

    def _leave(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    def _carry_out(self, action: Action) -> Actions:
        match action:
            case Open(chain, resume):
                self._open(chain, resume)
            case Append(start, end):
                checksums = PageChecksums(crc32c=self._source.checksums(start, end))
                step = WriteBlockRequest(append=WriteData(offset=start, checksums=checksums))
                self._send(step, self._source.read(start, end))
            case Seal(length, checksum):
                self._send(WriteBlockRequest(seal=WriteSeal(length=length, crc32c=checksum)))
            case Abort():
                self._send_quietly(WriteBlockRequest(abort=Empty()))
        return ()

    def _open(self, chain: tuple[int, ...], resume: bool) -> None:
        opening = WriteOpen()
        opening.CopyFrom(self._opening)
        del opening.chain[:]
        opening.chain.extend(self._nodes[node] for node in chain)
        opening.resume = resume
        opening.precedence.append(self._opened)
        self._opened += 1
        opening.failed_nodes.extend(self._told_on())
        # Too few are left: this end says so itself, after a resumption by which it can make them forget the block.
        opening.write_min = min(opening.write_min, len(chain))
        self._leave()
        stub = self._channels.stub(self._nodes[chain[0]].address)
        self._stream = stub.WriteBlock(timeout=WRITE_TIMEOUT_S)
        self._stream.send_within(self._patience.of(len(chain)) / 2)  # a frame that stalls halfway waits twice
        self._send(WriteBlockRequest(open=opening))

    def _told_on(self) -> Sequence[int]:
        """A node that cut others out tells them so itself; a client, which may be gone then, has it done for it."""
        return self.core.failed if self._is_client else ()

    def _send(self, step: WriteBlockRequest, data: Buffer | None = None) -> None:
        assert self._stream is not None
        self._stream.send(step, data)

    def _send_quietly(self, step: WriteBlockRequest) -> None:
        try:
            self._send(step)
        except errors.BlockyardError:
            pass  # it is gone, and forgets the block by itself

    def _heard(self, reply: WriteBlockReply) -> Actions:
        now, core = self._clock(), self.core
        if core.state is State.OPENING:
            return core.opened(now, reply.received)
        if reply.sealed:
            return core.sealed(now, reply.nodes)
        return core.heard(now, reply.acknowledged, reply.failed_nodes)

    def _lost(self, error: errors.BlockyardError) -> Actions:
        """The successor failed; raises what is no fault of its own."""
        self._leave()
        if is_refusal(error):
            self.core.abort()
            raise error
        _log.info("chain_node_cut", nodes=self.core.chain[:1], block=self._opening.block, why=str(error))
        return self.core.lost(self._clock())

    def _end_politely(self, stream: Stream) -> None:
        """Say that nothing follows, and hear the end, so that the connection can be used again."""
        try:
            stream.done_sending()
            while stream.await_answer(TICK_S) and stream.receive() is not None:
                pass
        except errors.BlockyardError:
            pass  # nothing depends on it
