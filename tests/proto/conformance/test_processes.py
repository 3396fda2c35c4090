"""A server that dies, hangs, or comes back: what its callers hear, and whether they may have had an effect."""

import asyncio
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto.probe_pb2 import ProbeRequest, PullRequest, PushRequest

from tests.proto.conformance.clients import Answers, Client
from tests.proto.conformance.server_process import ServerProcess
from tests.proto.conformance.servicers import LONG_MS
from tests.proto.conformance.transports import LANE, TRANSPORTS, Transport

PIECE_BYTES = 500_000
ALL = (*LANE, *TRANSPORTS[len(LANE) : len(LANE) + 1])
"""A process takes long to start: gRPC has one representative here."""
EVENT_LOOPS = tuple(transport for transport in LANE if not transport.has_threads)
pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])
over = partial(pytest.mark.parametrize, "transport", ids=str)


@pytest.fixture
def server(transport: Transport, address: str) -> Iterator[ServerProcess]:
    process = ServerProcess(transport, address)
    yield process
    process.kill()


async def lost(call: "asyncio.Future[Any]") -> errors.BlockyardError:
    """Return the error that a call ends with."""
    with pytest.raises(errors.BlockyardError) as caught:
        await asyncio.wait_for(call, 15)
    return caught.value


@over(ALL)
async def test_a_server_that_is_killed_leaves_its_callers_in_doubt(transport: Transport, server: ServerProcess) -> None:
    """What was sent may have happened; what is asked for afterwards has not."""
    client = transport.client(server.address)
    await client.ask("Echo", ProbeRequest())
    answers = client.stream("Count", ProbeRequest(count=1_000_000, delay_ms=1))
    await anext(answers)
    waiting = [asyncio.ensure_future(client.ask("Echo", ProbeRequest(delay_ms=LONG_MS))) for _ in range(2)]
    for _ in range(50):  # answers of a busy server: the calls have left meanwhile
        await anext(answers)
    await asyncio.to_thread(server.kill)
    for error in await asyncio.gather(*map(lost, waiting)):
        assert type(error) is errors.ConnectionLost
        assert not error.definite
    with pytest.raises(errors.ConnectionLost) as caught:
        await _to_the_end(answers)
    assert not caught.value.definite
    with pytest.raises(errors.Unavailable) as refused:
        await _until_unavailable(client)
    assert refused.value.definite
    await client.close()


@over(ALL)
async def test_a_server_that_is_killed_while_payload_moves_ends_the_call(
    transport: Transport, server: ServerProcess
) -> None:
    client = transport.client(server.address)
    answers = client.stream("Pull", PullRequest(total_bytes=1 << 40, piece_bytes=PIECE_BYTES))
    pushing = asyncio.ensure_future(_push(client))
    for _ in range(3):
        await anext(answers)
    await asyncio.to_thread(server.kill)
    with pytest.raises((errors.ConnectionLost, errors.Unavailable)):
        await asyncio.wait_for(pushing, 15)
    with pytest.raises(errors.ConnectionLost):
        await _to_the_end(answers)
    await client.close()


async def _push(client: Client) -> None:
    while True:
        await client.ask("Push", PushRequest(), payload=bytes(PIECE_BYTES))


async def _to_the_end(answers: Answers) -> None:
    while True:
        await anext(answers)


async def _until_unavailable(client: Client) -> None:
    """Call until the channel has noticed: gRPC may still hold the dead connection for a moment."""
    while True:
        try:
            await client.ask("Echo", ProbeRequest(), timeout=5)
        except errors.ConnectionLost:
            await asyncio.sleep(0.01)


@over(ALL)
async def test_a_client_goes_on_with_the_server_that_comes_after(transport: Transport, server: ServerProcess) -> None:
    client = transport.client(server.address)
    await client.ask("Echo", ProbeRequest())
    await asyncio.to_thread(server.kill)
    successor = await asyncio.to_thread(ServerProcess, transport, server.address)
    try:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 10
        while True:
            try:
                assert (await client.ask("Echo", ProbeRequest(body=b"again"))).body == b"again"
                break
            except (errors.ConnectionLost, errors.Unavailable):
                assert loop.time() < deadline
                assert not transport.is_lane, "the lane notices that its connection has ended"
                await asyncio.sleep(0.05)
    finally:
        successor.kill()
        await client.close()


@over(LANE)
async def test_a_server_that_hangs_is_noticed_by_its_silence(transport: Transport, server: ServerProcess) -> None:
    client = transport.client(server.address, keepalive_s=0.2)
    await client.ask("Echo", ProbeRequest())
    answers = client.stream("Count", ProbeRequest(count=1_000_000, delay_ms=1))
    await anext(answers)
    server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(errors.ConnectionLost, match="no sign of life"):
            await client.ask("Echo", ProbeRequest(), timeout=15)
        with pytest.raises(errors.ConnectionLost, match="no sign of life"):
            await _to_the_end(answers)
    finally:
        server.signal(signal.SIGCONT)
    await client.close()


@over(EVENT_LOOPS)
async def test_silence_of_an_idle_connection_is_no_sign_of_death(transport: Transport, server: ServerProcess) -> None:
    """An answer may take longer than the keep-alive time, on a connection that has been idle for longer than that."""
    client = transport.client(server.address, keepalive_s=0.1)
    await client.ask("Echo", ProbeRequest())
    await asyncio.sleep(0.4)  # the idleness itself, not a synchronisation
    assert (await client.ask("Echo", ProbeRequest(body=b"x", delay_ms=600))).body == b"x"
    await client.close()
