"""Where the members are: first from the settings, then from each other; kept in one small file across restarts.

What members said of themselves is newer than the settings of another, until somebody changes those: an address that
differs from what the settings said at the last start is what an operator wants now.
"""

from collections.abc import Iterable
from pathlib import Path

from blockyard.proto.common_pb2 import Address
from blockyard.proto.disk import sealed_file
from blockyard.proto.raft_pb2 import MEMBER_DATA, MEMBER_WITNESS, GroupMember, Membership

_FILE = "addresses"
_SETTINGS = "addresses-of-settings"


def parse_member(text: str) -> GroupMember:
    """Read `ID@HOST:PORT` or `ID@HOST:PORT/witness`, as the settings name a member; raises ValueError."""
    number, at, rest = text.partition("@")
    address, _, role = rest.partition("/")
    host, colon, port = address.rpartition(":")
    if not at or not colon or role not in ("", "witness"):
        raise ValueError(f"{text!r}: a member is ID@HOST:PORT or ID@HOST:PORT/witness")
    kind = MEMBER_WITNESS if role else MEMBER_DATA
    return GroupMember(id=int(number), kind=kind, address=Address(host=host.strip("[]"), lane_port=int(port)))


def load(directory: Path, founders: Iterable[GroupMember]) -> list[GroupMember]:
    """Return what is known: the file's addresses over the settings', but for those that the settings have changed.

    Notes what the settings say now, for the next start. Raises OSError and what `sealed_file.read` does.
    """
    settings = {member.id: member for member in founders}
    before = _read(directory / _SETTINGS)
    book = settings | _read(directory / _FILE)
    for number, member in settings.items():
        if number in before and before[number].address != member.address:
            book[number] = member
    if before != settings:
        _write(directory / _SETTINGS, settings.values())
    return [book[number] for number in sorted(book)]


def save(directory: Path, members: Iterable[GroupMember]) -> None:
    """Keep addresses for the next start; raises OSError."""
    _write(directory / _FILE, members)


def _read(path: Path) -> dict[int, GroupMember]:
    if not path.exists():
        return {}
    return {member.id: member for member in Membership.FromString(sealed_file.read(path)).members}


def _write(path: Path, members: Iterable[GroupMember]) -> None:
    sealed_file.write(path, Membership(members=members).SerializeToString())
