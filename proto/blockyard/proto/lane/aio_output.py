"""What leaves on a connection of the event-loop server, and whether its caller takes it."""

import asyncio
import time

from blockyard.proto.metrics import TransportMetrics

FLUSH_BYTES = 1 << 20
"""Frames leave, and a caller that takes none is noticed, whenever this much has come together."""


class Outbox:
    """The connections that have something to say: all of it leaves in the next turn of the loop, or at `flush`."""

    def __init__(self) -> None:
        self._outputs: list[Output] = []

    def add(self, output: "Output") -> None:
        """Let what `output` gathers leave soon; to be called once until it has."""
        if not self._outputs:
            asyncio.get_running_loop().call_soon(self.flush)
        self._outputs.append(output)

    def flush(self) -> None:
        """Let everything leave now."""
        outputs, self._outputs = self._outputs, []
        for output in outputs:
            output.flush()


class Output:
    """Gathers frames and writes those of one turn of the loop together.

    Invariant: nothing is written after `close`.
    """

    def __init__(self, transport: asyncio.Transport, metrics: TransportMetrics, outbox: Outbox) -> None:
        self.closed_at: float | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self._transport = transport
        self._metrics = metrics
        self._outbox = outbox
        self._frames: list[bytes] = []
        self._gathered_bytes = 0
        self._holding = False
        self._in_outbox = False
        self._written_bytes = 0
        self._taken_bytes = 0
        self._taken_at = 0.0

    def queue(self, data: bytes) -> None:
        """Send `data` with everything else that leaves in this turn of the loop."""
        self._frames.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes > FLUSH_BYTES:
            self._flush()
        elif not self._holding and not self._in_outbox:
            self._in_outbox = True
            self._outbox.add(self)

    def hold(self) -> None:
        """Gather until `release`, which comes in this turn of the loop."""
        self._holding = True

    def release(self) -> None:
        """Send what was gathered."""
        self._holding = False
        self._flush()

    def pause(self) -> None:
        """The caller takes less than it asks for."""
        self._taken_at, self._taken_bytes = time.monotonic(), 0
        self.writable.clear()

    def is_stalled(self, now: float, stall_s: float) -> bool:
        """Return whether the caller has taken nothing of what waits for it for `stall_s` seconds."""
        if self.writable.is_set():
            return False
        taken = self._written_bytes - self._transport.get_write_buffer_size()
        if taken > self._taken_bytes:
            self._taken_bytes, self._taken_at = taken, now
        return now - self._taken_at > stall_s

    def close(self) -> None:
        """Send what was gathered, and close."""
        self._flush()
        self.ended()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.ended()
        self._transport.abort()

    def ended(self) -> None:
        """The connection is no more; whoever waits to send goes on."""
        self.closed_at = self.closed_at or time.monotonic()
        self.writable.set()

    def flush(self) -> None:
        """Send what was gathered: for the outbox."""
        self._in_outbox = False
        self._flush()

    def _flush(self) -> None:
        if self._frames:
            frames, self._frames = self._frames, []
            self._gathered_bytes = 0
            if self.closed_at is not None:
                return
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            self._written_bytes += len(data)
            self._metrics.sent_bytes += len(data)
            self._transport.write(data)
