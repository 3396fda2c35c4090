"""The door answers real calls as the lane does: the same servicers, errors, deadlines and limits."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from blockyard.proto import errors, probe_pb2_grpc
from blockyard.proto.common_pb2 import Address, ErrorDetail
from blockyard.proto.door import NO_RETRY, AioChannel, Channel, DoorServer
from blockyard.proto.metrics import ProcessMetrics, TransportMetrics
from blockyard.proto.probe_pb2 import ProbeReply, ProbeRequest
from blockyard.proto.settings import Door

WAIT_S = 30


def stub_of(channel: Any) -> Any:
    """Return the generated stub over a channel of ours or of gRPC's."""
    return probe_pb2_grpc.ProbeStub(channel)


def register(servicer: Any, server: Any) -> None:
    """Register a Probe servicer as generated code does."""
    probe_pb2_grpc.add_ProbeServicer_to_server(servicer, server)


class Nothing:
    """All methods, none of which does anything."""

    def Echo(self, request: Any, context: Any) -> Any:
        raise errors.NotSupported

    Count = Sum = Chat = Pull = Push = Echo


class Plain(Nothing):
    """Plain methods: they touch memory only."""

    def Echo(self, request: ProbeRequest, context: Any) -> Any:
        if request.error:
            raise errors.TABLE[request.error](
                "what was found", "/a", leader=Address(host="b", lane_port=3), map_epoch=7, retry_after_ms=9
            )
        return ProbeReply(body=request.body)

    def Count(self, request: ProbeRequest, context: Any) -> Any:
        for index in range(request.count):
            yield ProbeReply(body=request.body, index=index)
        if request.error:
            raise errors.TABLE[request.error]("after the last")


class Coroutines(Plain):
    """Everything async, requests from async iterators."""

    async def Echo(self, request: ProbeRequest, context: Any) -> Any:
        await asyncio.sleep(0)
        return Plain.Echo(self, request, context)

    async def Count(self, request: ProbeRequest, context: Any) -> AsyncIterator[ProbeReply]:
        for reply in Plain.Count(self, request, context):
            yield reply

    async def Sum(self, requests: AsyncIterator[ProbeRequest], context: Any) -> ProbeReply:
        bodies = [request.body async for request in requests]
        return ProbeReply(index=len(bodies), total_bytes=sum(map(len, bodies)))

    async def Chat(self, requests: AsyncIterator[ProbeRequest], context: Any) -> AsyncIterator[ProbeReply]:
        async for request in requests:
            yield ProbeReply(body=request.body)


class Futures(Coroutines):
    """Plain methods that answer with a future, as a metadata leader does while Raft commits."""

    def Echo(self, request: ProbeRequest, context: Any) -> Any:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, Plain.Echo(self, request, context))
        return future


class Blocking(Plain):
    """Plain methods for worker threads: they may wait, and take requests from plain iterators."""

    def Echo(self, request: ProbeRequest, context: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        return super().Echo(request, context)

    def Sum(self, requests: Iterator[ProbeRequest], context: Any) -> ProbeReply:
        bodies = [request.body for request in requests]
        return ProbeReply(index=len(bodies), total_bytes=sum(map(len, bodies)))

    def Chat(self, requests: Iterator[ProbeRequest], context: Any) -> Iterator[ProbeReply]:
        for request in requests:
            yield ProbeReply(body=request.body)


FORMS = [
    pytest.param(Plain, False, id="plain"),
    pytest.param(Coroutines, False, id="coroutines"),
    pytest.param(Futures, False, id="futures"),
    pytest.param(Blocking, True, id="threads"),
]


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.mark.parametrize(("servicer", "threads"), FORMS)
class TestEveryFormOfServicer:
    async def test_answers_one_for_one(self, serve: Any, workers: Any, servicer: Any, threads: bool) -> None:
        served = await serve(servicer(), workers=workers if threads else None)
        assert (await served.stub.Echo(ProbeRequest(body=b"hello"))).body == b"hello"

    async def test_answers_with_a_stream(self, serve: Any, workers: Any, servicer: Any, threads: bool) -> None:
        served = await serve(servicer(), workers=workers if threads else None)
        replies = [reply.index async for reply in served.stub.Count(ProbeRequest(count=200))]
        assert replies == list(range(200))

    async def test_fails_in_the_middle_of_a_stream(
        self, serve: Any, workers: Any, servicer: Any, threads: bool
    ) -> None:
        served = await serve(servicer(), workers=workers if threads else None)
        stream = served.stub.Count(ProbeRequest(count=3, error="NotSealed"))
        assert [(await anext(stream)).index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(errors.NotSealed, match="after the last"):
            await anext(stream)

    async def test_takes_streams(self, serve: Any, workers: Any, servicer: Any, threads: bool) -> None:
        if servicer is Plain:
            pytest.skip("a stream of requests needs a servicer that can wait")
        served = await serve(servicer(), workers=workers if threads else None)
        requests = [ProbeRequest(body=b"x" * size) for size in range(50)]
        total = await served.stub.Sum(requests)
        assert (total.index, total.total_bytes) == (50, sum(range(50)))
        replies = [len(reply.body) async for reply in served.stub.Chat(requests)]
        assert replies == list(range(50))

    async def test_errors_arrive_whole(self, serve: Any, workers: Any, servicer: Any, threads: bool) -> None:
        served = await serve(servicer(), workers=workers if threads else None)
        with pytest.raises(errors.StaleEpoch, match="what was found") as failed:
            await served.stub.Echo(ProbeRequest(error="StaleEpoch"))
        error = failed.value
        assert (error.subject, error.map_epoch, error.retry_after_ms, error.definite) == ("/a", 7, 9, True)
        assert error.leader == Address(host="b", lane_port=3)


async def test_every_row_of_the_table_crosses_a_real_call(serve: Any) -> None:
    served = await serve(Plain())
    for kind, cls in errors.TABLE.items():
        with pytest.raises(cls) as failed:
            await served.stub.Echo(ProbeRequest(error=kind))
        assert type(failed.value) is cls


async def test_a_foreign_client_sees_the_status_and_the_sentence(serve: Any) -> None:
    served = await serve(Plain())
    async with grpc.aio.insecure_channel(served.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub_of(channel).Echo(ProbeRequest(error="NotEmpty"))
    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details() == "what was found"


async def test_an_error_about_a_long_path_still_reaches_foreign_clients(serve: Any) -> None:
    class LongPath(Plain):
        def Echo(self, request: ProbeRequest, context: Any) -> Any:
            raise errors.NotFound("é" * 4000, "/" + "x" * 4000)

    served = await serve(LongPath())
    async with grpc.aio.insecure_channel(served.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub_of(channel).Echo(ProbeRequest())
    assert isinstance(errors.from_grpc(failed.value), errors.NotFound)


async def test_an_unexpected_exception_shows_its_class_and_not_its_text(serve: Any) -> None:
    class Broken(Plain):
        def Echo(self, request: ProbeRequest, context: Any) -> Any:
            raise KeyError("hunter2")

    served = await serve(Broken())
    with pytest.raises(errors.InternalError, match="KeyError") as failed:
        await served.stub.Echo(ProbeRequest())
    assert "hunter2" not in str(failed.value)


async def test_a_method_that_is_not_implemented_is_said_to_be(serve: Any) -> None:
    served = await serve(Plain())
    call = served.channel.unary_unary("/blockyard.v1.Probe/None", ProbeRequest.SerializeToString, ProbeReply.FromString)
    with pytest.raises(errors.UnknownMethod):
        await call(ProbeRequest())


async def test_bytes_that_are_no_message_are_refused(serve: Any) -> None:
    metrics = TransportMetrics("grpc", "server")
    served = await serve(Plain(), metrics=metrics)
    call = served.channel.unary_unary("/blockyard.v1.Probe/Echo", bytes, ProbeReply.FromString)
    with pytest.raises(errors.MalformedRequest):
        await call(b"\xff\xff\xff")
    assert metrics.refused_frames == {"malformed": 1}


async def test_a_reply_that_is_no_message_is_refused(serve: Any) -> None:
    served = await serve(Plain())
    call = served.channel.unary_unary(
        "/blockyard.v1.Probe/Echo", ProbeRequest.SerializeToString, ErrorDetail.FromString
    )
    with pytest.raises(errors.MalformedReply):
        await call(ProbeRequest(body=b"\xff\xff"))


class TestLimits:
    SMALL = Door(message_limit_bytes=1000)

    async def test_a_request_over_the_limit_did_not_happen(self, serve: Any) -> None:
        served = await serve(Plain(), settings=self.SMALL)
        with pytest.raises(errors.TooLarge) as failed:
            await served.stub.Echo(ProbeRequest(body=bytes(2000)))
        assert failed.value.definite

    async def test_a_reply_over_the_limit_may_have_happened(self, serve: Any) -> None:
        class Large(Plain):
            def Echo(self, request: ProbeRequest, context: Any) -> Any:
                return ProbeReply(body=bytes(2000))

        served = await serve(Large(), settings=self.SMALL)
        with pytest.raises(errors.TooLarge, match="over the limit of 1,000") as failed:
            await served.stub.Echo(ProbeRequest())
        assert not failed.value.definite

    async def test_calls_over_the_limit_are_overload(self, serve: Any) -> None:
        began, go_on = asyncio.Event(), asyncio.Event()

        class Waiting(Plain):
            async def Echo(self, request: ProbeRequest, context: Any) -> Any:
                began.set()
                await go_on.wait()
                return ProbeReply()

        served = await serve(Waiting(), in_flight_limit=1)
        first = asyncio.create_task(served.stub.Echo(ProbeRequest()))
        await asyncio.wait_for(began.wait(), WAIT_S)
        with pytest.raises(errors.Overloaded):
            await served.stub.Echo(ProbeRequest())
        go_on.set()
        await asyncio.wait_for(first, WAIT_S)


class Hanging(Plain):
    """Never answers; says when it began and when it was over."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.over = asyncio.Event()
        self.remaining: float | None = None
        self.context: Any = None

    async def Echo(self, request: ProbeRequest, context: Any) -> Any:
        self.context = context
        self.remaining = context.time_remaining()
        context.add_done_callback(self.over.set)
        self.began.set()
        await asyncio.Event().wait()


class TestDeadlines:
    async def test_the_servicer_knows_the_callers_deadline_and_ends_with_it(self, serve: Any) -> None:
        servicer = Hanging()
        served = await serve(servicer)
        with pytest.raises(errors.DeadlineExceeded) as failed:
            await served.stub.Echo(ProbeRequest(), timeout=0.2)
        assert not failed.value.definite
        await asyncio.wait_for(servicer.over.wait(), WAIT_S)
        assert servicer.remaining is not None
        assert servicer.remaining <= 0.2
        assert servicer.context.cancelled()

    async def test_a_channel_gives_every_call_a_deadline(self, serve: Any) -> None:
        servicer = Hanging()
        served = await serve(servicer)
        async with AioChannel(served.address, Door(default_deadline_ms=100)) as channel:
            with pytest.raises(errors.DeadlineExceeded):
                await stub_of(channel).Echo(ProbeRequest())

    async def test_a_caller_without_a_deadline_gets_the_servers(self, serve: Any) -> None:
        servicer = Hanging()
        served = await serve(servicer, settings=Door(default_deadline_ms=100))
        async with grpc.aio.insecure_channel(served.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub_of(channel).Echo(ProbeRequest())
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert servicer.remaining is None

    async def test_a_callback_added_after_the_end_runs_at_once(self, serve: Any) -> None:
        servicer = Hanging()
        served = await serve(servicer)
        with pytest.raises(errors.DeadlineExceeded):
            await served.stub.Echo(ProbeRequest(), timeout=0.1)
        await asyncio.wait_for(servicer.over.wait(), WAIT_S)
        ran: list[bool] = []
        servicer.context.add_done_callback(lambda: ran.append(True))
        assert ran == [True]


class Listening(Coroutines):
    """Says how its request stream ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def Sum(self, requests: AsyncIterator[ProbeRequest], context: Any) -> ProbeReply:
        try:
            async for _ in requests:
                self.began.set()
        except BaseException as error:
            self.ended.set_result(type(error))
            raise
        self.ended.set_result(None)
        return ProbeReply()


class BlockingListening(Blocking):
    """The same on a worker thread."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Any] = self.loop.create_future()

    def Sum(self, requests: Iterator[ProbeRequest], context: Any) -> ProbeReply:
        how: Any = None
        try:
            for _ in requests:
                self.loop.call_soon_threadsafe(self.began.set)
        except errors.BlockyardError as error:
            how = type(error)
        self.loop.call_soon_threadsafe(self.ended.set_result, how)
        return ProbeReply()


@pytest.mark.parametrize("threads", [False, True])
async def test_a_request_stream_whose_caller_goes_never_looks_complete(serve: Any, workers: Any, threads: bool) -> None:
    for _ in range(10):
        servicer: Any = BlockingListening() if threads else Listening()
        served = await serve(servicer, workers=workers if threads else None)

        async def requests() -> AsyncIterator[ProbeRequest]:
            yield ProbeRequest()
            await asyncio.Event().wait()

        call = asyncio.create_task(served.stub.Sum(requests()))
        await asyncio.wait_for(servicer.began.wait(), WAIT_S)
        call.cancel()
        assert await asyncio.wait_for(servicer.ended, WAIT_S) in (asyncio.CancelledError, errors.Cancelled)


async def test_a_generator_on_a_thread_ends_when_its_caller_goes(serve: Any, workers: Any) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    class Endless(Blocking):
        def Count(self, request: ProbeRequest, context: Any) -> Iterator[ProbeReply]:
            try:
                while True:
                    yield ProbeReply()
            finally:
                loop.call_soon_threadsafe(over.set)

    served = await serve(Endless(), workers=workers)
    stream = served.stub.Count(ProbeRequest())
    await anext(stream)
    stream.cancel()
    with pytest.raises(errors.Cancelled):
        [reply async for reply in stream]
    await asyncio.wait_for(over.wait(), WAIT_S)


async def test_calls_are_counted_with_their_bytes(serve: Any) -> None:
    process = ProcessMetrics()
    served = await serve(Plain(), metrics=process.transport("grpc", "server"))
    await served.stub.Echo(ProbeRequest(body=b"12345"))
    with pytest.raises(errors.NotFound):
        await served.stub.Echo(ProbeRequest(error="NotFound"))
    labels = {"transport": "grpc", "side": "server"}
    calls = {**labels, "method": "/blockyard.v1.Probe/Echo"}
    assert process.registry.get_sample_value("blockyard_calls_total", {**calls, "outcome": "OK"}) == 1
    assert process.registry.get_sample_value("blockyard_calls_total", {**calls, "outcome": "NotFound"}) == 1
    sent = process.registry.get_sample_value("blockyard_transport_bytes_total", {**labels, "direction": "sent"})
    assert sent == ProbeReply(body=b"12345").ByteSize()


class TestAddresses:
    async def test_a_port_that_is_taken_is_an_error(self, serve: Any) -> None:
        served = await serve(Plain())
        port = int(served.address.rpartition(":")[2])
        with pytest.raises(OSError, match="cannot listen"):
            DoorServer().listen_tcp("127.0.0.1", port)

    async def test_a_unix_socket_serves_too(self, tmp_path: Path) -> None:
        server = DoorServer()
        register(Plain(), server)
        server.listen_unix(tmp_path / "door")
        await server.start()
        async with AioChannel(f"unix:{tmp_path / 'door'}") as channel:
            reply = await stub_of(channel).Echo(ProbeRequest(body=b"x"))
        assert reply.body == b"x"
        await server.stop(0)

    async def test_a_service_is_registered_once(self) -> None:
        server = DoorServer()
        register(Plain(), server)
        with pytest.raises(ValueError, match="registered already"):
            register(Plain(), server)


async def test_threads_use_the_blocking_channel(serve: Any) -> None:
    served = await serve(Coroutines())

    def calls() -> tuple[Any, ...]:
        with Channel(served.address, retry=NO_RETRY) as channel:
            stub: Any = stub_of(channel)
            with pytest.raises(errors.NotFound, match="what was found"):
                stub.Echo(ProbeRequest(error="NotFound"))
            with pytest.raises(errors.NotSealed):
                list(stub.Count(ProbeRequest(count=1, error="NotSealed")))
            requests = [ProbeRequest(body=b"abc")] * 3
            return (
                stub.Echo(ProbeRequest(body=b"x")).body,
                [reply.index for reply in stub.Count(ProbeRequest(count=3))],
                stub.Sum(iter(requests)).total_bytes,
                [reply.body for reply in stub.Chat(iter(requests))],
            )

    assert await asyncio.to_thread(calls) == (b"x", [0, 1, 2], 9, [b"abc"] * 3)
