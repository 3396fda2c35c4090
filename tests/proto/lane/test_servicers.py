"""Servicers that do what they should not: their caller hears of it, and the connection stays in step or ends."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from blockyard.proto import errors
from blockyard.proto.call import Deferred, FileRange, Reply, register
from blockyard.proto.lane import AioChannel, AioServer, Channel, Limits, frame
from blockyard.proto.probe import pattern
from blockyard.proto.probe_pb2 import ProbeReply, ProbeRequest, PullReply, PullRequest, PushReply, PushRequest
from blockyard.proto.probe_pb2_grpc import add_ProbeServicer_to_server

from tests.proto.conformance.servicers import WatchedAioProbe, WatchedThreadProbe
from tests.proto.conformance.waiting import until
from tests.proto.lane.peers import COUNT, ECHO, KINDS, PUSH, Running, connected, running, stub_of, wait_until


class Odd:
    """Methods that a test puts into a servicer."""

    def __init__(self, kind: str, **methods: Any) -> None:
        base = WatchedThreadProbe() if kind == "threads" else WatchedAioProbe()
        self.watch = base.watch
        for name in ("Echo", "Count", "Sum", "Chat", "Pull", "Push"):
            setattr(self, name, methods.get(name) or getattr(base, name))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def goes_on(stub: Any) -> bool:
    """Return whether calls of all forms still succeed."""
    return (
        len(list(stub.Count(ProbeRequest(count=3)))) == 3
        and stub.Sum(iter([ProbeRequest(body=b"x")])).index == 1
        and len(list(stub.Chat(iter([ProbeRequest()])))) == 1
    )


# ---------------------------------------------------------------------------------------------------- no answers


@pytest.mark.parametrize("answer", [None, 7, b"bytes", [ProbeReply()]], ids=repr)
def test_what_is_no_reply_is_an_internal_error(kind: str, answer: Any) -> None:
    servicer = Odd(kind, Echo=lambda request, context: answer)
    with running(kind, servicer) as server, Channel(server.address, timeout_s=5) as channel:
        stub = stub_of(channel)
        with pytest.raises(errors.InternalError):
            stub.Echo(ProbeRequest())
        with pytest.raises(errors.InternalError):
            stub.Echo(ProbeRequest())
        assert server.server.metrics.connections_total == 1
        assert goes_on(stub)


@pytest.mark.parametrize("answers", [None, 7, [7], [ProbeReply(), None]], ids=repr)
def test_what_is_no_stream_is_an_internal_error(kind: str, answers: Any) -> None:
    servicer = Odd(kind, Count=lambda request, context: answers)
    with running(kind, servicer) as server, Channel(server.address, timeout_s=5) as channel:
        stub = stub_of(channel)
        with pytest.raises(errors.InternalError):
            list(stub.Count(ProbeRequest()))
        assert stub.Echo(ProbeRequest(body=b"x")).body == b"x"


def test_a_done_callback_that_fails_harms_nobody(kind: str) -> None:
    called: list[int] = []

    def echo(request: ProbeRequest, context: Any) -> ProbeReply:
        context.add_done_callback(lambda: called.append(1 // 0))
        context.add_done_callback(lambda: called.append(1))
        return ProbeReply(body=b"x")

    with running(kind, Odd(kind, Echo=echo)) as server, Channel(server.address, timeout_s=5) as channel:
        stub = stub_of(channel)
        assert [stub.Echo(ProbeRequest()).body for _ in range(3)] == [b"x"] * 3
        assert server.server.metrics.connections_total == 1
        wait_until(lambda: called == [1] * 3, "the callbacks ran")


def test_a_deferred_answer_may_fail_or_be_a_file(kind: str) -> None:
    if kind == "threads":
        pytest.skip("only event loops take deferred answers")
    descriptor = os.memfd_create("answer")
    os.write(descriptor, b"from the file")

    def push(request: PushRequest, context: Any) -> Deferred:
        answer = Deferred()
        loop = asyncio.get_running_loop()
        if request.data == b"fail":
            loop.call_soon(answer.fail, errors.NotFound("not here"))
        elif request.data == b"odd":
            loop.call_soon(answer.resolve, 7)
        else:
            loop.call_soon(answer.resolve, Reply(PushReply(received_bytes=1), b""))
        return answer

    with running(kind, Odd(kind, Push=push)) as server, Channel(server.address, timeout_s=5) as channel:
        stub = stub_of(channel)
        with pytest.raises(errors.NotFound):
            stub.Push(PushRequest(data=b"fail"))
        with pytest.raises(errors.InternalError):
            stub.Push(PushRequest(data=b"odd"))
        assert stub.Push(PushRequest(data=b"fine")).received_bytes == 1
    os.close(descriptor)


def test_a_deferred_answer_that_is_bytes_already_leaves_as_it_is() -> None:
    def echo(request: ProbeRequest, context: Any) -> Deferred:
        answer = Deferred()
        answer.resolve(ProbeReply(body=b"message"), ProbeReply(body=request.body).SerializeToString())
        return answer

    limits = Limits(max_message_bytes=1 << 10)
    with (
        running("asyncio", Odd("asyncio", Echo=echo)) as server,
        Channel(server.address, timeout_s=5, limits=limits) as channel,
    ):
        stub = stub_of(channel)
        assert stub.Echo(ProbeRequest(body=b"bytes")).body == b"bytes"
        with pytest.raises(errors.TooLarge):
            stub.Echo(ProbeRequest(body=bytes(2 << 10)))
        assert stub.Echo(ProbeRequest(body=b"on")).body == b"on"


# ---------------------------------------------------------------------------------------------------- half a frame


@pytest.fixture
def short_file() -> Iterator[int]:
    """A file of 1,000 bytes."""
    descriptor = os.memfd_create("short")
    os.write(descriptor, pattern(1000))
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("length", [1001, 300_000])
def test_a_file_shorter_than_its_range_ends_the_call_and_no_other(kind: str, short_file: int, length: int) -> None:
    """On a thread server half of the frame has left: nothing may follow it, least of all an error."""

    def pull(request: PullRequest, context: Any) -> Iterator[Reply]:
        yield Reply(PullReply(), FileRange(short_file, 0, 1000))
        yield Reply(PullReply(offset=1000), FileRange(short_file, 0, length))

    with running(kind, Odd(kind, Pull=pull)) as server, Channel(server.address, timeout_s=5) as channel:
        stub = stub_of(channel)
        stream = stub.Pull(PullRequest())
        assert next(stream).data == pattern(1000)
        with pytest.raises(errors.ConnectionLost if kind == "threads" else errors.CorruptBlock):
            next(stream)
        assert goes_on(stub)


def test_a_file_that_cannot_be_read_ends_the_call_and_no_other(kind: str) -> None:
    """Its error must not arrive as payload."""

    def pull(request: PullRequest, context: Any) -> Iterator[Reply]:
        yield Reply(PullReply(), FileRange(999_999, 0, 100))

    with running(kind, Odd(kind, Pull=pull)) as server, Channel(server.address, timeout_s=5) as channel:
        stub = stub_of(channel)
        with pytest.raises(errors.BlockyardError) as caught:
            list(stub.Pull(PullRequest()))
        assert type(caught.value) is (errors.ConnectionLost if kind == "threads" else errors.BadHandle)
        assert goes_on(stub)


def test_a_plain_answer_from_a_file_that_cannot_be_read_ends_the_call_and_no_other(kind: str) -> None:
    async def later(request: PushRequest, context: Any) -> Reply:
        return Reply(PushReply(), FileRange(999_999, 0, 100))

    def now(request: PushRequest, context: Any) -> Reply:
        return Reply(PushReply(), FileRange(999_999, 0, 100))

    for push in [now] if kind == "threads" else [now, later]:
        with running(kind, Odd(kind, Push=push)) as server, Channel(server.address, timeout_s=5) as channel:
            stub = stub_of(channel)
            with pytest.raises(errors.BlockyardError) as caught:
                stub.Push(PushRequest())
            assert type(caught.value) is (errors.ConnectionLost if kind == "threads" else errors.BadHandle)
            assert goes_on(stub)


def test_a_servicer_that_swallows_a_broken_connection_does_not_revive_it(kind: str) -> None:
    """The peer stops within its payload; the servicer hides that and answers. What follows is not in step."""

    def push(request: PushRequest, context: Any) -> PushReply:
        try:
            context.receive_into(bytearray(context.payload_length))
        except Exception:  # noqa: BLE001, S110 - just what a servicer should not do
            pass
        return PushReply()

    with running(kind, Odd(kind, Push=push), stall_s=0.2) as server, connected(server) as peer:
        peer.sock.sendall(frame.encode(frame.CALL, 1, b"", 1 << 20, PUSH) + bytes(1000))
        said = peer.last_words()
        assert said is None or isinstance(said, errors.MalformedRequest)
        wait_until(lambda: server.open_connections == 0, "the connection has ended")
    assert server.refused == {"stalled": 1}


def test_a_servicer_that_takes_payload_into_too_short_a_buffer_fails_alone(kind: str) -> None:
    def push(request: PushRequest, context: Any) -> PushReply:
        context.receive_into(bytearray(10))
        return PushReply()

    with running(kind, Odd(kind, Push=push)) as server, Channel(server.address, timeout_s=5) as channel:
        stub = stub_of(channel)
        for _ in range(2):
            with pytest.raises(errors.TooLarge):
                stub.Push(PushRequest(), payload=bytes(500_000))
        assert server.server.metrics.connections_total == 1


def test_a_servicer_that_leaves_payload_lying_fails_nobody(kind: str) -> None:
    def push(request: PushRequest, context: Any) -> PushReply:
        return PushReply(received_bytes=context.payload_length)

    with running(kind, Odd(kind, Push=push)) as server, Channel(server.address, timeout_s=5) as channel:
        stub = stub_of(channel)
        for _ in range(3):
            assert stub.Push(PushRequest(), payload=bytes(500_000)).received_bytes == 500_000
        assert server.server.metrics.connections_total == 1


def test_a_servicer_that_answers_before_it_takes_payload_stays_in_step(kind: str) -> None:
    """A method with request payload and a stream of answers, as the contract may have one day."""

    def push(request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(3):
            yield b"%d" % number

    handler = grpc.unary_stream_rpc_method_handler(push, lambda data: PushRequest.FromString(data), bytes)
    with running(kind) as server:
        del server.server.methods._by_id[PUSH]
        server.server.add_registered_method_handlers("blockyard.v1.Probe", {"Push": handler})
        with Channel(server.address, timeout_s=5) as channel:
            call = channel.unary_stream("/blockyard.v1.Probe/Push", bytes, bytes)
            for _ in range(3):
                stream = call(b"")
                assert list(stream) == [b"0", b"1", b"2"]
        with connected(server) as peer:
            for number in (1, 2):
                peer.send(frame.CALL, number, b"", bytes(300_000), PUSH)
                kinds = [item.kind for item in (peer.receive() for _ in range(4)) if item is not None]
                assert kinds == [frame.MESSAGE] * 3 + [frame.END]


# ---------------------------------------------------------------------------------------------------- life and its end


def test_a_call_that_takes_longer_than_the_keepalive_is_no_sign_of_death(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that serves cannot answer a PING: its server shows life for it."""
    monkeypatch.setattr("blockyard.proto.lane.thread_server.PULSE_S", 0.02)
    with running(kind) as server, Channel(server.address, timeout_s=5, keepalive_s=0.1) as channel:
        stub = stub_of(channel)
        assert stub.Echo(ProbeRequest(body=b"slow", delay_ms=400)).body == b"slow"
        assert [reply.index for reply in stub.Count(ProbeRequest(count=2, delay_ms=300))] == [0, 1]


def test_a_call_that_is_cancelled_before_its_turn_never_begins(kind: str) -> None:
    begun: list[bytes] = []

    def echo(request: ProbeRequest, context: Any) -> ProbeReply:
        begun.append(request.body)
        return ProbeReply()

    with running(kind, Odd(kind, Echo=echo)) as server, connected(server) as peer:
        peer.send(frame.CALL, 1, ProbeRequest(count=3, delay_ms=30), method=COUNT)
        assert server.servicer.watch.begun.wait(5)
        peer.send(frame.CALL, 2, ProbeRequest(body=b"cancelled"), method=ECHO)
        peer.send(frame.CANCEL, 2)
        peer.send(frame.CALL, 3, ProbeRequest(body=b"asked"), method=ECHO)
        answers = iter(peer.receive, None)
        assert any(item.call == 3 for item in answers)
    assert begun == ([b"asked"] if kind == "threads" else [b"cancelled", b"asked"])


def test_later_calls_of_a_connection_have_their_turn_after_a_stream(kind: str) -> None:
    """And each with its own requests, which came while it waited."""
    with running(kind, limits=Limits(max_calls=1000)) as server, connected(server) as peer:
        peer.send(frame.CALL, 1, ProbeRequest(count=20, delay_ms=5), method=COUNT)
        for call in range(2, 200):
            peer.send(frame.CALL, call, ProbeRequest(body=b"%d" % call), method=ECHO)
        answered: list[int] = []
        while len(answered) < 198:
            item = peer.receive()
            assert item is not None
            if item.kind == frame.REPLY:
                assert ProbeReply.FromString(item.message).body == b"%d" % item.call
                answered.append(item.call)
        assert answered == list(range(2, 200))


async def test_stopping_waits_for_no_peer_that_takes_nothing() -> None:
    server: Any = AioServer()
    register(add_ProbeServicer_to_server, WatchedAioProbe(), server)
    port = await server.listen_tcp("127.0.0.1", 0)
    place = Running(server, port, None, "asyncio")

    def ask() -> None:
        with connected(place) as peer:
            for call in range(1, 100):
                peer.send(frame.CALL, call, PullRequest(total_bytes=1 << 30, piece_bytes=1 << 20), method=COUNT)
                peer.send(frame.CALL, 1000 + call, ProbeRequest(body=bytes(1 << 20)), method=ECHO)

    peer = asyncio.create_task(asyncio.to_thread(ask))
    await until(lambda: not all(each.output.writable.is_set() for each in server.connections), "answers wait")
    async with asyncio.timeout(5):
        await server.stop(0.1)
    assert server.connections == set()
    with pytest.raises((ConnectionError, TimeoutError)):
        await peer


async def test_closing_a_channel_that_connects_is_no_cancellation_of_its_callers() -> None:
    listener = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
    channel = AioChannel(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    call = asyncio.ensure_future(stub_of(channel).Echo(ProbeRequest()))
    await until(lambda: channel._connections, "the channel waits for a HELLO")
    await channel.close()
    with pytest.raises(errors.Unavailable, match="was closed"):
        await call
    listener.close()


async def test_a_stream_nobody_holds_is_given_up_though_its_requests_go_on() -> None:
    with running("threads") as server:
        async with AioChannel(server.address) as channel:
            never = asyncio.Event()

            async def requests() -> Any:
                yield ProbeRequest(body=b"one")
                await never.wait()

            stream = stub_of(channel).Chat(requests())
            assert (await anext(stream)).body == b"one"
            del stream
            await until(server.servicer.watch.over.is_set, "the server's call is over")
            assert channel._connection is not None
            assert channel._connection._calls == {}


def test_bytes_are_counted_in_both_directions(kind: str) -> None:
    with running(kind) as server, Channel(server.address, timeout_s=5) as channel:
        stub = stub_of(channel)
        stub.Push(PushRequest(), payload=bytes(500_000))
        wait_until(lambda: server.server.metrics.received_bytes > 500_000, "the request is counted")
        assert server.server.metrics.received_bytes < 501_000
        assert (
            sum(len(reply.data) for reply in stub.Pull(PullRequest(total_bytes=300_000, piece_bytes=100_000)))
            == 300_000
        )
        wait_until(lambda: server.server.metrics.sent_bytes > 300_000, "the answers are counted")
        assert server.server.metrics.sent_bytes < 301_000
