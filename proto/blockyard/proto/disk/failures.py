"""What can be wrong with a data directory. All of these end the process, or keep it from starting.

None of them is an answer to a client, and so none is in the table of errors: after one of them this process answers
nobody. Every message names the thing, says what was found, and what a person is to do.
"""

import errno
from typing import Final

NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
"""Errors of an open that say nothing about the disk: the process has too many files open, and asked it for nothing."""


class StorageFailed(Exception):
    """A write or sync of this disk failed. The process must end: what a later sync says is not to be believed.

    (A failed fsync marks the pages clean, and the next one succeeds without them: Rebello et al., "Can Applications
    Recover from fsync Failures?", USENIX ATC 2020.)
    """


class CorruptStorage(Exception):
    """Something that was once synced does not read as it was written."""


class DirectoryRefused(Exception):
    """This data directory must not be used by this process."""
