"""Where the members are: first from the settings, then from each other; kept in one small file across restarts."""

from collections.abc import Iterable
from pathlib import Path

from blockyard.proto.common_pb2 import Address
from blockyard.proto.disk import sealed_file
from blockyard.proto.raft_pb2 import MEMBER_DATA, MEMBER_WITNESS, GroupMember, Membership

_FILE = "addresses"


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
    """Return what is known: the file's addresses over the settings'."""
    book = {member.id: member for member in founders}
    path = directory / _FILE
    if path.exists():
        book.update((member.id, member) for member in Membership.FromString(sealed_file.read(path)).members)
    return [book[number] for number in sorted(book)]


def save(directory: Path, members: Iterable[GroupMember]) -> None:
    """Keep addresses for the next start; raises OSError."""
    sealed_file.write(directory / _FILE, Membership(members=members).SerializeToString())
