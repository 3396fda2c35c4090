"""A call is made again only when that is safe and may help, and never past its deadline."""

from random import Random

import pytest
from blockyard.proto import errors, options_pb2, raft_pb2
from blockyard.proto.cluster_pb2 import LeaseBlockIdsRequest
from blockyard.proto.common_pb2 import Address, RequestId
from blockyard.proto.metadata_pb2 import GetAttributesRequest
from blockyard.proto.probe_pb2 import ProbeRequest
from blockyard.proto.retry import (
    WAITING_HELPS,
    Retry,
    RetryPolicy,
    carries_request_id,
    effect,
    is_repeatable,
)
from hypothesis import given
from hypothesis import strategies as st

POLICY = RetryPolicy(attempts_limit=10, first_wait_s=0.1, longest_wait_s=1.0)


def retry(*, repeatable: bool = True, deadline_s: float = 1e9, seed: int = 1, policy: RetryPolicy = POLICY) -> Retry:
    return Retry(policy, Random(seed), repeatable=repeatable, deadline_s=deadline_s)


@pytest.mark.parametrize("cls", errors.TABLE.values(), ids=errors.TABLE)
@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("definite", [True, False])
def test_every_error_class_is_retried_exactly_when_waiting_helps_and_repeating_is_safe(
    cls: type[errors.BlockyardError], repeatable: bool, definite: bool
) -> None:
    wait = retry(repeatable=repeatable).wait_after(cls(definite=definite), 0.0)
    assert (wait is not None) == (cls in WAITING_HELPS and (definite or repeatable))


def test_a_leader_that_is_elsewhere_is_not_waited_for() -> None:
    assert retry().wait_after(errors.NotLeader(), 0.0) is not None
    assert retry().wait_after(errors.NotLeader(leader=Address(host="b", lane_port=1)), 0.0) is None


def test_attempts_end_at_their_limit() -> None:
    calls = retry(policy=RetryPolicy(attempts_limit=3))
    waits = [calls.wait_after(errors.Unavailable(), 0.0) for _ in range(3)]
    assert [wait is not None for wait in waits] == [True, True, False]


@given(st.integers(), st.lists(st.just(errors.Unavailable()), min_size=1, max_size=9))
def test_waits_grow_to_the_longest_and_stay_in_the_upper_half(seed: int, failures: list[errors.BlockyardError]) -> None:
    calls = retry(seed=seed)
    for number, error in enumerate(failures):
        ceiling = min(1.0, 0.1 * 2**number)
        wait = calls.wait_after(error, 0.0)
        assert wait is not None
        assert ceiling / 2 <= wait <= ceiling


def test_the_same_seed_waits_the_same() -> None:
    first, second = retry(seed=7), retry(seed=7)
    assert [first.wait_after(errors.Overloaded(), 0.0) for _ in range(5)] == [
        second.wait_after(errors.Overloaded(), 0.0) for _ in range(5)
    ]


def test_what_may_have_happened_at_one_attempt_may_have_happened_at_all() -> None:
    calls = retry(deadline_s=1.0)
    assert calls.wait_after(errors.ConnectionLost(), 0.0) is not None
    last = errors.Unavailable()
    assert calls.wait_after(last, 0.99) is None
    assert not last.definite, "the first attempt may have been carried out"
    answer = errors.Exists()
    assert calls.wait_after(answer, 0.99) is None
    assert answer.definite, "what the server answers is the operation's outcome"


def test_the_servers_advice_is_the_least_wait() -> None:
    wait = retry().wait_after(errors.Overloaded(retry_after_ms=5_000), 0.0)
    assert wait == 5.0


def test_a_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    assert retry(deadline_s=10.0).wait_after(errors.Overloaded(retry_after_ms=2_000), 9.0) is None
    assert retry(deadline_s=10.0).wait_after(errors.Overloaded(retry_after_ms=2_000), 7.0) == 2.0


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("/blockyard.v1.Probe/Echo", options_pb2.EFFECT_READ),
        ("/blockyard.v1.Cluster/LeaseBlockIds", options_pb2.EFFECT_CHANGE),
        ("/blockyard.v1.Raft/Step", options_pb2.EFFECT_LOCAL),
        ("/blockyard.v1.Nothing/Known", options_pb2.EFFECT_CHANGE),
    ],
)
def test_a_methods_effect_is_read_from_the_contract(method: str, expected: int) -> None:
    assert raft_pb2.DESCRIPTOR.services_by_name["Raft"]  # the contract is loaded
    assert effect(method) == expected


def test_reads_may_be_repeated_and_changes_only_under_a_request_id() -> None:
    change = "/blockyard.v1.Cluster/LeaseBlockIds"
    assert is_repeatable("/blockyard.v1.Probe/Echo", ProbeRequest())
    assert not is_repeatable(change, LeaseBlockIdsRequest())
    assert not is_repeatable(change, LeaseBlockIdsRequest(request=RequestId(session=0, sequence=1)))
    assert is_repeatable(change, LeaseBlockIdsRequest(request=RequestId(session=5, sequence=1)))


def test_only_a_field_of_the_contracts_type_is_a_request_id() -> None:
    assert not carries_request_id(ProbeRequest(body=b"request"))
    assert not carries_request_id(b"bytes")
    assert not carries_request_id(GetAttributesRequest())


@pytest.mark.parametrize("bad", [{"attempts_limit": 0}, {"first_wait_s": 0}, {"first_wait_s": 3, "longest_wait_s": 1}])
def test_a_policy_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="retry policy"):
        RetryPolicy(**bad)  # type: ignore[arg-type]
