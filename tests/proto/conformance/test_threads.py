"""Many threads on one blocking channel."""

import asyncio
import itertools
import threading
from functools import partial
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto.probe_pb2 import ProbeRequest

from tests.proto.conformance.clients import ThreadClient
from tests.proto.conformance.transports import TRANSPORTS, Serving, Transport

THREADS = 32


BLOCKING = tuple(transport for transport in TRANSPORTS if transport.channel == "blocking")
PARALLEL = tuple(transport for transport in BLOCKING if not transport.has_threads)
"""Those whose servers answer the calls of one connection side by side."""
over = partial(pytest.mark.parametrize, "transport", ids=str)


async def together(work: Any) -> list[BaseException]:
    """Run `work(number)` on many threads that begin at once; return what they raised."""
    raised: list[BaseException] = []
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    return raised


@over(BLOCKING)
async def test_answers_are_never_mixed_up(transport: Transport, serving: Serving) -> None:
    client: Any = transport.client(serving.address)
    assert isinstance(client, ThreadClient)
    calls = 500 if transport.is_lane else 30

    def work(number: int) -> None:
        for count in range(calls):
            body = b"%d:%d" % (number, count)
            assert client._stub.Echo(ProbeRequest(body=body)).body == body

    assert await together(work) == []
    await client.close()


@over(PARALLEL)
async def test_threads_with_short_deadlines_hold_nobody_up(transport: Transport, serving: Serving) -> None:
    """Whoever reads for the others may leave at any moment; somebody always reads on."""
    client: Any = transport.client(serving.address)
    await client.ask("Echo", ProbeRequest())
    turns = itertools.count()

    def work(number: int) -> None:
        for _ in range(30):
            turn = next(turns)
            if turn % 3 == 0:
                with pytest.raises(errors.DeadlineExceeded):
                    client._stub.Echo(ProbeRequest(delay_ms=30), timeout=0.001 * (turn % 7 + 1))
            else:
                assert client._stub.Echo(ProbeRequest(body=b"%d" % turn), timeout=20).body == b"%d" % turn

    assert await together(work) == []
    await client.close()


@over(BLOCKING)
async def test_streams_and_calls_of_many_threads_keep_apart(transport: Transport, serving: Serving) -> None:
    client: Any = transport.client(serving.address)

    def work(number: int) -> None:
        for _ in range(5 if transport.is_lane else 1):
            requests = [ProbeRequest(body=b"%d:%d" % (number, count)) for count in range(100)]
            assert [reply.body for reply in client._stub.Chat(iter(requests))] == [one.body for one in requests]
            assert client._stub.Sum(iter(requests)).index == 100

    assert await together(work) == []
    await client.close()
