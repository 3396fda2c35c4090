"""Sessions: exactly once, windows, expiry by the replicated session clock, and what ends with a session."""

from typing import Any

import pytest
from blockyard.metaserver.namespace.sessions import NONCE_MS, WINDOW
from blockyard.metaserver.state.commands import INTERNAL, METADATA, method_id
from blockyard.proto import internal_pb2 as internal
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.common_pb2 import RequestId
from blockyard.proto.errors import (
    AnswerForgotten,
    BlockyardError,
    Exists,
    InvalidArgument,
    NotFound,
    Overloaded,
    SessionExpired,
    StaleHandle,
)

from tests.metaserver.namespace.harness import ROOT, SUPERUSER, Client, World, piece


@pytest.fixture
def client() -> Client:
    return World().session()


def create(client: Client, sequence: int, name: bytes, below: int = 1) -> Any:
    """Create a file under a chosen sequence."""
    number = RequestId(session=client.number, sequence=sequence, answered_below=below)
    request = pb.CreateRequest(caller=SUPERUSER, request=number, parent=ROOT, name=name, mode=0o644, exclusive=True)
    return client.world.command(f"{METADATA}Create", request)


def test_a_retry_gets_the_same_answer_and_has_one_effect(client: Client) -> None:
    first = create(client, 1, b"f")
    assert create(client, 1, b"f") == first
    client.world.restart()
    assert create(client, 1, b"f").SerializeToString() == first.SerializeToString()
    assert len(client.world.entries_of(ROOT)) == 1


def test_a_retry_gets_the_same_answer_even_when_the_world_has_changed(client: Client) -> None:
    first = create(client, 1, b"f")
    client.sequence = 5
    client.world.command(f"{METADATA}Unlink", pb.UnlinkRequest(
        request=RequestId(session=client.number, sequence=2, answered_below=1), parent=ROOT, name=b"f"
    ))  # fmt: skip
    assert create(client, 1, b"f") == first
    assert client.world.entries_of(ROOT) == []


def test_a_refusal_is_an_answer_too(client: Client) -> None:
    create(client, 1, b"f")
    with pytest.raises(Exists) as refusal:
        create(client, 2, b"f")
    for _ in range(2):
        with pytest.raises(Exists) as again:
            create(client, 2, b"f")
        assert again.value.message == refusal.value.message
        client.world.restart()


def test_an_answer_is_forgotten_once_the_client_has_it(client: Client) -> None:
    create(client, 1, b"1")
    create(client, 2, b"2", below=2)
    create(client, 2, b"2")
    with pytest.raises(AnswerForgotten):
        create(client, 1, b"1")


def test_answers_may_come_in_any_order(client: Client) -> None:
    create(client, 3, b"3")
    create(client, 1, b"1")
    create(client, 2, b"2")
    create(client, 4, b"4", below=3)
    client.world.restart()
    first = create(client, 3, b"3")
    assert first == create(client, 3, b"3")
    assert len(client.world.entries_of(ROOT)) == 4


def test_a_request_that_says_it_is_answered_is_refused(client: Client) -> None:
    with pytest.raises(InvalidArgument):
        create(client, 1, b"f", below=2)
    assert create(client, 1, b"f")


def test_one_sequence_names_one_operation(client: Client) -> None:
    create(client, 1, b"f")
    number = RequestId(session=client.number, sequence=1)
    with pytest.raises(InvalidArgument):
        client.world.command(f"{METADATA}Unlink", pb.UnlinkRequest(request=number, parent=ROOT, name=b"f"))


def test_the_window_of_unacknowledged_answers_is_bounded_and_opens_again(client: Client) -> None:
    for sequence in range(1, WINDOW + 1):
        create(client, sequence, b"%d" % sequence)
    with pytest.raises(Overloaded):
        create(client, WINDOW + 1, b"one more")
    assert create(client, WINDOW + 1, b"one more", below=2)


def test_rows_of_answers_go_when_they_are_acknowledged(client: Client) -> None:
    for sequence in range(1, 50):
        create(client, sequence, b"%d" % sequence, below=sequence)
    client.world.write()
    assert sum(key[:1] == b"A" for key in client.world.store.rows) == 1


def test_a_nonce_repeated_within_a_minute_gives_the_same_session() -> None:
    world = World()
    first = world.session(nonce=7)
    assert world.session(nonce=7).number == first.number
    world.restart()
    world.clock_ms += NONCE_MS
    assert world.session(nonce=7).number == first.number
    world.clock_ms += 1
    assert world.session(nonce=7).number != first.number
    assert world.session(nonce=8).number != world.session(nonce=0).number != world.session(nonce=0).number


def test_a_term_is_bounded() -> None:
    world = World()
    for asked, given in ((0, 30_000), (1, 5_000), (10**9, 600_000), (7_000, 7_000)):
        reply = world.command(f"{METADATA}OpenSession", pb.OpenSessionRequest(term_ms=asked))
        assert (reply.term_ms, reply.window, reply.cluster) == (given, WINDOW, "test")


def test_a_session_expires_by_the_session_clock_and_by_nothing_else() -> None:
    world = World()
    client = world.session(term_ms=5_000)
    world.now += 10**15
    assert world.expire() == []
    world.clock_ms += 5_000
    assert world.expire() == []
    client.create(ROOT, b"f")  # every change is a sign of life
    world.clock_ms += 5_000
    world.command(f"{INTERNAL}KeepSessions", internal.KeepSessionsRequest(sessions=[client.number, 999]))
    world.clock_ms += 5_000
    assert world.expire() == []
    world.clock_ms += 1
    world.restart()
    assert world.expire() == [client.number]
    with pytest.raises(SessionExpired):
        client.create(ROOT, b"g")


def test_the_end_of_a_session_gives_up_what_it_held_open() -> None:
    world = World()
    client, other = world.session(), world.session()
    file = client.create(ROOT, b"f")
    client.commit(file, piece(0, 10, 1))
    client.open(file)
    handle = other.open(file)
    client.change("Unlink", parent=ROOT, name=b"f")
    for _ in range(2):  # the second time it is over already
        world.command(f"{METADATA}CloseSession", pb.CloseSessionRequest(session=client.number))
    assert world.attributes(file).nlink == 0
    other.change("Close", inode=file, handle=handle)
    with pytest.raises(StaleHandle):
        world.attributes(file)
    assert world.reclaimed() == {1}
    assert world.faults() == []


def test_a_batch_is_one_operation_with_one_answer(client: Client) -> None:
    operations = [
        pb.Operation(make_directory=pb.MakeDirectoryRequest(parent=ROOT, name=b"d", mode=0o755)),
        pb.Operation(unlink=pb.UnlinkRequest(parent=ROOT, name=b"nothing")),
        pb.Operation(create=pb.CreateRequest(parent=ROOT, name=b"f", mode=0o644)),
        pb.Operation(lookup=pb.LookupRequest(parent=ROOT, name=b"f")),
    ]
    request = client.request(pb.BatchRequest, operations=operations)
    reply = client.world.command(f"{METADATA}Batch", request)
    assert [outcome.WhichOneof("outcome") for outcome in reply.outcomes] == ["entry", "error", "entry", "entry"]
    assert client.world.command(f"{METADATA}Batch", request) == reply
    assert len(client.world.entries_of(ROOT)) == 2
    request = client.request(pb.BatchRequest, operations=operations, stop_at_error=True)
    assert len(client.world.command(f"{METADATA}Batch", request).outcomes) == 1
    assert client.world.faults() == []


def test_a_batch_of_reads_needs_no_request_id(client: Client) -> None:
    client.create(ROOT, b"f")
    reads = [pb.Operation(lookup=pb.LookupRequest(parent=ROOT, name=name)) for name in (b"f", b"g")]
    reply = client.world.machine.read_batch(pb.BatchRequest(operations=reads))
    assert [outcome.WhichOneof("outcome") for outcome in reply.outcomes] == ["entry", "error"]
    change = pb.Operation(unlink=pb.UnlinkRequest(parent=ROOT, name=b"f"))
    with pytest.raises(InvalidArgument):
        client.world.machine.read_batch(pb.BatchRequest(operations=[change]))


def test_what_can_never_be_granted_is_not_proposed(client: Client) -> None:
    machine = client.world.machine

    def refused(method: str, request: Any, error: type[BlockyardError]) -> None:
        with pytest.raises(error):
            machine.validate(method_id(METADATA + method), request)

    number = RequestId(session=1, sequence=1)
    refused("Create", pb.CreateRequest(name=b"f"), InvalidArgument)  # without a request id
    refused("Create", pb.CreateRequest(request=number, name=b""), NotFound)
    refused("Create", pb.CreateRequest(request=number, name=b"a/b"), InvalidArgument)
    refused("Create", pb.CreateRequest(request=number, name=b"f", mode=0o10000), InvalidArgument)
    refused(
        "Unlink",
        pb.UnlinkRequest(request=RequestId(session=1, sequence=1, answered_below=2), name=b"f"),
        InvalidArgument,
    )
    refused("Lookup", pb.LookupRequest(name=b"f"), InvalidArgument)  # no command
    refused("SetAttributes", pb.SetAttributesRequest(request=number, uid=2**32 - 1), InvalidArgument)
    machine.validate(method_id(f"{METADATA}Create"), pb.CreateRequest(request=number, name=b"f"))
