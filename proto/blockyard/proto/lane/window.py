"""Paces a stream: how many messages may be sent, and when the receiver grants more. Pure."""

from blockyard.proto.lane.frame import MAX_VALUE, FrameError


class SendWindow:
    """Messages that may still be sent on one stream."""

    __slots__ = ("credit",)

    def __init__(self, credit: int) -> None:
        self.credit = credit

    def grant(self, messages: int) -> None:
        """The receiver allows `messages` more."""
        self.credit = min(self.credit + messages, MAX_VALUE)

    def spend(self) -> None:
        """One message was sent; there was credit for it."""
        assert self.credit > 0, "sent a stream message without credit"
        self.credit -= 1


class ReceiveWindow:
    """Messages that the sender of one stream may still send; half of them are granted anew at a time."""

    __slots__ = ("_allowed", "_size", "_taken")

    def __init__(self, size: int) -> None:
        self._size = size
        self._allowed = size
        self._taken = 0

    def arrived(self) -> None:
        """One message came; raises FrameError when the sender had no credit for it."""
        if self._allowed == 0:
            raise FrameError("credit", f"more than {self._size} stream messages without credit")
        self._allowed -= 1

    def taken(self) -> int:
        """The application took one message. Return how many to grant now, usually 0."""
        self._taken += 1
        if self._taken * 2 < self._size:
            return 0
        grant, self._taken = self._taken, 0
        self._allowed += grant
        return grant
