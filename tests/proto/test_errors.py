"""The error table, row by row, and its ways over the wire, gRPC and process borders."""

import asyncio
import errno
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import grpc
import pytest
from blockyard.proto import errors
from blockyard.proto.common_pb2 import ACTOR_OPERATOR, ACTOR_UNSPECIFIED, Address, ErrorDetail
from blockyard.proto.errors import BlockyardError, Status
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

ROWS = [pytest.param(cls, id=name) for name, cls in errors.TABLE.items()]

COUSINS = {
    errno.EPERM: PermissionError,
    errno.EACCES: PermissionError,
    errno.ENOENT: FileNotFoundError,
    errno.EINTR: InterruptedError,
    errno.ECHILD: ChildProcessError,
    errno.EEXIST: FileExistsError,
    errno.ENOTDIR: NotADirectoryError,
    errno.EISDIR: IsADirectoryError,
    errno.ECONNREFUSED: ConnectionRefusedError,
    errno.ECONNRESET: ConnectionResetError,
    errno.ETIMEDOUT: TimeoutError,
    errno.EPIPE: BrokenPipeError,
}

NEEDED_BY_POSIX = [
    *("ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY", "EACCES", "EPERM", "EINVAL", "ENAMETOOLONG", "ELOOP"),
    *("EMLINK", "EXDEV", "ENOSPC", "EDQUOT", "EROFS", "EFBIG", "ENODATA", "ERANGE", "E2BIG", "EOPNOTSUPP", "EBADF"),
    *("ESTALE", "EBUSY", "EAGAIN", "EDEADLK", "EINTR", "EOVERFLOW", "ENXIO", "ENOLCK", "ETXTBSY", "EIO"),
]


def attributes(error: BlockyardError) -> tuple[object, ...]:
    return (
        type(error),
        error.kind,
        error.errno,
        error.message,
        error.subject,
        error.definite,
        error.actor,
        error.grpc_status,
        error.leader,
        error.map_epoch,
        error.retry_after_ms,
    )


def full(cls: type[BlockyardError]) -> BlockyardError:
    return cls(
        "what was found",
        "/a/b",
        definite=not cls.row.definite,
        leader=Address(host="h", lane_port=7),
        map_epoch=12,
        retry_after_ms=34,
    )


class FakeRpcError(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, bytes], ...] = ()) -> None:
        self._answer = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str:
        return self._answer[1]

    def trailing_metadata(self) -> Any:
        return self._answer[2]


@pytest.mark.parametrize("cls", ROWS)
class TestEveryRow:
    def test_names_an_errno_a_status_an_actor_and_itself(self, cls: type[BlockyardError]) -> None:
        error = cls()
        assert error.errno in errno.errorcode
        assert error.grpc_status is not Status.OK
        assert error.actor != ACTOR_UNSPECIFIED
        assert error.kind == cls.__name__
        assert error.message == cls.__doc__
        assert error.subject == ""

    def test_is_also_the_class_that_python_has_for_its_errno(self, cls: type[BlockyardError]) -> None:
        builtin = type(OSError(cls.row.errno, ""))
        if cls.row.errno in COUSINS:
            assert builtin is COUSINS[cls.row.errno]
            assert issubclass(cls, builtin)

    def test_returns_from_the_wire_as_it_was_sent(self, cls: type[BlockyardError]) -> None:
        for error in (cls(), full(cls)):
            on_the_wire = errors.to_detail(error).SerializeToString()
            assert attributes(errors.from_detail(ErrorDetail.FromString(on_the_wire))) == attributes(error)

    def test_returns_from_a_pickle_as_it_was(self, cls: type[BlockyardError]) -> None:
        assert attributes(pickle.loads(pickle.dumps(full(cls)))) == attributes(full(cls))

    def test_returns_from_grpc_by_its_metadata(self, cls: type[BlockyardError]) -> None:
        metadata = (("other", b"x"), (errors.METADATA_KEY, errors.to_detail(full(cls)).SerializeToString()))
        failed = FakeRpcError(grpc.StatusCode.UNKNOWN, "", metadata)
        assert attributes(errors.from_grpc(failed)) == attributes(full(cls))

    def test_is_itself_when_read_as_an_exception(self, cls: type[BlockyardError]) -> None:
        error = cls()
        assert errors.from_exception(error) is error


def test_every_errno_has_one_default_class_with_that_errno() -> None:
    assert set(errors.BY_ERRNO) == {cls.row.errno for cls in errors.TABLE.values()}
    for number, cls in errors.BY_ERRNO.items():
        assert cls.row.errno == number
        assert type(errors.from_errno(number)) is cls


def test_no_two_rows_say_the_same_sentence() -> None:
    sentences = [cls.__doc__ for cls in errors.TABLE.values()]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize("name", NEEDED_BY_POSIX)
def test_posix_errnos_are_in_the_table(name: str) -> None:
    assert getattr(errno, name) in errors.BY_ERRNO


def test_statuses_are_those_of_grpc() -> None:
    assert {code.name: code.value[0] for code in grpc.StatusCode} == {code.name: int(code) for code in Status}


def test_every_status_but_ok_has_a_default_class() -> None:
    assert set(errors.BY_STATUS) == set(Status) - {Status.OK}


def test_rows_are_not_added_elsewhere() -> None:
    with pytest.raises(TypeError, match="add it there"):

        class Stray(BlockyardError, errno=errno.EIO, status=Status.UNKNOWN, actor=ACTOR_OPERATOR):
            pass

    assert "Stray" not in errors.TABLE


def test_errors_cross_a_process_pool() -> None:
    work = "from blockyard.proto.errors import NotLeader, Address; raise NotLeader('m', leader=Address(host='h'))"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        failed = pool.submit(exec, work).exception(timeout=60)
    assert isinstance(failed, errors.NotLeader)
    assert attributes(failed) == attributes(errors.NotLeader("m", leader=Address(host="h")))


class TestAnUnknownKind:
    def test_is_read_by_its_errno_and_keeps_what_was_sent(self) -> None:
        sent = ErrorDetail(kind="NoSuchSnapshot", errno=errno.ENOENT, grpc_status=Status.NOT_FOUND, definite=False)
        error = errors.from_detail(sent)
        assert isinstance(error, errors.NotFound)
        assert error.kind == "NoSuchSnapshot"
        assert not error.definite
        assert errors.to_detail(error).kind == "NoSuchSnapshot"

    def test_is_read_by_its_status_when_the_errno_is_unknown_too(self) -> None:
        error = errors.from_detail(
            ErrorDetail(kind="Odd", errno=errno.EUCLEAN, grpc_status=Status.PERMISSION_DENIED, definite=True)
        )
        assert isinstance(error, errors.PermissionDenied)
        assert error.errno == errno.EUCLEAN
        assert error.definite

    @pytest.mark.parametrize("number", [0, -1, 4096])
    @pytest.mark.parametrize("status", [0, 17, -1])
    def test_without_errno_and_status_is_unrecognised(self, number: int, status: int) -> None:
        error = errors.from_detail(ErrorDetail(kind="Odd", errno=number, grpc_status=status))
        assert isinstance(error, errors.Unrecognised)
        assert error.errno == errno.EREMOTEIO
        assert error.grpc_status is Status.UNKNOWN
        assert not error.definite

    def test_of_a_known_errno_survives_a_pickle(self) -> None:
        error = errors.from_detail(ErrorDetail(kind="Odd", errno=errno.EUCLEAN, grpc_status=3, actor=ACTOR_OPERATOR))
        assert attributes(pickle.loads(pickle.dumps(error))) == attributes(error)


@given(
    st.builds(
        ErrorDetail,
        kind=st.text(max_size=20) | st.sampled_from(list(errors.TABLE)),
        errno=st.integers(-(2**31), 2**31 - 1),
        grpc_status=st.integers(-(2**31), 2**31 - 1),
        definite=st.booleans(),
        message=st.text(),
        subject=st.text(),
        map_epoch=st.integers(0, 2**64 - 1),
        retry_after_ms=st.integers(0, 2**32 - 1),
    )
)
def test_any_detail_is_read_and_reading_it_again_changes_nothing(detail: ErrorDetail) -> None:
    once = errors.from_detail(detail)
    again = errors.from_detail(errors.to_detail(once))
    assert attributes(once) == attributes(again)
    assert once.definite == detail.definite


def test_file_names_that_are_not_utf8_travel_as_visible_escapes() -> None:
    error = errors.NotFound(subject=os.fsdecode(b"/caf\xe9"))
    assert errors.from_detail(errors.to_detail(error)).subject == "/caf\\udce9"


class TestFromGrpc:
    @pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
    def test_a_bare_status_is_read_by_its_default_class(self, code: grpc.StatusCode) -> None:
        error = errors.from_grpc(FakeRpcError(code, "said a proxy"))
        assert type(error) is errors.BY_STATUS[Status[code.name]]
        assert error.message == "said a proxy"

    def test_a_connection_that_was_never_made_is_definite(self) -> None:
        text = "failed to connect to all addresses; last error: UNKNOWN: refused"
        error = errors.from_grpc(FakeRpcError(grpc.StatusCode.UNAVAILABLE, text))
        assert isinstance(error, errors.Unavailable)
        assert error.definite

    def test_a_connection_that_broke_is_indefinite(self) -> None:
        error = errors.from_grpc(FakeRpcError(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
        assert isinstance(error, errors.ConnectionLost)
        assert not error.definite

    @pytest.mark.parametrize(
        ("text", "definite"),
        [
            ("SERVER: Received message larger than max (5 vs. 4)", True),
            ("CLIENT: Sent message larger than max (5 vs. 4)", True),
            ("CLIENT: Received message larger than max (5 vs. 4)", False),
            ("Stream removed (CLIENT: Received message larger than max (5 vs. 4))", False),
        ],
    )
    def test_a_message_over_the_limit_is_definite_unless_it_was_the_answer(self, text: str, definite: bool) -> None:
        error = errors.from_grpc(FakeRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, text))
        assert isinstance(error, errors.TooLarge)
        assert error.definite is definite

    def test_metadata_that_cannot_be_parsed_leaves_the_status(self) -> None:
        metadata = ((errors.METADATA_KEY, b"\xff\xff"),)
        assert isinstance(errors.from_grpc(FakeRpcError(grpc.StatusCode.NOT_FOUND, "gone", metadata)), errors.NotFound)


class TestFromException:
    @pytest.mark.parametrize("number", sorted(errno.errorcode))
    def test_an_oserror_is_read_by_its_errno_and_keeps_it(self, number: int) -> None:
        error = errors.from_exception(OSError(number, os.strerror(number), "/f"))
        assert type(error) is errors.BY_ERRNO.get(number, errors.Unrecognised)
        assert (error.errno, error.message, error.subject) == (number, os.strerror(number), "/f")

    @pytest.mark.parametrize(
        ("raised", "expected"),
        [
            (DecodeError("bad"), errors.MalformedRequest),
            (TimeoutError(), errors.DeadlineExceeded),
            (asyncio.CancelledError(), errors.Cancelled),
            (asyncio.IncompleteReadError(b"", 4), errors.ConnectionLost),
            (ConnectionResetError(), errors.ConnectionLost),
            (MemoryError(), errors.OutOfMemory),
            (OSError("without errno"), errors.InternalError),
        ],
    )
    def test_expected_exceptions_have_a_row(self, raised: BaseException, expected: type[BlockyardError]) -> None:
        assert type(errors.from_exception(raised)) is expected

    def test_an_unexpected_exception_shows_its_class_and_not_its_text(self) -> None:
        error = errors.from_exception(KeyError("secret"))
        assert isinstance(error, errors.InternalError)
        assert "KeyError" in error.message
        assert "secret" not in str(error)
