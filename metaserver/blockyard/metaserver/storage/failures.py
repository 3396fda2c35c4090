"""What can be wrong with a metadata server's data directory, beside what `proto.disk.failures` names for all."""

from blockyard.proto.disk.failures import CorruptStorage


class CorruptLog(CorruptStorage):
    """The Raft log has lost or changed entries that this member may have acknowledged. They are never dropped."""


class CorruptState(CorruptStorage):
    """The namespace's store cannot be read, or does not fit its log."""


class CorruptSnapshot(CorruptStorage):
    """A checkpoint, a received snapshot or a backup is incomplete or fails its checksums."""


FETCH_FROM_PEER = (
    "Do not delete or repair anything here: move this directory aside, make an empty one, and let this machine join "
    "as a new member (`blockyard meta replace`), so that it gets its content from the other one"
)
"""What to do about a member's disk that can no longer be trusted."""
