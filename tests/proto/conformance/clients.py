"""One face for channels of event loops and of threads, so that a test is written once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from blockyard.proto.probe_pb2_grpc import ProbeStub


class Client(Protocol):
    """Calls the probe."""

    def ask(self, method: str, request: Any, **arguments: Any) -> Awaitable[Any]:
        """Make a call that answers once; `request` is a list where the method takes a stream."""

    def stream(self, method: str, request: Any, **arguments: Any) -> "Answers":
        """Make a call that answers with a stream."""

    async def close(self) -> None:
        """Close the channel."""


class Answers(Protocol):
    """A stream of answers."""

    def __aiter__(self) -> AsyncIterator[Any]: ...

    async def __anext__(self) -> Any: ...

    def cancel(self) -> None:
        """Leave early."""


class AioClient:
    """Over a channel of an event loop."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._stub: Any = ProbeStub(channel)

    def ask(self, method: str, request: Any, **arguments: Any) -> Awaitable[Any]:
        answer: Awaitable[Any] = getattr(self._stub, method)(request, **arguments)
        return answer

    def stream(self, method: str, request: Any, **arguments: Any) -> Answers:
        answers: Answers = getattr(self._stub, method)(request, **arguments)
        return answers

    async def close(self) -> None:
        await self._channel.close()


class ThreadClient:
    """Over a blocking channel, every call on a thread."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._stub: Any = ProbeStub(channel)
        self._threads = ThreadPoolExecutor(64)

    def ask(self, method: str, request: Any, **arguments: Any) -> Awaitable[Any]:
        return self._on_thread(getattr(self._stub, method), _plain(request), **arguments)

    def stream(self, method: str, request: Any, **arguments: Any) -> Answers:
        method_of_stub = getattr(self._stub, method)
        return _ThreadAnswers(self, lambda: method_of_stub(_plain(request), **arguments))

    async def close(self) -> None:
        self._channel.close()
        self._threads.shutdown()

    def _on_thread(self, function: Any, *positional: Any, **named: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*positional, **named))


class _ThreadAnswers:
    """Begins at the first answer that is asked for: beginning may wait for a connection."""

    def __init__(self, client: ThreadClient, begin: Callable[[], Any]) -> None:
        self._client = client
        self._begin = begin
        self._answers: Any = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._answers is None:
            self._answers = await self._client._on_thread(self._begin)
        answer = await self._client._on_thread(next, self._answers, None)
        if answer is None:
            raise StopAsyncIteration
        return answer

    def cancel(self) -> None:
        self._answers.cancel()


def _plain(request: Any) -> Any:
    return iter(request) if isinstance(request, Iterable) else request
