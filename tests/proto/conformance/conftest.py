"""The suite's fixtures: a transport, its server in this process, a client of it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.proto.conformance.clients import Client
from tests.proto.conformance.servicers import Watch
from tests.proto.conformance.transports import TRANSPORTS, Serving, Transport


def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run everything on both event loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Where the lane has no event loop, one event loop is enough."""
    items[:] = [item for item in items if not _is_twice(item)]


def _is_twice(item: Any) -> bool:
    chosen = item.callspec.params.get("transport") if hasattr(item, "callspec") else None
    if not isinstance(chosen, Transport) or "[uvloop" not in item.name:
        return False
    return not chosen.is_lane or (chosen.has_threads and chosen.channel == "blocking")


@pytest.fixture(params=TRANSPORTS, ids=str)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@pytest.fixture
def address(transport: Transport) -> Iterator[str]:
    """Where to serve; a Unix socket's path is short, as the kernel wants it."""
    with tempfile.TemporaryDirectory(prefix="by-") as directory:
        yield f"unix:{Path(directory) / 'sock'}" if transport.over == "unix" else "127.0.0.1:0"


@pytest.fixture
def servicer(transport: Transport) -> Any:
    return transport.servicer()


@pytest.fixture
def watch(servicer: Any) -> Watch:
    """What the servicer saw."""
    seen: Watch = servicer.watch
    return seen


@pytest.fixture
async def serving(transport: Transport, servicer: Any, address: str) -> AsyncIterator[Serving]:
    async with transport.serving(servicer, address) as serving:
        yield serving


@pytest.fixture
async def client(transport: Transport, serving: Serving) -> AsyncIterator[Client]:
    client = transport.client(serving.address)
    yield client
    await client.close()
