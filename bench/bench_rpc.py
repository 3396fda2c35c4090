"""The two transports, and the bare loop that the kernel allows.

One echo of 64 bytes, one after the other and 64 in flight; 1 GiB from a file in memory to a buffer.
gRPC is measured bare: its own asyncio server, generated code, no helper of ours around it.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing.queues import Queue
from typing import Any, cast

import grpc
import uvloop
from blockyard.proto.call import register
from blockyard.proto.lane import AioChannel, AioServer, Channel, CheckedBuffer, ThreadServer
from blockyard.proto.probe import AioProbe, ThreadProbe
from blockyard.proto.probe_pb2 import ProbeReply, ProbeRequest, PullReply, PullRequest
from blockyard.proto.probe_pb2_grpc import ProbeStub, add_ProbeServicer_to_server

from bench.process import serving
from bench.report import Row, in_turn, row

BODY = b"x" * 64
IN_FLIGHT = 64
PIECE_BYTES = 64 << 20
GRPC_PIECE_BYTES = 1 << 20


def run(quick: bool) -> list[Row]:
    """Measure; about 25 s when quick, two minutes otherwise."""
    calls, total = (2_000, 256 << 20) if quick else (10_000, 1 << 30)
    with (
        serving(serve_grpc) as grpc_address,
        serving(serve_lane) as lane_address,
        serving(serve_lane_threads) as bulk_address,
        serving(serve_bare) as bare_address,
    ):
        buffer = bytearray(PIECE_BYTES)
        medians = in_turn(
            5,
            {
                "grpc sequential": lambda: sequential_grpc(grpc_address, calls // 4),
                "lane sequential": lambda: sequential_lane(lane_address, calls),
                "grpc in flight": lambda: uvloop.run(in_flight_grpc(grpc_address, calls)),
                "lane in flight": lambda: uvloop.run(in_flight_lane(lane_address, calls * 4)),
                "grpc bulk": lambda: uvloop.run(bulk_grpc(grpc_address, total // 2)),
                "lane bulk": lambda: bulk_lane(bulk_address, total, buffer, checked=False),
                "lane bulk checked": lambda: bulk_lane(bulk_address, total, buffer, checked=True),
                "bare bulk": lambda: bulk_bare(bare_address, total, buffer),
            },
        )
    return rows(medians)


def rows(medians: dict[str, float]) -> list[Row]:
    """Turn medians into rows: gRPC is the floor of calls, the bare loop that of bulk."""
    grpc_sequential, grpc_flight, bare = (medians[name] for name in ("grpc sequential", "grpc in flight", "bare bulk"))
    return [
        row("gRPC, one call after the other", grpc_sequential, "calls/s"),
        row("lane, one call after the other", medians["lane sequential"], "calls/s", grpc_sequential, 8.0),
        row(f"gRPC, {IN_FLIGHT} in flight", grpc_flight, "calls/s"),
        row(f"lane, {IN_FLIGHT} in flight", medians["lane in flight"], "calls/s", grpc_flight, 6.0),
        row("bare sendfile to recv_into", bare, "GB/s"),
        row("gRPC stream of 1 MiB messages", medians["grpc bulk"], "GB/s", bare),
        row("lane payload", medians["lane bulk"], "GB/s", bare, 0.85),
        row("lane payload, every page CRC32C-checked", medians["lane bulk checked"], "GB/s", bare, 0.75),
    ]


# ---------------------------------------------------------------------------------------------------- calls


def sequential_grpc(address: str, calls: int) -> float:
    """Return calls per second of a blocking stub."""
    with grpc.insecure_channel(address) as channel:
        return _sequential(ProbeStub(channel), calls)


def sequential_lane(address: str, calls: int) -> float:
    """Return calls per second of the same stub over the lane."""
    with Channel(address) as channel:
        return _sequential(ProbeStub(cast(grpc.Channel, channel)), calls)


def _sequential(stub: Any, calls: int) -> float:
    request = ProbeRequest(body=BODY)
    for _ in range(100):
        stub.Echo(request)
    started = time.perf_counter()
    for _ in range(calls):
        stub.Echo(request)
    return calls / (time.perf_counter() - started)


async def in_flight_grpc(address: str, calls: int) -> float:
    """Return calls per second with many in flight on one channel."""
    async with grpc.aio.insecure_channel(address) as channel:
        return await _in_flight(ProbeStub(channel).Echo, calls)


async def in_flight_lane(address: str, calls: int) -> float:
    """Return the same over the lane."""
    async with AioChannel(address) as channel:
        return await _in_flight(ProbeStub(cast(grpc.Channel, channel)).Echo, calls)


async def _in_flight(echo: Callable[[ProbeRequest], Any], calls: int) -> float:
    async def caller(count: int) -> None:
        request = ProbeRequest(body=BODY)
        for _ in range(count):
            await cast(Awaitable[ProbeReply], echo(request))

    await caller(100)
    started = time.perf_counter()
    await asyncio.gather(*(caller(calls // IN_FLIGHT) for _ in range(IN_FLIGHT)))
    return calls // IN_FLIGHT * IN_FLIGHT / (time.perf_counter() - started)


# ---------------------------------------------------------------------------------------------------- bulk


async def bulk_grpc(address: str, total: int) -> float:
    """Return GB/s of a gRPC stream."""
    options = [("grpc.max_receive_message_length", 4 << 20)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: Any = ProbeStub(channel)
        await stub.Echo(ProbeRequest())
        started, received = time.perf_counter(), 0
        async for reply in stub.Pull(PullRequest(total_bytes=total, piece_bytes=GRPC_PIECE_BYTES)):
            received += len(reply.data)
        assert received == total
        return total / (time.perf_counter() - started) / 1e9


def bulk_lane(address: str, total: int, buffer: bytearray, checked: bool) -> float:
    """Return GB/s of the lane's payload into one buffer, each page checked on arrival or not."""

    def into(reply: PullReply, length: int) -> memoryview | CheckedBuffer:
        view = memoryview(buffer)[:length]
        return CheckedBuffer(view, reply.crc32c, reply.page_bytes) if checked else view

    with Channel(address) as channel:
        stub: Any = ProbeStub(cast(grpc.Channel, channel))
        request = PullRequest(total_bytes=PIECE_BYTES, piece_bytes=PIECE_BYTES, checksums=checked)
        list(stub.Pull(request, into=into))
        request.total_bytes = total
        started = time.perf_counter()
        pieces = sum(1 for _ in stub.Pull(request, into=into))
        assert pieces == total // PIECE_BYTES
        return total / (time.perf_counter() - started) / 1e9


def bulk_bare(address: str, total: int, buffer: bytearray) -> float:
    """Return GB/s of sendfile to recv_into and nothing else."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as sock:
        for size in (PIECE_BYTES, total):
            started = time.perf_counter()
            sock.sendall(size.to_bytes(8, "little"))
            view, received = memoryview(buffer), 0
            while received < size:
                start = received % PIECE_BYTES
                received += sock.recv_into(view[start:])
        return total / (time.perf_counter() - started) / 1e9


# ---------------------------------------------------------------------------------------------------- servers


class BareGrpcProbe:
    """The probe as one writes it for gRPC alone."""

    async def Echo(self, request: ProbeRequest, context: Any) -> ProbeReply:
        return ProbeReply(body=request.body)

    async def Pull(self, request: PullRequest, context: Any) -> AsyncIterator[PullReply]:
        data = bytes(request.piece_bytes)
        for offset in range(0, request.total_bytes, request.piece_bytes):
            yield PullReply(offset=offset, data=data)

    Count = Sum = Chat = Push = Echo  # asked for by the registration, not measured


def serve_grpc(queue: "Queue[str]") -> None:
    """Serve the probe by gRPC's asyncio server."""

    async def main() -> None:
        server = grpc.aio.server()
        register(add_ProbeServicer_to_server, BareGrpcProbe(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        queue.put(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    uvloop.run(main())


def serve_lane(queue: "Queue[str]") -> None:
    """Serve the probe by the lane's event-loop server."""

    async def main() -> None:
        server = AioServer()
        register(add_ProbeServicer_to_server, AioProbe(), server)
        queue.put(f"127.0.0.1:{await server.listen_tcp('127.0.0.1', 0)}")
        await asyncio.Event().wait()

    uvloop.run(main())


def serve_lane_threads(queue: "Queue[str]") -> None:
    """Serve the probe by the lane's thread server."""
    server = ThreadServer()
    register(add_ProbeServicer_to_server, ThreadProbe(), server)
    queue.put(server.listen("127.0.0.1:0"))
    while True:
        time.sleep(3600)


def serve_bare(queue: "Queue[str]") -> None:
    """Send as many bytes of a file in memory as a client asks for, by sendfile."""
    source = os.memfd_create("bare")
    os.ftruncate(source, PIECE_BYTES)
    os.pwrite(source, bytes(PIECE_BYTES), 0)
    listener = socket.create_server(("127.0.0.1", 0))
    queue.put(f"127.0.0.1:{listener.getsockname()[1]}")
    while True:
        sock, _ = listener.accept()
        with sock:
            while asked := sock.recv(8):
                left = int.from_bytes(asked, "little")
                while left > 0:
                    left -= os.sendfile(sock.fileno(), source, 0, min(left, PIECE_BYTES))
