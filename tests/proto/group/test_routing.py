"""Where a call goes next, and when: no clock, no socket."""

from random import Random

import pytest
from blockyard.proto import errors
from blockyard.proto.common_pb2 import Address
from blockyard.proto.group.routing import ELSEWHERE, Errand, Route
from blockyard.proto.raft_pb2 import ROLE_FOLLOWER, ROLE_LEADER, GroupMember, MemberRole, MemberStatus, MetaStatusReply

A, B, C = "a:1", "b:2", "c:3"


def status(role: MemberRole, *addresses: tuple[str, int]) -> MetaStatusReply:
    members = [MemberStatus(member=GroupMember(address=Address(host=h, lane_port=p))) for h, p in addresses]
    return MetaStatusReply(role=role, members=members)


def hint(host: str, port: int) -> errors.NotLeader:
    return errors.NotLeader("elsewhere", leader=Address(host=host, lane_port=port))


def errand(deadline_s: float = 30.0, repeatable: bool = True) -> Errand:
    return Errand(Random(1), repeatable=repeatable, deadline_s=deadline_s)


def test_only_who_says_that_it_leads_is_taken_for_the_leader() -> None:
    route = Route([A, B])
    assert not route.heard(A, status(ROLE_FOLLOWER))
    assert route.leader == ""
    assert route.heard(B, status(ROLE_LEADER, ("b", 2), ("c", 3)))
    assert route.leader == B


def test_the_leader_says_who_the_members_are_and_what_the_settings_say_is_kept() -> None:
    route = Route([A, B])
    route.heard(B, status(ROLE_LEADER, ("b", 2), ("c", 3), ("", 0)))
    assert list(route.members) == [A, B, C]
    route.heard(B, status(ROLE_LEADER, ("b", 2)))
    assert list(route.members) == [A, B], "who was removed is forgotten, unless the settings name it"


def test_a_hint_is_followed_at_once() -> None:
    route, call = Route([A, B]), errand()
    route.heard(A, status(ROLE_LEADER))
    error = hint("b", 2)
    route.failed(A, error)
    assert route.leader == B
    assert call.wait_after(error, 0.0) == 0.0


def test_members_that_send_callers_round_are_given_time() -> None:
    call = errand()
    waits = [call.wait_after(hint("a" if i % 2 else "b", 1), 0.0) for i in range(5)]
    assert waits[:3] == [0.0, 0.0, 0.0]
    assert waits[3] is not None
    assert waits[3] > 0


def test_hints_end_with_the_deadline() -> None:
    assert errand(deadline_s=1.0).wait_after(hint("b", 2), 1.0) is None


@pytest.mark.parametrize("error", ELSEWHERE)
def test_who_does_not_answer_is_no_longer_the_leader(error: type[errors.BlockyardError]) -> None:
    route = Route([A, B])
    route.heard(A, status(ROLE_LEADER))
    route.failed(A, error())
    assert route.leader == ""


def test_an_answer_is_no_reason_to_look_for_another_leader() -> None:
    route = Route([A, B])
    route.heard(A, status(ROLE_LEADER))
    for error in (errors.Exists(), errors.Overloaded(), errors.UnknownNode()):
        route.failed(A, error)
        assert route.leader == A


def test_the_failure_of_a_former_leader_does_not_touch_the_new_one() -> None:
    route = Route([A, B])
    route.heard(A, status(ROLE_LEADER))
    route.heard(B, status(ROLE_LEADER))
    route.failed(A, errors.ConnectionLost())
    assert route.leader == B


def test_what_may_have_happened_is_repeated_only_when_that_is_safe() -> None:
    assert errand(repeatable=True).wait_after(errors.ConnectionLost(), 0.0) is not None
    assert errand(repeatable=False).wait_after(errors.ConnectionLost(), 0.0) is None
    assert errand(repeatable=False).wait_after(errors.Unavailable(), 0.0) is not None


def test_an_answer_ends_the_call() -> None:
    for error in (errors.Exists(), errors.StaleIncarnation(), errors.DeadlineExceeded()):
        assert errand().wait_after(error, 0.0) is None


def test_a_search_that_finds_nobody_says_what_each_said() -> None:
    error = Route([A, B]).nobody_leads({A: "does not lead"})
    assert "a:1: does not lead; b:2: no answer in time" in error.message


def test_a_group_without_addresses_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one address"):
        Route([])
