"""Windows: nobody sends without credit, nobody starves, and both ends count the same."""

import pytest
from blockyard.proto.lane.frame import MAX_VALUE, FrameError
from blockyard.proto.lane.window import ReceiveWindow, SendWindow
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 100), st.lists(st.sampled_from(["send", "take", "deliver grant"]), max_size=400))
def test_sender_and_receiver_count_alike(size: int, steps: list[str]) -> None:
    """Model: the messages under way, those not yet taken, and the grants under way; never more than the window."""
    sender, receiver = SendWindow(size), ReceiveWindow(size)
    waiting = taken_since = 0
    grants: list[int] = []
    for step in steps:
        if step == "send" and sender.credit > 0:
            sender.spend()
            receiver.arrived()
            waiting += 1
        elif step == "take" and waiting > 0:
            waiting -= 1
            taken_since += 1
            granted = receiver.taken()
            if granted:
                assert granted == taken_since
                taken_since = 0
                grants.append(granted)
        elif step == "deliver grant" and grants:
            sender.grant(grants.pop(0))
        assert sender.credit + sum(grants) + waiting + taken_since == size


@given(st.integers(1, 1000))
def test_a_sender_never_starves_when_everything_is_taken(size: int) -> None:
    sender, receiver = SendWindow(size), ReceiveWindow(size)
    for _ in range(5 * size):
        sender.spend()
        receiver.arrived()
        sender.grant(receiver.taken())
    assert sender.credit > 0


@given(st.integers(1, 100))
def test_a_message_without_credit_is_refused(size: int) -> None:
    window = ReceiveWindow(size)
    for _ in range(size):
        window.arrived()
    with pytest.raises(FrameError) as caught:
        window.arrived()
    assert caught.value.reason == "credit"


def test_sending_without_credit_is_a_broken_invariant() -> None:
    with pytest.raises(AssertionError):
        SendWindow(0).spend()


def test_grants_do_not_overflow() -> None:
    window = SendWindow(1)
    for _ in range(3):
        window.grant(MAX_VALUE)
    assert window.credit == MAX_VALUE
