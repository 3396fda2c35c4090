"""What can be wrong with a data directory. All of these end the process, or keep it from starting.

None of them is an answer to a client, and so none is in the table of errors: after one of them this process answers
nobody. Every message names the thing, says what was found, and what a person is to do.
"""


class StorageFailed(Exception):
    """A write or sync of this member's disk failed. The process must end: what a later sync says is not to be believed.

    (A failed fsync marks the pages clean, and the next one succeeds without them: Rebello et al., "Can Applications
    Recover from fsync Failures?", USENIX ATC 2020.)
    """


class CorruptStorage(Exception):
    """Something that was once synced does not read as it was written."""


class CorruptLog(CorruptStorage):
    """The Raft log has lost or changed entries that this member may have acknowledged. They are never dropped."""


class CorruptState(CorruptStorage):
    """The namespace's store cannot be read, or does not fit its log."""


class CorruptSnapshot(CorruptStorage):
    """A checkpoint, a received snapshot or a backup is incomplete or fails its checksums."""


class DirectoryRefused(Exception):
    """This data directory must not be used by this process."""


FETCH_FROM_PEER = (
    "Do not delete or repair anything here: move this directory aside, make an empty one, and let this machine join "
    "as a new member (`blockyard meta replace`), so that it gets its content from the other one"
)
"""What to do about a member's disk that can no longer be trusted."""
