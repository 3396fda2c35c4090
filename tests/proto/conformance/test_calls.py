"""What every transport promises of a call: its answers, its errors, its end."""

import asyncio
import gc
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto.common_pb2 import ACTOR_DEVELOPER
from blockyard.proto.lane.shared import QUIET_S
from blockyard.proto.probe_pb2 import ProbeRequest

from tests.proto.conformance.clients import Client
from tests.proto.conformance.servicers import (
    FIRST,
    LONG_MS,
    UNEXPECTED,
    WHOLE,
    PlainAioProbe,
    Watch,
    whole_error,
)
from tests.proto.conformance.transports import LIMIT_BYTES, Serving, Transport
from tests.proto.conformance.waiting import until

MORE_THAN_A_WINDOW = 300


async def all_of(answers: Any) -> list[Any]:
    """Return every answer of a stream."""
    return [answer async for answer in answers]


# ---------------------------------------------------------------------------------------------------- answers


async def test_a_request_gets_its_answer(client: Client) -> None:
    assert (await client.ask("Echo", ProbeRequest(body=b"hello"))).body == b"hello"


async def test_an_empty_request_gets_an_empty_answer(client: Client) -> None:
    assert (await client.ask("Echo", ProbeRequest())).ByteSize() == 0


async def test_an_answer_that_takes_time_comes(client: Client) -> None:
    assert (await client.ask("Echo", ProbeRequest(body=b"late", delay_ms=20))).body == b"late"


async def test_a_stream_of_answers_comes_whole_and_in_order(client: Client) -> None:
    answers = await all_of(client.stream("Count", ProbeRequest(body=b"x", count=MORE_THAN_A_WINDOW)))
    assert [answer.index for answer in answers] == list(range(MORE_THAN_A_WINDOW))


async def test_a_stream_of_no_answers_ends(client: Client) -> None:
    assert await all_of(client.stream("Count", ProbeRequest(count=0))) == []


async def test_a_stream_of_requests_arrives_whole(client: Client) -> None:
    reply = await client.ask("Sum", [ProbeRequest(body=b"ab")] * MORE_THAN_A_WINDOW)
    assert (reply.index, reply.total_bytes) == (MORE_THAN_A_WINDOW, 2 * MORE_THAN_A_WINDOW)


async def test_a_stream_of_no_requests_gets_its_answer(client: Client) -> None:
    assert (await client.ask("Sum", [])).index == 0


async def test_streams_both_ways_answer_each_for_each(client: Client) -> None:
    requests = [ProbeRequest(body=b"%d" % index) for index in range(MORE_THAN_A_WINDOW)]
    answers = await all_of(client.stream("Chat", requests))
    assert [answer.body for answer in answers] == [request.body for request in requests]


async def test_a_plain_generator_serves_a_stream_on_an_event_loop(transport: Transport, address: str) -> None:
    if transport.has_threads:
        pytest.skip("every servicer of a thread server is plain")
    async with transport.serving(PlainAioProbe(), address) as serving:
        client = transport.client(serving.address)
        answers = await all_of(client.stream("Count", ProbeRequest(count=MORE_THAN_A_WINDOW)))
        assert [answer.index for answer in answers] == list(range(MORE_THAN_A_WINDOW))
        await client.close()


async def test_a_thousand_calls_in_flight_get_their_own_answers(client: Client) -> None:
    bodies = [b"%d" % number for number in range(1000)]
    replies = await asyncio.gather(*(client.ask("Echo", ProbeRequest(body=body)) for body in bodies))
    assert [reply.body for reply in replies] == bodies


async def test_unary_calls_and_streams_share_a_channel(client: Client) -> None:
    """On a server that has one call at a time per connection, calls that came meanwhile wait their turn."""
    streams = [all_of(client.stream("Count", ProbeRequest(count=100, delay_ms=1))) for _ in range(3)]
    sums = [client.ask("Sum", [ProbeRequest(body=b"x")] * 100) for _ in range(3)]
    echoes = [client.ask("Echo", ProbeRequest(body=b"%d" % number)) for number in range(100)]
    results = await asyncio.gather(*streams, *sums, *echoes)
    assert [len(answers) for answers in results[:3]] == [100] * 3
    assert [reply.index for reply in results[3:6]] == [100] * 3
    assert [reply.body for reply in results[6:]] == [b"%d" % number for number in range(100)]


# ---------------------------------------------------------------------------------------------------- sizes


async def test_a_message_at_the_limit_goes_both_ways(client: Client) -> None:
    body = bytes(LIMIT_BYTES - 4)  # tag and length of the field take four bytes
    assert ProbeRequest(body=body).ByteSize() == LIMIT_BYTES
    assert len((await client.ask("Echo", ProbeRequest(body=body))).body) == len(body)


async def test_a_request_over_the_limit_is_too_large_and_harms_nobody(client: Client) -> None:
    with pytest.raises(errors.TooLarge):
        await client.ask("Echo", ProbeRequest(body=bytes(LIMIT_BYTES)))
    assert (await client.ask("Echo", ProbeRequest(body=b"next"))).body == b"next"


async def test_an_answer_over_the_limit_is_too_large_and_harms_nobody(client: Client) -> None:
    with pytest.raises(errors.TooLarge):
        await client.ask("Echo", ProbeRequest(count=LIMIT_BYTES + 1))
    assert (await client.ask("Echo", ProbeRequest(body=b"next"))).body == b"next"


# ---------------------------------------------------------------------------------------------------- errors


async def test_errors_of_every_class_come_as_themselves(client: Client) -> None:
    """Also those that are ConnectionErrors, which a transport must not take for its own."""
    for name, kind in errors.TABLE.items():
        with pytest.raises(errors.BlockyardError) as caught:
            await client.ask("Echo", ProbeRequest(error=name))
        assert type(caught.value) is kind
        assert errors.to_detail(caught.value) == errors.to_detail(kind(f"asked for {name}"))


async def test_an_error_keeps_every_attribute(client: Client) -> None:
    with pytest.raises(errors.NotLeader) as caught:
        await client.ask("Echo", ProbeRequest(error=WHOLE))
    assert errors.to_detail(caught.value).leader == errors.to_detail(whole_error()).leader
    for attribute in ("message", "subject", "definite", "map_epoch", "retry_after_ms"):
        assert getattr(caught.value, attribute) == getattr(whole_error(), attribute)


async def test_an_unexpected_error_is_internal_and_tells_no_secret(client: Client) -> None:
    with pytest.raises(errors.InternalError) as caught:
        await client.ask("Echo", ProbeRequest(error=UNEXPECTED))
    assert "secret" not in str(caught.value)
    assert caught.value.actor == ACTOR_DEVELOPER


async def test_an_error_comes_after_the_answers_before_it(client: Client) -> None:
    answers = client.stream("Count", ProbeRequest(count=5, error="NotSealed"))
    assert [(await anext(answers)).index for _ in range(5)] == list(range(5))
    with pytest.raises(errors.NotSealed):
        await anext(answers)


async def test_an_error_ends_a_stream_of_requests_early(client: Client) -> None:
    """The server has answered; what the caller still sends is not waited for."""
    with pytest.raises(errors.QuotaExceeded):
        await client.ask("Sum", [ProbeRequest(error=FIRST)] * 10_000)
    assert (await client.ask("Sum", [ProbeRequest(body=b"x")])).index == 1


async def test_a_caller_whose_requests_fail_hears_it_and_its_server_is_told(
    transport: Transport, client: Client, watch: Watch
) -> None:
    def requests() -> Any:
        yield ProbeRequest(body=b"one")
        assert watch.begun.wait(10)
        raise RuntimeError("no more to say")

    async def requests_of_a_loop() -> Any:
        yield ProbeRequest(body=b"one")
        await until(watch.begun.is_set, "the call begins")
        raise RuntimeError("no more to say")

    # grpc.aio says no more than that the call was cancelled
    cancelled = () if transport.is_lane else (asyncio.CancelledError,)
    with pytest.raises((errors.BlockyardError, RuntimeError, *cancelled)):
        await client.ask("Sum", requests_of_a_loop() if transport.channel == "aio" else requests())
    await until(watch.over.is_set, "the server's call is over")
    assert (await client.ask("Echo", ProbeRequest(body=b"next"))).body == b"next"


# ---------------------------------------------------------------------------------------------------- the end


async def test_a_deadline_that_passes_ends_the_call(client: Client) -> None:
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await client.ask("Echo", ProbeRequest(delay_ms=LONG_MS), timeout=0.1)
    assert not caught.value.definite


async def test_a_deadline_that_passes_ends_a_stream(client: Client, watch: Watch) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        await all_of(client.stream("Count", ProbeRequest(count=1000, delay_ms=10), timeout=0.1))
    await until(watch.over.is_set, "the server's call is over")


async def test_a_servicer_knows_how_much_time_is_left(client: Client, watch: Watch) -> None:
    await client.ask("Echo", ProbeRequest(), timeout=5.0)
    (left,) = watch.time_left
    assert left is not None
    assert 0 < left < 5.5


async def test_a_servicer_notices_that_its_caller_has_given_up(client: Client, watch: Watch) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        await client.ask("Echo", ProbeRequest(delay_ms=LONG_MS), timeout=0.1)
    await until(watch.over.is_set, "the server's call is over")


async def test_a_call_that_is_cancelled_ends_at_its_server(transport: Transport, client: Client, watch: Watch) -> None:
    if transport.channel == "blocking":
        pytest.skip("a thread that waits for a reply cannot be cancelled")
    call = asyncio.ensure_future(client.ask("Echo", ProbeRequest(delay_ms=LONG_MS)))
    await until(watch.begun.is_set, "the call begins")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(watch.over.is_set, "the server's call is over")
    assert (await client.ask("Echo", ProbeRequest(body=b"next"))).body == b"next"


async def test_a_stream_that_is_cancelled_ends_at_its_server(client: Client, watch: Watch) -> None:
    answers = client.stream("Count", ProbeRequest(count=1_000_000, delay_ms=1))
    await anext(answers)
    answers.cancel()
    await until(watch.over.is_set, "the server's call is over")
    assert (await client.ask("Echo", ProbeRequest(body=b"next"))).body == b"next"


async def test_a_stream_that_is_dropped_ends_at_its_server(transport: Transport, client: Client, watch: Watch) -> None:
    if transport.server == "door-aio" and transport.channel == "aio":
        pytest.skip("grpc.aio's own tasks hold on to a stream that nobody reads until its deadline")
    answers = client.stream("Count", ProbeRequest(count=1_000_000, delay_ms=1))
    await anext(answers)
    del answers
    gc.collect()
    await until(watch.over.is_set, "the server's call is over")


async def test_a_server_that_stops_lets_calls_finish_and_takes_no_new_ones(
    client: Client, serving: Serving, watch: Watch
) -> None:
    await client.ask("Echo", ProbeRequest())
    watch.begun.clear()
    call = asyncio.ensure_future(client.ask("Echo", ProbeRequest(body=b"last", delay_ms=400)))
    await until(watch.begun.is_set, "the call begins")
    stopping = asyncio.ensure_future(serving.stop(10))
    await asyncio.sleep(0.05)  # not to synchronise: whenever the new call comes, it is refused
    with pytest.raises((errors.ShuttingDown, errors.Unavailable, errors.ConnectionLost)):
        await client.ask("Echo", ProbeRequest(), timeout=5)
    assert (await call).body == b"last"
    await stopping


async def test_a_client_whose_server_was_replaced_goes_on(transport: Transport, address: str, servicer: Any) -> None:
    async with transport.serving(servicer, address) as serving:
        client, where = transport.client(serving.address), serving.address
        assert (await client.ask("Echo", ProbeRequest(body=b"one"))).body == b"one"
        assert len(await all_of(client.stream("Count", ProbeRequest(count=2)))) == 2
    async with transport.serving(transport.servicer(), where):
        loop = asyncio.get_running_loop()
        deadline, answer = loop.time() + 10, b""
        await until(lambda: loop.time() > deadline - 10 + 2 * QUIET_S, "the connection is no longer fresh")
        while answer != b"two":
            assert loop.time() < deadline
            try:
                answer = (await client.ask("Echo", ProbeRequest(body=b"two"))).body
            except (errors.ConnectionLost, errors.Unavailable):
                assert not transport.is_lane, "the lane sees that its connection has ended before it sends"
                await asyncio.sleep(0.05)
        assert len(await all_of(client.stream("Count", ProbeRequest(count=2)))) == 2
    await client.close()
