"""The replicated state machine: applies the log's commands in order, each once, and answers reads.

    machine = StateMachine(store)
    applied = machine.apply(index, entry.time_ns, entry.session_clock_ms, entry.commands)
    store.write(machine.changes() + the applied index)      # one write batch, before the next entry's is
    machine.written()

Reads see what is applied, written or not. A `BlockyardError` is an outcome; any other exception out of here is a
broken invariant, and the process must stop before it writes anything.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from blockyard.metaserver.namespace import content, locks, oplog
from blockyard.metaserver.namespace.blocks import BlockLeases, EveryBlock
from blockyard.metaserver.namespace.crowded import unmark_chunk
from blockyard.metaserver.namespace.fsck import Finding, Progress, check
from blockyard.metaserver.namespace.locks import WAITING, WaitingType
from blockyard.metaserver.namespace.operations import BATCHED, CHANGES, READS, Operation
from blockyard.metaserver.namespace.sessions import Answer, Session, Sessions
from blockyard.metaserver.namespace.state import INODES, State
from blockyard.metaserver.namespace.validation import NAME_BYTES_MAX, check_of, shape
from blockyard.metaserver.state.commands import (
    INTERNAL,
    METADATA,
    Catalogue,
    Command,
    CommandKind,
    catalogue,
    method_id,
)
from blockyard.metaserver.state.hash import state_hash
from blockyard.metaserver.state.transaction import KeyValueStore, WriteBatch
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import ACTOR_CALLER, Caller, Empty, ErrorDetail, RequestId
from blockyard.proto.errors import BlockyardError, InvalidArgument, from_detail, to_detail
from google.protobuf.message import Message

Outcome: TypeAlias = Message | BlockyardError | WaitingType
"""What became of a command: its reply, its refusal, or WAITING when the answer comes later as a `Grant`."""

_NOBODY: Final = Caller()
_BATCH: Final = method_id(f"{METADATA}Batch")
_SET_LOCK: Final = method_id(f"{METADATA}SetLock")


class Grant(NamedTuple):
    """The answer to a SetLock that waited."""

    session: int
    sequence: int
    outcome: Message | BlockyardError


@dataclass(slots=True)
class Applied:
    """What applying an entry came to."""

    outcomes: list[Outcome] = field(default_factory=list)
    """One per command, in order."""
    encoded: list[bytes | None] = field(default_factory=list)
    """The same replies serialized, where that was needed anyway; a transport may send them as they are."""
    grants: list[Grant] = field(default_factory=list)
    """Answers to earlier commands that waited."""
    log: bytes = b""
    """The entry's row of the operation log; `oplog.parse` reads it. Empty when nothing was logged."""


class External(NamedTuple):
    """A command that another part of the metadata cluster carries out on the same transaction."""

    run: Callable[[State, Any, Sequence[int]], Message]
    once: bool  # the request has a RequestId and is carried out exactly once


class StateMachine:
    """The namespace, its sessions and its log of operations on one store."""

    def __init__(self, store: KeyValueStore, leases: BlockLeases | None = None, cluster: str = "") -> None:
        """`leases` says which blocks a session may use; all when None. `cluster` is what OpenSession tells clients."""
        self.state = State(store, leases or EveryBlock())
        self.sessions = Sessions(self.state)
        self.catalogue: Catalogue = catalogue()
        self.cluster = cluster
        self._external: dict[int, External] = {}
        self._records: list[bytes] = []
        self._unnumbered: dict[int, Callable[[Any], Message]] = {
            method_id(f"{METADATA}OpenSession"): self._open_session,
            method_id(f"{METADATA}CloseSession"): self.sessions.close,
            method_id(f"{INTERNAL}KeepSessions"): self.sessions.keep_alive,
            method_id(f"{INTERNAL}ExpireSessions"): self.sessions.expire,
            method_id(f"{INTERNAL}CancelLock"): lambda request: locks.cancel_lock(self.state, request),
            method_id(f"{INTERNAL}UnmarkChunk"): lambda request: unmark_chunk(
                self.state.tx, self.state.crowded, request
            ),
        }
        self._replies: dict[int, type[Message]] = {number: op.reply for number, op in CHANGES.items()}
        self._replies[_BATCH] = pb.BatchReply

    def register(self, kind: CommandKind, external: External) -> int:
        """Let another part carry out a command on this machine's transaction; return its method id."""
        number = self.catalogue.add(kind)
        self._external[number] = external
        self._replies[number] = kind.reply
        return number

    # ------------------------------------------------------------------------------------------------- changes

    def validate(self, method: int, request: Any) -> None:
        """Raise a definite error when a request must not be proposed: it could never be granted, by any state."""
        if self._is_once(method):
            number = request.request
            if number.session == 0 or number.sequence == 0:
                raise InvalidArgument("a change needs a request id: session and sequence from 1")
            if number.answered_below > number.sequence:
                raise InvalidArgument("a request that is answered already is not sent again")
        elif method not in self._unnumbered and method not in self._external:
            raise InvalidArgument(f"method {method:#010x} is no command")
        shape(request)

    def apply(self, index: int, time_ns: int, session_clock_ms: int, commands: Sequence[Command]) -> Applied:
        """Carry out an entry's commands in order; return what they came to.

        `index` is the entry's log index, `time_ns` and `session_clock_ms` its clocks. Nothing is written: see
        `changes`. A command that is refused leaves nothing but its answer.
        """
        state = self.state
        state.begin_entry(time_ns, session_clock_ms)
        applied = Applied()
        outcomes, encoded, operations = applied.outcomes, applied.encoded, CHANGES
        references = state.references
        for method, request, inputs in commands:
            references.begin()
            operation = operations.get(method)
            if operation is not None:
                outcome, data = self._once(method, request, operation)
            else:
                outcome, data = self._other(method, request, inputs)
            outcomes.append(outcome)
            encoded.append(data)
            if state.locks.ended:
                self._end_waits(applied)
        if state.doomed.known:
            content.drain(state)
        if self._records:
            applied.log = oplog.append(state, index, self._records)
            self._records = []
        state.end_entry()
        self.sessions.end_entry()
        return applied

    def changes(self) -> WriteBatch:
        """Return the rows changed since the last `written()`, to be written in one batch with the applied index."""
        return self.state.tx.changes()

    def written(self) -> None:
        """The store has what `changes` returned."""
        self.state.tx.written()

    def _once(self, method: int, request: Any, operation: Operation) -> tuple[Outcome, bytes | None]:
        """Carry out an operation of a session, unless it was answered before."""
        number: RequestId = request.request
        who: Caller = request.caller if method not in _WITHOUT_CALLER else _NOBODY
        state = self.state
        try:
            session, known = self.sessions.admit(number, method)
        except BlockyardError as error:
            return error, None
        if known is not None:
            return self._again(known)
        sequence = number.sequence
        if method == _SET_LOCK and (session.number, sequence) in state.locks.waiting:
            return WAITING, None
        state.session, state.sequence, state.subject = session.number, sequence, 0
        outcome = self._carry_out(operation, who, request)
        return self._answered(session, sequence, method, outcome)

    def _carry_out(self, operation: Operation, who: Caller, request: Any) -> Any:
        """Run one operation, all or nothing, and log it. Return its reply, refusal or WAITING."""
        state = self.state
        errno: int | None = 0
        outcome: Any
        try:
            if operation.check is not None:
                operation.check(request)
            outcome = operation.run(state, who, request)
            state.commit()
        except BlockyardError as error:
            state.rollback()
            outcome = error
            errno = error.errno
        if operation.code:
            self._log(operation, who, request, errno or 0)
        return outcome

    def _log(self, operation: Operation, who: Caller, request: Any, errno: int) -> None:
        state = self.state
        if state.written:
            code, session = operation.code, state.session
            self._records += [
                oplog.record(code, file_errno, who, session, inode, 0, b"") for inode, file_errno in state.written
            ]
            state.written.clear()
            return
        if operation.named:
            name = request.name
            record = oplog.record(
                operation.code, errno, who, state.session, state.subject, request.parent, name[:NAME_BYTES_MAX]
            )
            if operation.second:
                record += oplog.second_name(request.new_parent, request.new_name[:NAME_BYTES_MAX])
        else:
            subject = state.subject or getattr(request, "inode", 0)
            record = oplog.record(operation.code, errno, who, state.session, subject, 0, b"")
        self._records.append(record)

    def _answered(self, session: Session, sequence: int, method: int, outcome: Any) -> tuple[Outcome, bytes | None]:
        """Keep an outcome for retries; return it with its bytes."""
        if outcome is WAITING:
            return WAITING, None
        if isinstance(outcome, BlockyardError):
            if outcome.actor == ACTOR_CALLER:  # others had no effect and are worth another try
                self.sessions.keep(session, sequence, Answer(method, True, to_detail(outcome).SerializeToString()))
            return outcome, None
        data: bytes = outcome.SerializeToString()
        self.sessions.keep(session, sequence, Answer(method, False, data))
        return outcome, data

    def _again(self, answer: Answer) -> tuple[Outcome, bytes | None]:
        if answer.refused:
            return from_detail(ErrorDetail.FromString(answer.payload)), None
        return self._replies[answer.method].FromString(answer.payload), answer.payload

    def _end_waits(self, applied: Applied) -> None:
        for session, sequence, error in self.state.locks.ended:
            outcome: Message | BlockyardError = error or Empty()
            known = self.sessions.known.get(session)
            if known is None:
                continue
            self._answered(known, sequence, _SET_LOCK, outcome)
            applied.grants.append(Grant(session, sequence, outcome))
        self.state.locks.ended.clear()

    # ------------------------------------------------------------------------------------------------- other commands

    def _other(self, method: int, request: Any, inputs: Sequence[int]) -> tuple[Outcome, bytes | None]:
        """Carry out a batch, a command of sessions, or one of another part."""
        if self._is_once(method):
            number = request.request
            try:
                session, known = self.sessions.admit(number, method)
            except BlockyardError as error:
                return error, None
            if known is not None:
                return self._again(known)
            self.state.session, self.state.sequence, self.state.subject = number.session, number.sequence, 0
            outcome = self._run(method, request, inputs)
            return self._answered(session, number.sequence, method, outcome)
        self.state.session = self.state.sequence = 0
        outcome = self._run(method, request, inputs)
        return outcome, None

    def _run(self, method: int, request: Any, inputs: Sequence[int]) -> Any:
        state = self.state
        outcome: Any
        try:
            check = check_of(type(request))
            if check is not None:
                check(request)
            if method == _BATCH:
                outcome = self._batch(request)
            elif method in self._external:
                outcome = self._external[method].run(state, request, inputs)
            else:
                outcome = self._unnumbered[method](request)
            state.commit()
        except BlockyardError as error:
            state.rollback()
            outcome = error
        return outcome

    def _is_once(self, method: int) -> bool:
        external = self._external.get(method)
        return method in CHANGES or method == _BATCH or (external is not None and external.once)

    def _batch(self, request: pb.BatchRequest) -> pb.BatchReply:
        """Carry out a batch's operations in order, each by itself all or nothing."""
        outcomes: list[pb.Outcome] = []
        for message in request.operations:
            field_name = message.WhichOneof("operation")
            operation = BATCHED[str(field_name)]
            inner = getattr(message, str(field_name))
            self.state.subject = 0
            who = request.caller
            outcome = self._carry_out(operation, who, inner)
            if isinstance(outcome, BlockyardError):
                outcomes.append(pb.Outcome(error=to_detail(outcome)))
                if request.stop_at_error:
                    break
            else:
                outcomes.append(pb.Outcome(**{operation.outcome: outcome}))
        return pb.BatchReply(outcomes=outcomes)

    def _open_session(self, request: pb.OpenSessionRequest) -> pb.OpenSessionReply:
        reply = self.sessions.open(request)
        reply.cluster = self.cluster
        return reply

    # ------------------------------------------------------------------------------------------------- reads

    def read(self, method: int, request: Any) -> Any:
        """Answer a read by its method id. Raises a BlockyardError."""
        operation = READS[method]
        if operation.check is not None:
            operation.check(request)
        self.state.session = 0
        return operation.run(self.state, request.caller, request)

    def read_batch(self, request: pb.BatchRequest) -> pb.BatchReply:
        """Answer a batch that only reads. Raises InvalidArgument when it would change something."""
        outcomes: list[pb.Outcome] = []
        shape(request)
        readers = set(map(id, READS.values()))
        for message in request.operations:
            field_name = str(message.WhichOneof("operation"))
            operation = BATCHED[field_name]
            if id(operation) not in readers:
                raise InvalidArgument(f"{field_name} is a change: the batch needs a request id")
            inner = getattr(message, field_name)
            try:
                if operation.check is not None:
                    operation.check(inner)
                reply = operation.run(self.state, request.caller, inner)
                outcomes.append(pb.Outcome(**{operation.outcome: reply}))
            except BlockyardError as error:
                outcomes.append(pb.Outcome(error=to_detail(error)))
                if request.stop_at_error:
                    break
        return pb.BatchReply(outcomes=outcomes)

    def check(self, progress: Progress | None = None) -> Iterator[Finding]:
        """Yield every fault of the namespace; see `fsck`."""
        return check(self.state, progress)

    def state_hash(self) -> int:
        """Return a number over the whole agreed state as it is applied, written or not."""
        self.state.tx.changes()
        return state_hash(self.state.tx)

    def filesystem(self, total_bytes: int, free_bytes: int, available_bytes: int) -> pb.StatFilesystemReply:
        """Return the file system's totals; the bytes are the cluster's to know."""
        return pb.StatFilesystemReply(
            total_bytes=total_bytes,
            free_bytes=free_bytes,
            available_bytes=available_bytes,
            inodes=self.state.counters.get(INODES) or 0,
            name_max=NAME_BYTES_MAX,
        )


_WITHOUT_CALLER: Final = frozenset((method_id(f"{METADATA}ReplaceSlices"),))
