"""One data member's state with three storage nodes, and compaction jobs that are carried out step by step.

Blocks are bytes in a dict. Commands are applied as the log would bring them. A job is driven by hand: each time it asks
for something the test decides whether that happens, and whether the job hears of it.
"""

from collections.abc import Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest
from blockyard.metaserver.compaction import policy
from blockyard.metaserver.compaction.chooser import Chooser, choose_node
from blockyard.metaserver.compaction.job import Job
from blockyard.metaserver.compaction.session import Session
from blockyard.metaserver.member.group_machine import GroupMachine, cluster, internal
from blockyard.metaserver.namespace import blocks, content, fsck, slices
from blockyard.metaserver.namespace.crowded import ChunkName
from blockyard.metaserver.namespace.slices import CHUNK_BYTES
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.commands import METADATA, encode, method_id
from blockyard.metaserver.state.transaction import MemoryStore
from blockyard.proto import cluster_pb2, internal_pb2
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import Address, Caller, RequestId
from blockyard.proto.errors import BlockyardError
from blockyard.proto.storage_pb2 import CompactChunkReply, CompactChunkRequest
from blockyard.storagenode.upkeep.compaction_plan import Rewriting
from crc32c import crc32c

NODES: Final = (1, 2, 3)
SUPERUSER: Final = Caller(uid=0, gid=0)
_CLUSTER: Final = "c" + "0" * 32


@contextmanager
def small_scale() -> Iterator[None]:
    """Let the policy think in bytes where it thinks in pages: what happens with megabytes happens with hundreds."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (slices, fsck, policy):
            patch.setattr(module, "CROWDED_PIECES", 8)
        patch.setattr(slices, "HIDDEN_SLACK_BYTES", 4)
        patch.setattr(content, "CROWDED_BYTES", 8 * slices.PIECE_BYTES)
        patch.setattr(policy, "PIECE_COST_BYTES", 16)
        patch.setattr(policy, "JOB_COST_BYTES", 64)
        yield


class Asked:
    """Something a job waits for."""

    def __init__(self, method: int, request: Any, inputs: Sequence[int] = ()) -> None:
        self.method = method
        self.request = request
        self.inputs = inputs

    def __await__(self) -> Generator["Asked", Any, Any]:
        return (yield self)


class Asking:
    """The proposer that jobs see: whoever drives the job carries out what it asks for."""

    def propose(self, method: int, request: Any, inputs: Sequence[int] = ()) -> Any:
        return Asked(method, request, inputs)


class Running:
    """A job under way."""

    def __init__(self, chunk: ChunkName, steps: Coroutine[Asked, Any, bool], session: Session) -> None:
        self.chunk = chunk
        self.session = session
        self.outcome: bool | BlockyardError | None = None
        self._steps = steps
        self.asked = steps.send(None)

    def answer(self, reply: Any) -> None:
        """Let what was asked for have come to `reply`: a message, or an error."""
        try:
            if isinstance(reply, BlockyardError):
                self.asked = self._steps.throw(reply)
            else:
                self.asked = self._steps.send(reply)
        except StopIteration as end:
            self.outcome = end.value
        except BlockyardError as error:
            self.outcome = error

    def forget(self) -> None:
        """The leader it ran on is gone."""
        self._steps.close()


class Group:
    """The state, the nodes' blocks, a client and what the leader does about crowded chunks."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.machine = GroupMachine(self.store, _CLUSTER)
        self.blocks: dict[int, bytes] = {}
        self.jobs: list[Running] = []
        self.now_s = 0.0
        self.index = 0
        self.rewritten = 0
        self.chooser = Chooser()
        self._session: Session | None = None
        self.run(internal("MakeCluster"), internal_pb2.MakeClusterRequest(
            cluster=_CLUSTER, seed=7, replicas=3, write_min=2, placement_groups=8, scatter_width=6
        ))  # fmt: skip
        for node in NODES:
            record = cluster_pb2.NodeRecord(
                name=f"n{node}", zone=f"z{node}", address=Address(host="h", lane_port=node), incarnation=node,
                capacity_bytes=1 << 40,
            )  # fmt: skip
            self.run(cluster("RegisterNode"), cluster_pb2.RegisterNodeRequest(node=record, starts=1))
        self.open_session()

    # ------------------------------------------------------------------------------------------ commands

    def run(self, method: int, request: Any, inputs: Sequence[int] = ()) -> Any:
        """Apply one command; return its reply or raise its refusal."""
        self.index += 1
        data = encode(self.index, int(self.now_s * 1000), [(method, request.SerializeToString(), inputs)])
        entry = self.machine.catalogue.decode(data)
        applied = self.machine.apply(self.index, entry.time_ns, entry.session_clock_ms, entry.commands)
        self.store.write(self.machine.changes())
        self.machine.written()
        outcome = applied.outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def open_session(self) -> None:
        """Give the client a session and many ids."""
        request = pb.OpenSessionRequest(client="test", nonce=self.index, term_ms=600_000)
        self.client = self.run(method_id(f"{METADATA}OpenSession"), request).session
        self.sequence = 0
        self._ids = [
            leased.group << 48 | leased.first_sequence + number
            for leased in self.change("LeaseBlockIds", count=20_000).ranges
            for number in range(leased.count)
        ]

    def change(self, name: str, /, **fields: Any) -> Any:
        """Make a change as the client."""
        self.sequence += 1
        number = RequestId(session=self.client, sequence=self.sequence, answered_below=self.sequence)
        if name == "LeaseBlockIds":
            request: Any = cluster_pb2.LeaseBlockIdsRequest(request=number, **fields)
            return self.run(cluster(name), request, (5,))
        request = getattr(pb, f"{name}Request")(request=number, caller=SUPERUSER, **fields)
        return self.run(method_id(METADATA + name), request)

    def write(self, inode: int, position: int, data: bytes, append: bool = False) -> None:
        """Write a block and commit it; parts on both sides of a border between chunks are slices of their own."""
        block = self._ids.pop()
        self.blocks[block] = data
        pieces, done = [], 0
        while done < len(data):
            room = CHUNK_BYTES - (position + done) % CHUNK_BYTES
            length = min(room, len(data) - done)
            pieces.append(
                pb.Slice(
                    position=position + done, length=length, block=block, block_offset=done, block_length=len(data)
                )
            )
            done += length
        commit = pb.FileCommit(inode=inode, slices=pieces, append=append)
        reply = self.change("CommitSlices", files=[commit]).files[0]
        assert not reply.HasField("error"), reply.error

    def read(self, inode: int, start: int, length: int) -> bytes:
        """Read a range as a client does."""
        request = pb.ReadSlicesRequest(caller=SUPERUSER, inode=inode, offset=start, length=length)
        reply = self.machine.read(method_id(f"{METADATA}ReadSlices"), request)
        data = bytearray(length)
        for piece in reply.slices:
            found = self.blocks[piece.block]
            assert len(found) == piece.block_length
            at = piece.position - start
            data[at : at + piece.length] = found[piece.block_offset : piece.block_offset + piece.length]
        return bytes(data[: max(0, reply.attributes.size - start)])

    def pieces(self, name: ChunkName) -> list[slices.Piece]:
        row = self.machine.tx.get(keys.chunk(*name))
        return [] if row is None else slices.parse(row)

    # ------------------------------------------------------------------------------------------ compaction

    def references(self, block: int) -> int:
        row = self.machine.tx.get(keys.block(block))
        return 0 if row is None else blocks.parse(row)[0]

    def look(self) -> int:
        """Judge every marked chunk as the leader does, and begin what is worth it; return how many jobs began."""
        names = self.machine.state.crowded.names()
        self.chooser.keep_only(dict.fromkeys(names))
        begun = 0
        for name in names:
            row = self.machine.tx.get(keys.chunk(*name))
            if row is None or self.machine.state.inodes.peek(name[0]) is None:
                continue
            verdict = self.chooser.look(name, row, self.references, self.now_s)
            if verdict.hopeless:
                request = internal_pb2.UnmarkChunkRequest(inode=name[0], chunk=name[1], row_crc32c=crc32c(row))
                self.run(internal("UnmarkChunk"), request)
            elif verdict.plan is not None:
                self._begin(name, verdict.plan)
                begun += 1
        return begun

    def _begin(self, name: ChunkName, plan: policy.Plan) -> None:
        if self._session is None or self._session.retired:
            request = pb.OpenSessionRequest(client="compaction", nonce=self.index)
            number = self.run(method_id(f"{METADATA}OpenSession"), request).session
            self._session = Session(Asking(), number)
        view = self.machine.cluster_state.view(self.machine.tx)
        node = choose_node(view, plan.pieces, {}, 1, ())
        assert node in NODES
        steps = Job(name, plan, node).run(self._session, lambda request, deadline_s: Asked(0, request), ())
        self.chooser.begun(name)
        self.jobs.append(Running(name, steps, self._session))

    def carry_out(self, asked: Asked) -> Any:
        """Do what a job asks for; return the reply or the refusal."""
        try:
            if isinstance(asked.request, CompactChunkRequest):
                return self._compact(asked.request)
            return self.run(asked.method, asked.request, asked.inputs)
        except BlockyardError as error:
            return error

    def _compact(self, request: CompactChunkRequest) -> CompactChunkReply:
        """Do what a node does."""
        rewriting = Rewriting.of(request)
        written = bytearray()
        for length, parts in rewriting.windows(16):
            window = bytearray(length)
            for part in parts:
                if part.block not in self.blocks:
                    assert self.fate(part.block) in (cluster_pb2.BLOCK_DEAD, cluster_pb2.BLOCK_UNKNOWN)
                    continue  # it died meanwhile
                found = self.blocks[part.block][part.offset : part.offset + part.length]
                assert len(found) == part.length
                window[part.at : part.at + part.length] = found
            written += window
        assert len(written) == rewriting.length
        self.blocks[rewriting.block] = bytes(written)
        self.rewritten += len(written)
        return CompactChunkReply(slices=rewriting.result())

    def answer(self, job: Running, reply: Any) -> None:
        """Let a job hear what its step came to, and note its end."""
        job.answer(reply)
        if job.outcome is not None:
            self.jobs.remove(job)
            self.chooser.ended(job.chunk, self.now_s, failed=job.outcome is not True)

    def finish(self, job: Running) -> None:
        """Carry a job out to its end."""
        while job.outcome is None:
            self.answer(job, self.carry_out(job.asked))

    def change_leader(self) -> None:
        """Another member leads: it has the rows, and nothing else."""
        for job in self.jobs:
            job.forget()
        self.jobs.clear()
        self._session = None
        self.chooser = Chooser()
        self.machine = GroupMachine(self.store, _CLUSTER)

    # ------------------------------------------------------------------------------------------ upkeep

    def pass_time(self, seconds: float) -> None:
        """Let time pass; sessions that nobody keeps end."""
        self.now_s += seconds
        self.run(internal("KeepSessions"), internal_pb2.KeepSessionsRequest(sessions=[self.client]))
        self.run(internal("ExpireSessions"), internal_pb2.ExpireSessionsRequest())
        if self._session is not None and self._session.number not in self.machine.sessions.known:
            self._session.retired = True

    def reclaim(self) -> None:
        """Every node drops what is dead."""
        for node in NODES:
            listing = cluster_pb2.ListReclaimRequest(node=node, incarnation=node, limit=100_000)
            dead = list(self.machine.cluster_state.list_reclaim(self.machine.tx, listing).blocks)
            for block in dead:
                self.blocks.pop(block, None)
            confirm = cluster_pb2.ConfirmReclaimRequest(node=node, incarnation=node, blocks=dead)
            self.run(cluster("ConfirmReclaim"), confirm)

    def fate(self, block: int) -> int:
        """Return what the metadata group says about a block."""
        request = cluster_pb2.CheckBlocksRequest(node=1, incarnation=1, blocks=[block])
        return self.machine.cluster_state.check_blocks(self.machine.tx, request).fates[0]

    def collect_orphans(self) -> None:
        """A node asks about every block, and drops those that nobody knows."""
        held = sorted(self.blocks)
        request = cluster_pb2.CheckBlocksRequest(node=1, incarnation=1, blocks=held)
        fates = self.machine.cluster_state.check_blocks(self.machine.tx, request).fates
        for block, fate in zip(held, fates, strict=True):
            if fate == cluster_pb2.BLOCK_UNKNOWN:
                del self.blocks[block]

    def referenced(self) -> dict[int, int]:
        """Return the length of every block that a slice refers to."""
        return {keys.parse_one(key): blocks.parse(row)[1] for key, row in self.machine.tx.scan_prefix(keys.BLOCK)}

    def faults(self) -> list[str]:
        found = [f"{kind} {inode}: {message}" for kind, inode, message in self.machine.check()]
        return found + list(self.machine.cluster_state.check(self.machine.tx))
