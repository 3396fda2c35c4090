"""What a servicer sees of a call, whichever transport carries it.

A servicer method is `def method(request, context)` and returns one of

- the reply message, for work that only touches memory;
- a `Deferred`, an awaitable of it, or is `async def`: only servers that run an event loop accept these;
- for response streams, an iterator or async iterator of reply messages.

Where the method's option says that replies carry payload, `Reply(message, payload)` may stand for a reply message.
Errors are raised as `BlockyardError`. Request payload is taken with `context.receive_into(buffer)`; payload that nobody
takes is read and dropped.
"""

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Buffer
else:
    Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class FileRange:
    """`length` bytes from byte `offset` of the open descriptor `fd`, which stays open until they are sent."""

    fd: int
    offset: int
    length: int


Payload: TypeAlias = Buffer | FileRange


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply message and the payload that goes with it."""

    message: Any
    payload: Payload
    descriptor: int | None = None
    """An open file for the caller, who gets one of its own; only where `CallContext.passes_descriptors`."""


class CallContext(Protocol):
    """One call, as its servicer sees it."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline, 0 when it has passed, None when there is none."""

    def peer(self) -> str:
        """Return the caller's address, for logs."""

    def cancelled(self) -> bool:
        """Return whether the caller has gone or given up."""

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the call is over, however it ended; at once when it already is."""

    @property
    def passes_descriptors(self) -> bool:
        """Whether a reply to this call may carry a file descriptor: on the lane, over a Unix socket."""

    @property
    def payload_length(self) -> int:
        """Bytes of payload that came with the newest request message and were not taken yet."""

    def receive_into(self, buffer: Buffer) -> int:
        """Fill `buffer` with the payload of the newest request message and return its length in bytes.

        Raises TooLarge when the payload is longer than `buffer`, and CorruptBlock when a buffer that checks itself
        (`CheckedBuffer`) finds a page that does not match.
        """


class Deferred:
    """An answer that comes later: a servicer on an event loop returns it and resolves it once.

    Cheaper than a future: whoever waits is called within `resolve` or `fail`. It can be awaited, once, as well.
    """

    __slots__ = ("_callback", "_settled", "encoded", "error", "result")

    def __init__(self) -> None:
        self.result: Any = None
        self.encoded: bytes | None = None
        """The result as bytes, where it was serialized anyway: a transport may send them as they are."""
        self.error: BaseException | None = None
        self._callback: Callable[[Deferred], None] | None = None
        self._settled = False

    @property
    def settled(self) -> bool:
        """Whether the answer is there."""
        return self._settled

    def resolve(self, result: Any, encoded: bytes | None = None) -> None:
        """Give the answer; a second answer is ignored, since the first has been acted on."""
        if not self._settled:
            self.result = result
            self.encoded = encoded
            self._settle()

    def fail(self, error: BaseException) -> None:
        """Say why there is no answer."""
        if not self._settled:
            self.error = error
            self._settle()

    def then(self, callback: "Callable[[Deferred], None]") -> None:
        """Call `callback` with this once it is settled; at once when it is already. There is one callback."""
        assert self._callback is None, "a Deferred has one callback"
        if self._settled:
            callback(self)
        else:
            self._callback = callback

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._settled:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.then(lambda _: None if future.done() else future.set_result(None))
            yield from future.__await__()
        if self.error is not None:
            raise self.error
        return self.result

    def _settle(self) -> None:
        self._settled = True
        if self._callback is not None:
            self._callback(self)


def payload_length(payload: Payload) -> int:
    """Return the length of `payload` in bytes."""
    return payload.length if isinstance(payload, FileRange) else memoryview(payload).nbytes


def register(add: Callable[..., None], servicer: object, *servers: object) -> None:
    """Register a servicer with servers of any transport; `add` is the generated `add_…Servicer_to_server`.

    Generated code types servicers and servers as gRPC's own; ours offer what it asks of them.
    """
    for server in servers:
        add(servicer, server)
