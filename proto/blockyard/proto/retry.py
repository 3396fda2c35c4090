"""Whether a failed call is made again, and when. Pure: the clock and chance are given.

A call is made again only with the same request, only after an error class that says that waiting helps, and only while
its overall deadline leaves room. After a definite error anything may be repeated, since nothing happened. After an
indefinite one a read may be, a change only because it carries a request id: the server then answers as it did before.

Waits grow exponentially and are drawn from the upper half of their range, so that clients that failed together do not
come back together.
"""

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, Final

from blockyard.proto import errors, options_pb2
from blockyard.proto.errors import BlockyardError
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

WAITING_HELPS: Final = (
    errors.Unavailable,
    errors.ConnectionLost,
    errors.Overloaded,
    errors.ShuttingDown,
    errors.NotLeader,
    errors.LeadershipLost,
)
"""Errors after which the same call may succeed at the same address. All others are the caller's to decide."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long."""

    attempts_limit: int = 8
    first_wait_s: float = 0.02
    longest_wait_s: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts_limit < 1 or not 0 < self.first_wait_s <= self.longest_wait_s:
            raise ValueError(f"retry policy: {self}: at least one attempt, and 0 < first wait <= longest wait")


NO_RETRY: Final = RetryPolicy(attempts_limit=1)


class Retry:
    """The attempts of one call."""

    def __init__(self, policy: RetryPolicy, random: Random, *, repeatable: bool, deadline_s: float) -> None:
        """Begin a call that must end by `deadline_s` on the clock that `wait_after` is told.

        `repeatable` says whether it may be made again after an indefinite error.
        """
        self._policy = policy
        self._random = random
        self._repeatable = repeatable
        self._deadline_s = deadline_s
        self._failures = 0
        self._may_have_happened = False

    def wait_after(self, error: BlockyardError, now_s: float) -> float | None:
        """Return the seconds to wait before the next attempt, None when `error` is the call's answer.

        An answer that only says that this attempt failed is made indefinite when an earlier attempt may have succeeded.
        """
        self._failures += 1
        self._may_have_happened |= not error.definite
        wait = self._wait(error, now_s)
        if wait is None and self._may_have_happened and isinstance(error, WAITING_HELPS):
            error.definite = False
        return wait

    def _wait(self, error: BlockyardError, now_s: float) -> float | None:
        if self._failures >= self._policy.attempts_limit or not self._may_repeat(error):
            return None
        ceiling = min(self._policy.longest_wait_s, self._policy.first_wait_s * 2.0 ** min(self._failures - 1, 60))
        wait = max(ceiling * (0.5 + self._random.random() / 2), error.retry_after_ms / 1000)
        return wait if now_s + wait < self._deadline_s else None

    def _may_repeat(self, error: BlockyardError) -> bool:
        if not isinstance(error, WAITING_HELPS):
            return False
        if isinstance(error, errors.NotLeader) and error.leader is not None:
            return False  # the leader is elsewhere: waiting here does not help
        return error.definite or self._repeatable


def is_repeatable(method: str, request: Any) -> bool:
    """Return whether a call of `/package.Service/Method` may be repeated though it may have happened."""
    return effect(method) != options_pb2.EFFECT_CHANGE or carries_request_id(request)


@cache
def effect(method: str) -> int:
    """Return what a method does to state: a value of the contract's enum `Effect`; a change when it is not known."""
    service, _, short = method.lstrip("/").rpartition("/")
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(f"{service}.{short}")
    except KeyError:
        return options_pb2.EFFECT_CHANGE
    options: Any = descriptor.GetOptions()  # protobuf's stubs know no extensions
    return int(options.Extensions[options_pb2.effect])


def carries_request_id(request: Any) -> bool:
    """Return whether a request names its operation, so that the server knows a repetition."""
    if not isinstance(request, Message):
        return False
    field = request.DESCRIPTOR.fields_by_name.get("request")
    if field is None or field.message_type is None or field.message_type.full_name != "blockyard.v1.RequestId":
        return False
    identity = getattr(request, "request")  # noqa: B009 - the field is known from its descriptor only
    return bool(identity.session and identity.sequence)
