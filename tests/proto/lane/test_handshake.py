"""The first frames: processes of any age agree, or say why not."""

import pytest
from blockyard.proto import errors
from blockyard.proto.lane import frame, handshake
from blockyard.proto.lane.frame import FrameDecoder, FrameError, Kind, Limits
from blockyard.proto.lane_pb2 import LaneHello
from hypothesis import given
from hypothesis import strategies as st


def hello(oldest: int = 1, newest: int = 1, window: int = 64, calls: int = 10) -> bytes:
    """Return the message of a HELLO."""
    message = LaneHello(oldest_version=oldest, newest_version=newest, stream_window=window, max_calls=calls)
    return message.SerializeToString()


def test_two_of_this_process_agree_on_what_each_accepts() -> None:
    limits = Limits(111, 222, 33, 44)
    (item,) = FrameDecoder(Limits()).feed(handshake.hello(limits))
    agreement = handshake.agree(item.kind, item.message)
    assert (agreement.version, agreement.peer, agreement.software) == (frame.NEWEST_VERSION, limits, "blockyard")


def test_a_hello_is_framed_as_version_one_for_ever() -> None:
    assert handshake.hello(Limits())[2] == 1


@given(st.integers(0, 5), st.integers(0, 5))
def test_the_newest_shared_version_is_spoken_or_none(oldest: int, newest: int) -> None:
    shared = set(range(oldest, newest + 1)) & set(range(frame.OLDEST_VERSION, frame.NEWEST_VERSION + 1))
    if shared:
        assert handshake.agree(frame.HELLO, hello(oldest, newest)).version == max(shared)
    else:
        with pytest.raises(errors.VersionMismatch):
            handshake.agree(frame.HELLO, hello(oldest, newest))


@given(st.binary(max_size=200))
def test_any_hello_agrees_or_is_refused(message: bytes) -> None:
    try:
        agreement = handshake.agree(frame.HELLO, message)
    except (errors.VersionMismatch, errors.MalformedRequest):
        return
    assert agreement.peer.stream_window >= 1
    assert agreement.peer.max_calls >= 1


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind != Kind.HELLO])
def test_another_frame_first_is_refused(kind: Kind) -> None:
    with pytest.raises(errors.MalformedRequest, match="begins with HELLO"):
        handshake.agree(int(kind), hello())


@pytest.mark.parametrize(("window", "calls"), [(0, 1), (1, 0)])
def test_a_peer_that_allows_nothing_is_refused(window: int, calls: int) -> None:
    with pytest.raises(errors.MalformedRequest, match="allows no calls"):
        handshake.agree(frame.HELLO, hello(window=window, calls=calls))


def test_unknown_fields_of_a_newer_hello_are_no_obstacle() -> None:
    assert handshake.agree(frame.HELLO, hello(newest=9) + b"\xa2\x06\x03new").version == frame.NEWEST_VERSION


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_what_the_peer_would_refuse_is_not_sent(message_bytes: int, payload_bytes: int) -> None:
    limits = Limits(max_message_bytes=1000, max_payload_bytes=2000)
    if message_bytes <= 1000 and payload_bytes <= 2000:
        handshake.check_outgoing(limits, message_bytes, payload_bytes)
    else:
        with pytest.raises(errors.TooLarge):
            handshake.check_outgoing(limits, message_bytes, payload_bytes)


@given(st.binary(max_size=100))
def test_any_error_message_is_read_as_some_error(message: bytes) -> None:
    assert isinstance(handshake.error_in(message), errors.BlockyardError)


def test_a_length_over_the_limit_is_told_as_too_large_and_the_rest_as_malformed() -> None:
    assert type(handshake.refusal(FrameError("payload_length", "big"))) is errors.TooLarge
    assert type(handshake.refusal(FrameError("magic", "GET"))) is errors.MalformedRequest
