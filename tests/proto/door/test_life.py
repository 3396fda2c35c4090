"""A server's life: health and reflection while it serves, retries around its absence, and a stop that loses nothing."""

import asyncio
import shutil
import socket
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio
import pytest
from blockyard.proto import errors, probe_pb2_grpc
from blockyard.proto.door import NO_RETRY, AioChannel, Channel, DoorServer, RetryPolicy
from blockyard.proto.metrics import TransportMetrics
from blockyard.proto.probe_pb2 import ProbeReply, ProbeRequest
from blockyard.proto.settings import Door
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]

WAIT_S = 30
PROBE = "blockyard.v1.Probe"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
QUICK = RetryPolicy(attempts_limit=1000, first_wait_s=0.001, longest_wait_s=0.05)


def stub_of(channel: Any) -> Any:
    return probe_pb2_grpc.ProbeStub(channel)


class Probe:
    """Fails with the errors it was given, one a call, and then answers; holds answers while `gate` is shut."""

    def __init__(self, *failures: errors.BlockyardError) -> None:
        self.failures = list(failures)
        self.calls = 0
        self.began = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def Echo(self, request: ProbeRequest, context: Any) -> ProbeReply:
        self.calls += 1
        self.began.set()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return ProbeReply(body=request.body)

    Count = Sum = Chat = Pull = Push = Echo


class TestRetry:
    async def test_a_call_is_made_again_until_it_is_answered(self, serve: Any) -> None:
        probe = Probe(errors.Overloaded(), errors.ShuttingDown(), errors.ConnectionLost())
        metrics = TransportMetrics("grpc", "client")
        served = await serve(probe)
        async with AioChannel(served.address, retry=QUICK, random=Random(1), metrics=metrics) as channel:
            assert (await stub_of(channel).Echo(ProbeRequest(body=b"x"))).body == b"x"
        assert probe.calls == 4
        assert metrics.method(f"/{PROBE}/Echo").outcomes == {"OK": 1}

    async def test_threads_retry_too(self, serve: Any) -> None:
        probe = Probe(errors.Overloaded(), errors.Overloaded())
        served = await serve(probe)
        with Channel(served.address, retry=QUICK) as channel:
            reply = await asyncio.to_thread(stub_of(channel).Echo, ProbeRequest(body=b"x"))
        assert (reply.body, probe.calls) == (b"x", 3)

    async def test_an_error_that_waiting_does_not_help_is_raised_at_once(self, serve: Any) -> None:
        probe = Probe(errors.NotFound())
        served = await serve(probe)
        async with AioChannel(served.address, retry=QUICK) as channel:
            with pytest.raises(errors.NotFound):
                await stub_of(channel).Echo(ProbeRequest())
        assert probe.calls == 1

    async def test_attempts_share_one_deadline(self, serve: Any) -> None:
        probe = Probe(*[errors.Overloaded(retry_after_ms=60_000)] * 5)
        served = await serve(probe)
        async with AioChannel(served.address, retry=QUICK) as channel:
            with pytest.raises(errors.Overloaded):
                await stub_of(channel).Echo(ProbeRequest(), timeout=5)
        assert probe.calls == 1

    async def test_a_server_that_is_not_there_is_definite(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        async with AioChannel(address, retry=NO_RETRY) as channel:
            with pytest.raises(errors.Unavailable) as failed:
                await stub_of(channel).Echo(ProbeRequest())
        assert failed.value.definite

    async def test_a_call_waits_for_a_server_that_starts(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        async with AioChannel(f"127.0.0.1:{port}", retry=QUICK) as channel:
            call = asyncio.create_task(stub_of(channel).Echo(ProbeRequest(body=b"x"), timeout=WAIT_S))
            await asyncio.sleep(0)
            server: Any = DoorServer()
            probe_pb2_grpc.add_ProbeServicer_to_server(Probe(), server)  # type: ignore[arg-type]
            server.listen_tcp("127.0.0.1", port)
            await server.start()
            assert (await call).body == b"x"
            await server.stop(0)


class TestHealth:
    async def test_every_registered_service_is_serving(self, serve: Any) -> None:
        served = await serve(Probe())
        async with grpc.aio.insecure_channel(served.address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            for name in ("", PROBE):
                assert (await check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
            await served.server.set_serving(PROBE, False)
            assert (await check(health_pb2.HealthCheckRequest(service=PROBE))).status == NOT_SERVING

    async def test_watchers_hear_of_the_stop_before_it_ends(self, serve: Any) -> None:
        served = await serve(Probe())
        async with grpc.aio.insecure_channel(served.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=PROBE))
            assert (await watch.read()).status == SERVING
            stopping = asyncio.create_task(served.server.stop(WAIT_S))
            assert (await watch.read()).status == NOT_SERVING
            await asyncio.wait_for(stopping, WAIT_S)


class TestReflection:
    async def names(self, address: str) -> list[str]:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async with grpc.aio.insecure_channel(address) as channel:
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
            answers = [answer async for answer in call]
        return [service.name for service in answers[0].list_services_response.service]

    async def test_lists_every_service(self, serve: Any) -> None:
        served = await serve(Probe())
        assert set(await self.names(served.address)) == {
            PROBE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }

    async def test_can_be_turned_off(self, serve: Any) -> None:
        served = await serve(Probe(), settings=Door(reflection=False))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await self.names(served.address)
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestStop:
    async def test_calls_under_way_are_answered_and_new_ones_are_refused(self, serve: Any) -> None:
        probe = Probe()
        probe.gate.clear()
        served = await serve(probe)
        call = asyncio.create_task(served.stub.Echo(ProbeRequest(body=b"x")))
        await asyncio.wait_for(probe.began.wait(), WAIT_S)
        stopping = asyncio.create_task(served.server.stop(WAIT_S))
        await asyncio.sleep(0)
        with pytest.raises(errors.ShuttingDown) as failed:
            await served.stub.Echo(ProbeRequest())
        assert failed.value.definite
        probe.gate.set()
        assert (await asyncio.wait_for(call, WAIT_S)).body == b"x"
        await asyncio.wait_for(stopping, WAIT_S)

    async def test_calls_past_their_grace_are_cut_off_and_may_have_happened(self, serve: Any) -> None:
        probe = Probe()
        probe.gate.clear()
        served = await serve(probe)
        call = asyncio.create_task(served.stub.Echo(ProbeRequest()))
        await asyncio.wait_for(probe.began.wait(), WAIT_S)
        await asyncio.wait_for(served.server.stop(0), WAIT_S)
        with pytest.raises(errors.BlockyardError) as failed:
            await asyncio.wait_for(call, WAIT_S)
        assert not failed.value.definite

    async def test_a_second_stop_does_nothing(self, serve: Any) -> None:
        served = await serve(Probe())
        await served.server.stop(1)
        await served.server.stop(1)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[bytes, bytes]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return key.read_bytes(), cert.read_bytes()


async def test_tls_needs_only_credentials(certificate: tuple[bytes, bytes]) -> None:
    key, cert = certificate
    server: Any = DoorServer()
    probe_pb2_grpc.add_ProbeServicer_to_server(Probe(), server)  # type: ignore[arg-type]
    port = server.listen_tcp("127.0.0.1", 0, grpc.ssl_server_credentials([(key, cert)]))
    await server.start()
    credentials = grpc.ssl_channel_credentials(cert)
    async with AioChannel(f"127.0.0.1:{port}", credentials=credentials) as channel:
        assert (await stub_of(channel).Echo(ProbeRequest(body=b"x"))).body == b"x"
    async with AioChannel(f"127.0.0.1:{port}", retry=NO_RETRY) as plain:
        with pytest.raises(errors.BlockyardError):
            await stub_of(plain).Echo(ProbeRequest())
    await server.stop(0)
