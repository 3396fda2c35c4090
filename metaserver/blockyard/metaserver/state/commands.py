"""What the log's commands are: method ids, the types of their requests and replies, and batches as bytes.

A command is named by the id that the lane gives its method: CRC32C of the full method path. Commands that only the
group itself makes have paths under `/blockyard.v1.Internal/`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from blockyard.proto import internal_pb2, metadata_pb2
from blockyard.proto.common_pb2 import Empty
from blockyard.proto.options_pb2 import EFFECT_CHANGE, effect
from blockyard.proto.raft_pb2 import CommandBatch
from crc32c import crc32c
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Command: TypeAlias = tuple[int, Message, Sequence[int]]
"""A method id, its request, and the whole numbers that the leader chose for it."""

METADATA: Final = "/blockyard.v1.Metadata/"
INTERNAL: Final = "/blockyard.v1.Internal/"


class CommandKind(NamedTuple):
    """What is known of a method."""

    path: str
    request: type[Message]
    reply: type[Message]


class Entry(NamedTuple):
    """A decoded `CommandBatch`."""

    time_ns: int
    session_clock_ms: int
    commands: list[Command]


def method_id(path: str) -> int:
    """Return the id of a full method path such as `/blockyard.v1.Metadata/Create`."""
    return crc32c(path.encode())


class Catalogue:
    """The methods that may stand in a log."""

    def __init__(self, kinds: Iterable[CommandKind]) -> None:
        self.kinds: dict[int, CommandKind] = {}
        for kind in kinds:
            self.add(kind)

    def add(self, kind: CommandKind) -> int:
        """Add a method; return its id. Two paths with one id would be a broken contract."""
        number = method_id(kind.path)
        if self.kinds.setdefault(number, kind).path != kind.path:
            raise AssertionError(f"{kind.path} and {self.kinds[number].path} have one method id")
        return number

    def decode(self, data: bytes) -> Entry:
        """Parse a `CommandBatch`. Raises LookupError on a method that this version does not know.

        A member that meets such a command is older than its leader and must stop: it cannot agree on the outcome.
        """
        batch = CommandBatch.FromString(data)
        commands: list[Command] = []
        for command in batch.commands:
            kind = self.kinds.get(command.method)
            if kind is None:
                raise LookupError(f"command {command.method:#010x} is not known here: upgrade this member")
            commands.append((command.method, kind.request.FromString(command.request), command.inputs))
        return Entry(batch.time_ns, batch.session_clock_ms, commands)


def encode(time_ns: int, session_clock_ms: int, commands: Iterable[tuple[int, bytes, Sequence[int]]]) -> bytes:
    """Return a `CommandBatch` of already serialized requests as bytes."""
    batch = CommandBatch(time_ns=time_ns, session_clock_ms=session_clock_ms)
    add = batch.commands.add
    for method, request, inputs in commands:
        command = add()
        command.method = method
        command.request = request
        if inputs:
            command.inputs.extend(inputs)
    return batch.SerializeToString()


def catalogue() -> Catalogue:
    """Return the namespace's methods: every change of the Metadata service, and the internal commands."""
    service = metadata_pb2.DESCRIPTOR.services_by_name["Metadata"]
    option: Any = effect
    kinds = [
        CommandKind(
            f"/{service.full_name}/{method.name}",
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
        )
        for method in service.methods
        if method.GetOptions().Extensions[option] == EFFECT_CHANGE
    ]
    kinds += [
        CommandKind(f"{INTERNAL}KeepSessions", internal_pb2.KeepSessionsRequest, Empty),
        CommandKind(f"{INTERNAL}ExpireSessions", internal_pb2.ExpireSessionsRequest, internal_pb2.ExpireSessionsReply),
        CommandKind(f"{INTERNAL}CancelLock", internal_pb2.CancelLockRequest, internal_pb2.CancelLockReply),
        CommandKind(f"{INTERNAL}UnmarkChunk", internal_pb2.UnmarkChunkRequest, Empty),
    ]
    return Catalogue(kinds)
