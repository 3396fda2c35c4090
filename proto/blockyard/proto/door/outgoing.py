"""What the two channels share: a method as a stub asks for it, deadlines, and errors as ours."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
from blockyard.proto import errors
from blockyard.proto.call import Payload
from blockyard.proto.door.payload import with_data
from blockyard.proto.lane.methods import carries_reply_payload
from blockyard.proto.lane.payload import Into, choose, fill, read_all
from blockyard.proto.metrics import OK, MethodMetrics, TransportMetrics
from blockyard.proto.retry import Retry, RetryPolicy, is_repeatable
from blockyard.proto.settings import Door
from google.protobuf.message import DecodeError


@dataclass(frozen=True, slots=True)
class Policy:
    """How a channel makes its calls."""

    default_deadline_s: float
    retry: RetryPolicy
    random: Random
    metrics: TransportMetrics

    @classmethod
    def of(
        cls, settings: Door, retry: RetryPolicy | None, random: Random | None, metrics: TransportMetrics | None
    ) -> "Policy":
        """Return the policy with what was not given filled in."""
        return cls(
            settings.default_deadline_ms / 1000,
            retry or RetryPolicy(),
            random or Random(),
            metrics or TransportMetrics("grpc", "client"),
        )


class OutgoingMethod:
    """One method of a channel."""

    def __init__(
        self, policy: Policy, name: str, serialize: Callable[[Any], bytes], deserialize: Callable[[bytes], Any]
    ) -> None:
        self.name = name
        self.policy = policy
        self._serialize = serialize
        self._deserialize = deserialize
        self._metrics: MethodMetrics = policy.metrics.method(name)
        self._reply_payload = carries_reply_payload(name)

    def encode(self, request: Any, payload: Payload | None = None) -> bytes:
        """Return a request with its payload, as it travels."""
        data = self._serialize(request) if payload is None else with_data(request, read_all(payload))
        self.policy.metrics.sent_bytes += len(data)
        return data

    def decode(self, data: bytes, into: Into | None = None) -> Any:
        """Return a reply; with `into`, its payload has moved there. Raises MalformedReply."""
        self.policy.metrics.received_bytes += len(data)
        try:
            reply = self._deserialize(data)
        except DecodeError as error:
            raise errors.MalformedReply(f"{self.name}: the reply does not parse") from error
        if into is not None and self._reply_payload:
            body = reply.data
            reply.ClearField("data")
            sink = choose(into, reply, len(body))
            if sink is not None:
                fill(sink, body)
        return reply

    def attempts(self, request: Any, timeout_s: float | None) -> "Attempts":
        """Begin a call of at most `timeout_s` seconds (None: the channel's own), all its attempts included."""
        timeout = self.policy.default_deadline_s if timeout_s is None else timeout_s
        return Attempts(self, is_repeatable(self.name, request), timeout)

    def ended(self, began_s: float, error: errors.BlockyardError | None) -> None:
        """Count a call."""
        self._metrics.done(time.monotonic() - began_s, OK if error is None else type(error).__name__)


class Attempts:
    """One call, on the monotonic clock."""

    def __init__(self, method: OutgoingMethod, repeatable: bool, timeout_s: float) -> None:
        self.began_s = time.monotonic()
        self._method = method
        self._deadline_s = self.began_s + timeout_s
        policy = method.policy
        self._retry = Retry(policy.retry, policy.random, repeatable=repeatable, deadline_s=self._deadline_s)

    def time_left_s(self) -> float:
        """Return the seconds that the next attempt may take."""
        return max(0.0, self._deadline_s - time.monotonic())

    def wait_after(self, failed: grpc.RpcError) -> float:
        """Return the seconds until the next attempt. Raises the call's error when there is none."""
        error = errors.from_grpc(failed)
        wait = self._retry.wait_after(error, time.monotonic())
        if wait is None:
            self._method.ended(self.began_s, error)
            raise error from None
        return wait

    def succeeded(self) -> None:
        """The call has its answer."""
        self._method.ended(self.began_s, None)
