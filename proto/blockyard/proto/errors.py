"""The one table of errors: what each means, and how it looks to Python, to Linux and on the wire.

A class here is a row: its errno (what a system call returns), its gRPC status, whether it is *definite*, and who can
do something about it. Definite means that the operation did not happen; after an indefinite error it may have, and
only a retry with the same request id tells. Nothing else in Blockyard maps errors: transports, the mount and the
command line all read this table.

Where Python has a class of its own for an errno, ours is one too: `except FileNotFoundError` catches `NotFound`.

Invariants: every class is defined in this file; no two classes share a name; the first class with an errno is how a
bare errno is read; an error that crosses the wire or a pickle is equal in every attribute to the one that was raised.
Errnos are named for Linux, which is the only system the servers and the mount run on.
"""

import asyncio
import errno as e
import os
from collections.abc import Callable
from enum import IntEnum
from typing import Any, ClassVar, Final, NamedTuple

from blockyard.proto.common_pb2 import (
    ACTOR_CALLER,
    ACTOR_DEVELOPER,
    ACTOR_LIBRARY,
    ACTOR_OPERATOR,
    Actor,
    Address,
    ErrorDetail,
)
from google.protobuf.message import DecodeError as DecodeError

METADATA_KEY: Final = "blockyard-error-bin"
"""Key of gRPC's trailing metadata under which a serialized `ErrorDetail` travels."""


class Status(IntEnum):
    """gRPC's status codes by number, so that a process that speaks only the lane need not load gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Row(NamedTuple):
    """What is the same for every error of a class."""

    errno: int
    status: Status
    actor: Actor
    definite: bool


class BlockyardError(OSError):
    """Every error that Blockyard raises on purpose. Only its subclasses are raised.

    `errno`, `strerror` and `filename` are OSError's own; `message` and `subject` are other names of the last two.
    """

    row: ClassVar[Row]
    kind: str
    definite: bool
    actor: Actor
    grpc_status: Status
    leader: Address | None
    map_epoch: int
    retry_after_ms: int

    def __init_subclass__(cls, *, errno: int, status: Status, actor: Actor, definite: bool = True) -> None:
        if cls.__module__ != __name__:
            raise TypeError(f"{cls.__qualname__}: error classes are rows of {__name__}; add it there")
        cls.row = Row(errno, status, actor, definite)
        TABLE[cls.__name__] = cls
        BY_ERRNO.setdefault(errno, cls)

    def __init__(
        self,
        message: str = "",
        subject: str = "",
        *,
        definite: bool | None = None,
        leader: Address | None = None,
        map_epoch: int = 0,
        retry_after_ms: int = 0,
    ) -> None:
        """Make an error about `subject` (a path, name or id; may be empty).

        An empty `message` becomes the class's own sentence. `definite` overrides the row where the raiser knows better.
        `leader` is where the leader was last seen, `map_epoch` the epoch this process knows, `retry_after_ms` the
        smallest useful wait.
        """
        row = self.row
        super().__init__(row.errno, message or _sentence(type(self)), subject or None)
        self.kind = type(self).__name__
        self.definite = row.definite if definite is None else definite
        self.actor = row.actor
        self.grpc_status = row.status
        self.leader = leader
        self.map_epoch = map_epoch
        self.retry_after_ms = retry_after_ms

    @property
    def message(self) -> str:
        """One sentence: the thing, what was found, what to do."""
        return str(self.strerror)

    @property
    def subject(self) -> str:
        """The path, name or id the error is about; may be empty."""
        return self.filename or ""

    def __reduce__(self) -> tuple[Callable[[bytes], "BlockyardError"], tuple[bytes]]:
        return _unpickle, (to_detail(self).SerializeToString(),)


TABLE: Final[dict[str, type[BlockyardError]]] = {}
"""Every error class by its name, in the order of this file."""

BY_ERRNO: Final[dict[int, type[BlockyardError]]] = {}
"""The class that a bare errno is read as."""


# --- What POSIX knows ------------------------------------------------------------------------------------------------


class NotPermitted(BlockyardError, PermissionError, errno=e.EPERM, status=Status.PERMISSION_DENIED, actor=ACTOR_CALLER):
    """Operation not permitted"""


class NotFound(BlockyardError, FileNotFoundError, errno=e.ENOENT, status=Status.NOT_FOUND, actor=ACTOR_CALLER):
    """No such file or directory"""


class Interrupted(BlockyardError, InterruptedError, errno=e.EINTR, status=Status.CANCELLED, actor=ACTOR_CALLER):
    """A signal interrupted the wait before anything was done"""


class InputOutputError(BlockyardError, errno=e.EIO, status=Status.DATA_LOSS, actor=ACTOR_OPERATOR, definite=False):
    """A disk or device failed to read or write"""


class NoSuchOffset(BlockyardError, errno=e.ENXIO, status=Status.OUT_OF_RANGE, actor=ACTOR_CALLER):
    """No data or hole at or after this offset"""


class ArgumentTooLong(BlockyardError, errno=e.E2BIG, status=Status.INVALID_ARGUMENT, actor=ACTOR_CALLER):
    """The value is longer than the limit"""


class BadHandle(BlockyardError, errno=e.EBADF, status=Status.FAILED_PRECONDITION, actor=ACTOR_CALLER):
    """The handle is not open, or not open for this"""


class TaskFailed(BlockyardError, ChildProcessError, errno=e.ECHILD, status=Status.ABORTED, actor=ACTOR_CALLER):
    """The code of a task failed"""


class WouldBlock(BlockyardError, BlockingIOError, errno=e.EAGAIN, status=Status.ABORTED, actor=ACTOR_CALLER):
    """Another owner holds a conflicting lock"""


class OutOfMemory(BlockyardError, errno=e.ENOMEM, status=Status.RESOURCE_EXHAUSTED, actor=ACTOR_OPERATOR):
    """The process has no memory left for this"""


class PermissionDenied(
    BlockyardError, PermissionError, errno=e.EACCES, status=Status.PERMISSION_DENIED, actor=ACTOR_CALLER
):
    """Permission denied"""


class Busy(BlockyardError, errno=e.EBUSY, status=Status.FAILED_PRECONDITION, actor=ACTOR_CALLER):
    """It is in use, or another change of it has not finished"""


class Exists(BlockyardError, FileExistsError, errno=e.EEXIST, status=Status.ALREADY_EXISTS, actor=ACTOR_CALLER):
    """File exists"""


class CrossDevice(BlockyardError, errno=e.EXDEV, status=Status.INVALID_ARGUMENT, actor=ACTOR_CALLER):
    """Source and target are on different file systems"""


class NotDirectory(
    BlockyardError, NotADirectoryError, errno=e.ENOTDIR, status=Status.FAILED_PRECONDITION, actor=ACTOR_CALLER
):
    """Not a directory"""


class IsDirectory(
    BlockyardError, IsADirectoryError, errno=e.EISDIR, status=Status.FAILED_PRECONDITION, actor=ACTOR_CALLER
):
    """Is a directory"""


class InvalidArgument(BlockyardError, errno=e.EINVAL, status=Status.INVALID_ARGUMENT, actor=ACTOR_CALLER):
    """Invalid argument"""


class TooManyOpenFiles(BlockyardError, errno=e.EMFILE, status=Status.RESOURCE_EXHAUSTED, actor=ACTOR_OPERATOR):
    """The process or the session has too many open files"""


class FileBusy(BlockyardError, errno=e.ETXTBSY, status=Status.FAILED_PRECONDITION, actor=ACTOR_CALLER):
    """The file is being executed, or is open for writing"""


class FileTooBig(BlockyardError, errno=e.EFBIG, status=Status.OUT_OF_RANGE, actor=ACTOR_CALLER):
    """The file would exceed the largest size"""


class NoSpace(BlockyardError, errno=e.ENOSPC, status=Status.RESOURCE_EXHAUSTED, actor=ACTOR_OPERATOR):
    """No space left"""


class ReadOnly(BlockyardError, errno=e.EROFS, status=Status.FAILED_PRECONDITION, actor=ACTOR_CALLER):
    """The file system is mounted read-only"""


class TooManyLinks(BlockyardError, errno=e.EMLINK, status=Status.OUT_OF_RANGE, actor=ACTOR_CALLER):
    """Too many links to one inode"""


class BufferTooSmall(BlockyardError, errno=e.ERANGE, status=Status.OUT_OF_RANGE, actor=ACTOR_CALLER):
    """The result does not fit into the caller's buffer"""


class Deadlock(BlockyardError, errno=e.EDEADLK, status=Status.ABORTED, actor=ACTOR_CALLER):
    """Waiting for this lock would be a deadlock"""


class NameTooLong(BlockyardError, errno=e.ENAMETOOLONG, status=Status.INVALID_ARGUMENT, actor=ACTOR_CALLER):
    """File name too long"""


class NoLocks(BlockyardError, errno=e.ENOLCK, status=Status.RESOURCE_EXHAUSTED, actor=ACTOR_CALLER):
    """The inode or the session has too many locks"""


class NotEmpty(BlockyardError, errno=e.ENOTEMPTY, status=Status.FAILED_PRECONDITION, actor=ACTOR_CALLER):
    """Directory not empty"""


class TooManySymlinks(BlockyardError, errno=e.ELOOP, status=Status.FAILED_PRECONDITION, actor=ACTOR_CALLER):
    """Too many levels of symbolic links"""


class NoSuchAttribute(BlockyardError, errno=e.ENODATA, status=Status.NOT_FOUND, actor=ACTOR_CALLER):
    """No such extended attribute"""


class ValueOverflow(BlockyardError, errno=e.EOVERFLOW, status=Status.OUT_OF_RANGE, actor=ACTOR_CALLER):
    """The value does not fit its type"""


class NotSupported(BlockyardError, errno=e.EOPNOTSUPP, status=Status.UNIMPLEMENTED, actor=ACTOR_CALLER):
    """Operation not supported"""


class QuotaExceeded(BlockyardError, errno=e.EDQUOT, status=Status.RESOURCE_EXHAUSTED, actor=ACTOR_CALLER):
    """Quota exceeded"""


class StaleHandle(BlockyardError, errno=e.ESTALE, status=Status.NOT_FOUND, actor=ACTOR_CALLER):
    """The inode behind this handle is gone"""


# --- Calls -----------------------------------------------------------------------------------------------------------


class Unavailable(
    BlockyardError, ConnectionRefusedError, errno=e.ECONNREFUSED, status=Status.UNAVAILABLE, actor=ACTOR_LIBRARY
):
    """The server could not be reached: the request never left"""


class ConnectionLost(
    BlockyardError,
    ConnectionResetError,
    errno=e.ECONNRESET,
    status=Status.UNAVAILABLE,
    actor=ACTOR_LIBRARY,
    definite=False,
):
    """The connection broke after the request had left"""


class DeadlineExceeded(
    BlockyardError,
    TimeoutError,
    errno=e.ETIMEDOUT,
    status=Status.DEADLINE_EXCEEDED,
    actor=ACTOR_LIBRARY,
    definite=False,
):
    """No answer within the deadline"""


class Cancelled(BlockyardError, errno=e.ECANCELED, status=Status.CANCELLED, actor=ACTOR_CALLER, definite=False):
    """The caller gave up"""


class Overloaded(BlockyardError, errno=e.EAGAIN, status=Status.RESOURCE_EXHAUSTED, actor=ACTOR_LIBRARY):
    """The server has more work than it can finish in time; try later"""


class ShuttingDown(BlockyardError, errno=e.ESHUTDOWN, status=Status.UNAVAILABLE, actor=ACTOR_LIBRARY):
    """The server is stopping and takes no new work"""


class UnknownMethod(BlockyardError, errno=e.ENOSYS, status=Status.UNIMPLEMENTED, actor=ACTOR_DEVELOPER):
    """The server does not know this method"""


class MalformedRequest(BlockyardError, errno=e.EBADMSG, status=Status.INVALID_ARGUMENT, actor=ACTOR_DEVELOPER):
    """The request is not a message of its type"""


class MalformedReply(BlockyardError, errno=e.EPROTO, status=Status.INTERNAL, actor=ACTOR_DEVELOPER, definite=False):
    """The reply is not a message of its type"""


class TooLarge(BlockyardError, errno=e.EMSGSIZE, status=Status.RESOURCE_EXHAUSTED, actor=ACTOR_DEVELOPER):
    """The message is over the limit"""


class VersionMismatch(BlockyardError, errno=e.EPROTONOSUPPORT, status=Status.FAILED_PRECONDITION, actor=ACTOR_OPERATOR):
    """The two processes share no protocol version; upgrade the older one"""


class Unauthenticated(BlockyardError, errno=e.EKEYREJECTED, status=Status.UNAUTHENTICATED, actor=ACTOR_OPERATOR):
    """The caller did not prove who it is"""


class InternalError(BlockyardError, errno=e.EIO, status=Status.INTERNAL, actor=ACTOR_DEVELOPER, definite=False):
    """An invariant of the server is broken"""


class Unrecognised(BlockyardError, errno=e.EREMOTEIO, status=Status.UNKNOWN, actor=ACTOR_OPERATOR, definite=False):
    """An error that this version does not know; its errno is kept as it came"""


# --- The metadata cluster --------------------------------------------------------------------------------------------


class NotLeader(BlockyardError, errno=e.EREMOTE, status=Status.UNAVAILABLE, actor=ACTOR_LIBRARY):
    """This member does not lead; ask the leader"""


class LeadershipLost(BlockyardError, errno=e.EREMOTE, status=Status.UNAVAILABLE, actor=ACTOR_LIBRARY, definite=False):
    """This member stopped leading before the change was committed; ask the leader, with the same request id"""


class StaleEpoch(BlockyardError, errno=e.EREMCHG, status=Status.FAILED_PRECONDITION, actor=ACTOR_LIBRARY):
    """The request was planned with an older cluster map; fetch the newer one"""


class SessionExpired(BlockyardError, errno=e.EKEYEXPIRED, status=Status.FAILED_PRECONDITION, actor=ACTOR_LIBRARY):
    """The session is over: its open files and locks are gone"""


class LeaseExpired(BlockyardError, errno=e.EKEYREVOKED, status=Status.FAILED_PRECONDITION, actor=ACTOR_LIBRARY):
    """The lease is over; ask for a new one"""


class AnswerForgotten(
    BlockyardError, errno=e.ENOMSG, status=Status.FAILED_PRECONDITION, actor=ACTOR_DEVELOPER, definite=False
):
    """A retry of a request whose answer the client had allowed to be forgotten"""


class StaleIncarnation(BlockyardError, errno=e.EOWNERDEAD, status=Status.FAILED_PRECONDITION, actor=ACTOR_OPERATOR):
    """The node's disk was emptied since; it must register as a new incarnation"""


class UnknownNode(BlockyardError, errno=e.ENODEV, status=Status.NOT_FOUND, actor=ACTOR_LIBRARY):
    """The cluster does not know this node; register first"""


class ForeignCluster(BlockyardError, errno=e.ENONET, status=Status.FAILED_PRECONDITION, actor=ACTOR_OPERATOR):
    """The two processes belong to different clusters; check the addresses in the settings"""


class ReadOnlyCluster(BlockyardError, errno=e.EROFS, status=Status.RESOURCE_EXHAUSTED, actor=ACTOR_OPERATOR):
    """The cluster takes no writes because its disks are nearly full; add space or delete"""


# --- Blocks ----------------------------------------------------------------------------------------------------------


class CorruptBlock(BlockyardError, errno=e.EIO, status=Status.DATA_LOSS, actor=ACTOR_LIBRARY):
    """The bytes do not match their checksum; read another replica"""


class NoReplica(BlockyardError, errno=e.EIO, status=Status.UNAVAILABLE, actor=ACTOR_OPERATOR):
    """No node that holds the block could deliver it"""


class UnknownBlock(BlockyardError, errno=e.EIO, status=Status.NOT_FOUND, actor=ACTOR_LIBRARY):
    """This node does not hold the block; ask another holder"""


class NotSealed(BlockyardError, errno=e.EBUSY, status=Status.FAILED_PRECONDITION, actor=ACTOR_LIBRARY):
    """The block is still being written"""


class ChainBroken(
    BlockyardError,
    BrokenPipeError,
    errno=e.EPIPE,
    status=Status.UNAVAILABLE,
    actor=ACTOR_LIBRARY,
    definite=False,
):
    """A node of the write chain failed; go on from the last acknowledged offset"""


class BelowWriteMin(BlockyardError, errno=e.EHOSTDOWN, status=Status.UNAVAILABLE, actor=ACTOR_LIBRARY, definite=False):
    """Fewer nodes than write_min hold the block; write it again elsewhere"""


# --- The wire --------------------------------------------------------------------------------------------------------

BY_STATUS: Final[dict[Status, type[BlockyardError]]] = {
    Status.CANCELLED: Cancelled,
    Status.UNKNOWN: Unrecognised,
    Status.INVALID_ARGUMENT: InvalidArgument,
    Status.DEADLINE_EXCEEDED: DeadlineExceeded,
    Status.NOT_FOUND: NotFound,
    Status.ALREADY_EXISTS: Exists,
    Status.PERMISSION_DENIED: PermissionDenied,
    Status.RESOURCE_EXHAUSTED: Overloaded,
    Status.FAILED_PRECONDITION: Busy,
    Status.ABORTED: WouldBlock,
    Status.OUT_OF_RANGE: BufferTooSmall,
    Status.UNIMPLEMENTED: UnknownMethod,
    Status.INTERNAL: InternalError,
    Status.UNAVAILABLE: ConnectionLost,
    Status.DATA_LOSS: InputOutputError,
    Status.UNAUTHENTICATED: Unauthenticated,
}
"""The class that a bare status is read as: what a proxy, or gRPC itself, says without an `ErrorDetail`."""

_CALL_NEVER_LEFT: Final = ("failed to connect to all addresses", "DNS resolution failed")
_LARGEST_ERRNO: Final = 4095


def to_detail(error: BlockyardError) -> ErrorDetail:
    """Return `error` as it travels. Undecodable bytes of a file name become visible escapes."""
    return ErrorDetail(
        kind=error.kind,
        errno=error.errno,
        grpc_status=error.grpc_status,
        definite=error.definite,
        message=_printable(error.message),
        subject=_printable(error.subject),
        actor=error.actor,
        leader=error.leader,
        map_epoch=error.map_epoch,
        retry_after_ms=error.retry_after_ms,
    )


def from_detail(detail: ErrorDetail) -> BlockyardError:
    """Return the error that `detail` describes.

    A kind that this version does not know is read by its errno, then by its status, and then as `Unrecognised`; it
    keeps the kind, errno, status and actor that were sent. Whether it is definite is always as sent.
    """
    known = TABLE.get(detail.kind)
    status_sent = _status(detail.grpc_status)
    cls = known or BY_ERRNO.get(detail.errno) or BY_STATUS[status_sent]
    error = cls(
        detail.message,
        detail.subject,
        definite=detail.definite,
        leader=detail.leader if detail.HasField("leader") else None,
        map_epoch=detail.map_epoch,
        retry_after_ms=detail.retry_after_ms,
    )
    if known is None:
        error.kind = detail.kind or error.kind
        error.grpc_status = status_sent
        error.actor = detail.actor or error.actor
    if known in (None, Unrecognised) and 1 <= detail.errno <= _LARGEST_ERRNO:
        error.errno = detail.errno
    return error


def from_grpc(error: Exception) -> BlockyardError:
    """Return what a failed gRPC call (`grpc.RpcError`) means.

    Our servers say it in the trailing metadata. Without that the status decides, and a status that does not prove that
    the request never left is indefinite.
    """
    call: Any = error
    for key, value in call.trailing_metadata() or ():
        if key == METADATA_KEY:
            try:
                return from_detail(ErrorDetail.FromString(value))
            except DecodeError:
                break
    status, text = _status(call.code().value[0]), call.details() or ""
    if status is Status.UNAVAILABLE and text.startswith(_CALL_NEVER_LEFT):
        return Unavailable(text)
    if status is Status.RESOURCE_EXHAUSTED and "message larger than max" in text:
        answer_was_refused = "CLIENT: Received" in text or "SERVER: Sent" in text
        return TooLarge(text, definite=not answer_was_refused)
    return BY_STATUS[status](text)


def from_exception(error: BaseException) -> BlockyardError:
    """Return the row for any exception; a `BlockyardError` is returned as it is.

    An OSError is read by its errno, so code that touches its own disk for others translates first: its ENOENT is not
    the caller's. An exception that no row expects becomes `InternalError` with its class name and nothing else, for
    its text may hold what callers should not see.
    """
    match error:
        case BlockyardError():
            return error
        case DecodeError():
            return MalformedRequest(f"the message cannot be parsed: {error}")
        case asyncio.CancelledError():
            return Cancelled()
        case OSError(errno=int(number)):
            return _from_os_error(error, number)
        case TimeoutError():
            return DeadlineExceeded()
        case EOFError() | ConnectionError():
            return ConnectionLost()
        case MemoryError():
            return OutOfMemory()
    return InternalError(f"unexpected {type(error).__name__}; the server's log has the rest")


def from_errno(number: int, message: str = "", subject: str = "") -> BlockyardError:
    """Return the error that a bare Linux errno (1 to 4095) is read as."""
    cls = BY_ERRNO.get(number, Unrecognised)
    error = cls(message or os.strerror(number), subject)
    error.errno = number
    return error


def _from_os_error(error: OSError, number: int) -> BlockyardError:
    subject = error.filename if error.filename is not None else ""
    return from_errno(
        number, error.strerror or "", os.fsdecode(subject) if isinstance(subject, bytes) else str(subject)
    )


def _unpickle(detail: bytes) -> BlockyardError:
    return from_detail(ErrorDetail.FromString(detail))


def _status(number: int) -> Status:
    return Status(number) if 1 <= number <= 16 else Status.UNKNOWN


def _sentence(cls: type[BlockyardError]) -> str:
    return cls.__doc__ or os.strerror(cls.row.errno)


def _printable(text: str) -> str:
    """Protobuf strings are UTF-8; Python holds a file name's other bytes as lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
