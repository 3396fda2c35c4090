"""What the two ends tell each other beside calls: which version to speak, what they accept, what is wrong. Pure."""

from dataclasses import dataclass

from blockyard.proto import errors
from blockyard.proto.common_pb2 import ErrorDetail
from blockyard.proto.lane import frame
from blockyard.proto.lane.frame import FrameError, Limits
from blockyard.proto.lane_pb2 import LaneHello
from google.protobuf.message import DecodeError

SOFTWARE = "blockyard"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both ends agreed on."""

    version: int
    peer: Limits
    """What the other end accepts."""
    software: str
    """The other end's software, for logs."""


def hello(limits: Limits) -> bytes:
    """Return this end's first frame."""
    message = LaneHello(
        oldest_version=frame.OLDEST_VERSION,
        newest_version=frame.NEWEST_VERSION,
        max_message_bytes=limits.max_message_bytes,
        max_payload_bytes=limits.max_payload_bytes,
        stream_window=limits.stream_window,
        max_calls=limits.max_calls,
        software=SOFTWARE,
    )
    return frame.encode(frame.HELLO, 0, message.SerializeToString())


def agree(kind: int, message: bytes) -> Agreement:
    """Read the other end's first frame; raises VersionMismatch or MalformedRequest where there is no agreement."""
    if kind != frame.HELLO:
        raise errors.MalformedRequest(f"a lane connection begins with HELLO; frame kind {kind} came first")
    try:
        peer = LaneHello.FromString(message)
    except DecodeError as error:
        raise errors.MalformedRequest("the lane's HELLO does not parse") from error
    version = min(peer.newest_version, frame.NEWEST_VERSION)
    if version < max(peer.oldest_version, frame.OLDEST_VERSION):
        raise errors.VersionMismatch(
            f"the peer speaks lane versions {peer.oldest_version} to {peer.newest_version}, this process "
            f"{frame.OLDEST_VERSION} to {frame.NEWEST_VERSION}: upgrade the older one"
        )
    if peer.stream_window < 1 or peer.max_calls < 1:
        raise errors.MalformedRequest("the peer's HELLO allows no calls")
    accepted = Limits(peer.max_message_bytes, peer.max_payload_bytes, peer.stream_window, peer.max_calls)
    return Agreement(version, accepted, peer.software)


def check_outgoing(limits: Limits, message_bytes: int, payload_bytes: int) -> None:
    """Refuse, before it is sent, what the other end would refuse; raises TooLarge."""
    if message_bytes > limits.max_message_bytes:
        raise errors.TooLarge(f"a message of {message_bytes:,} bytes; the peer accepts {limits.max_message_bytes:,}")
    if payload_bytes > limits.max_payload_bytes:
        raise errors.TooLarge(f"a payload of {payload_bytes:,} bytes; the peer accepts {limits.max_payload_bytes:,}")


def error_in(message: bytes) -> errors.BlockyardError:
    """Return the error that an ERROR or GOAWAY frame carries."""
    try:
        return errors.from_detail(ErrorDetail.FromString(message))
    except DecodeError:
        return errors.MalformedReply("the peer sent an error that does not parse")


def farewell() -> errors.BlockyardError:
    """Return what a server that stops tells its callers."""
    return errors.ShuttingDown("this server is shutting down; ask another")


def refused(address: str, error: Exception) -> errors.BlockyardError:
    """Return what a caller hears when no connection to `address` came about: nothing has left, so it is definite."""
    if isinstance(error, errors.VersionMismatch | errors.ShuttingDown | errors.Overloaded | errors.Unavailable):
        return error
    return errors.Unavailable(f"{address} is no lane server that answers: {error or type(error).__name__}", address)


def refusal(error: FrameError) -> errors.BlockyardError:
    """Return what a peer is told about bytes that are no acceptable frame."""
    kind = errors.TooLarge if error.reason.endswith("_length") else errors.MalformedRequest
    return kind(str(error))
