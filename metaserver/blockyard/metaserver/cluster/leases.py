"""Block ids that sessions may give to new blocks.

Ids are given out once and used once: each group counts up, and an id belongs to the session it was given to until the
session spends it in a commit, or ends. So an id that nobody owns and nothing refers to can never come to life again,
which is what makes it safe to drop its block (`fates`), and a block that was committed, died and was forgotten cannot
be committed a second time.

A row per group and session keeps the ranges as rising boundaries (first, end, first, end, …), ranges that touch
joined: whether a session owns a block is one lookup and one bisection. Spent ids leave the row, so a long session does
not grow. A session keeps at most `RANGES_PER_GROUP` ranges in a group; the oldest goes when one more is needed. A
writer that would still commit to that one, some 64 × groups / spread requests later, is refused as if its lease had
expired, and its block is dropped: nothing dangles.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from struct import Struct, pack, unpack
from typing import Final

from blockyard.metaserver.cluster.map import MapView
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Table, Transaction
from blockyard.proto.cluster_pb2 import BlockIdRange, LeaseBlockIdsReply, LeaseBlockIdsRequest
from blockyard.proto.errors import BelowWriteMin, InvalidArgument, NoSpace
from blockyard.proto.ids import SEQUENCE_BITS, SEQUENCE_LIMIT

RANGES_PER_GROUP: Final = 64
LARGEST_LEASE: Final = 100_000
SKIPPED_IDS: Final = 1 << 32
_IDS_PER_GROUP: Final = 8  # a lease takes another group for every so many ids,
_SPREAD: Final = 16  # up to so many
_CHOICES_KEPT: Final = 1024
_SEQUENCE_MASK: Final = SEQUENCE_LIMIT - 1

Boundaries = tuple[int, ...]

_NEXT: Final = Struct(">8sH")
_LEASE: Final = Struct(">9sHQ")
_LEASES_OF_GROUP: Final = Struct(">9sH")
_SESSION: Final = Struct(">11sQ")
_LEASE_NAME: Final = keys.META + b"lease..."


class Leases:
    """The leases of all sessions, over one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self.tx = tx
        self.next: Table[int, int] = Table(
            tx, lambda group: _NEXT.pack(keys.META + b"next...", group), _parse_number, _encode_number, 1 << 16
        )
        self.ranges: Table[tuple[int, int], Boundaries] = Table(
            tx, lambda key: _LEASE.pack(_LEASE_NAME, *key), _parse_boundaries, _encode_boundaries, 1 << 16
        )
        self.groups: Table[int, tuple[int, ...]] = Table(
            tx, lambda session: _SESSION.pack(keys.META + b"leases-of.", session), _parse_groups, _encode_groups, 4096
        )
        self._choices: dict[tuple[int, frozenset[int], frozenset[int]], list[int]] = {}
        self._choices_view: MapView | None = None

    def owned(self, session: int, block: int) -> bool:
        """Return whether the session may commit the block: it was given the id and lives. On the path of commits."""
        boundaries = self.ranges.get((block >> SEQUENCE_BITS, session))
        return boundaries is not None and bisect_right(boundaries, block & _SEQUENCE_MASK) & 1 == 1

    def spend(self, session: int, block: int) -> bool:
        """Return whether the session owns the block, and take it out of the lease: it is committed by this command."""
        key, sequence = (block >> SEQUENCE_BITS, session), block & _SEQUENCE_MASK
        boundaries = self.ranges.get(key)
        if boundaries is None or not (at := bisect_right(boundaries, sequence)) & 1:
            return False
        first, end = boundaries[at - 1], boundaries[at]
        before, after = (first, sequence) if first < sequence else (), (sequence + 1, end) if sequence + 1 < end else ()
        left = (*boundaries[: at - 1], *before, *after, *boundaries[at + 1 :])[-2 * RANGES_PER_GROUP :]
        if left:
            self.ranges.put(key, left)
        else:
            self.ranges.delete(key)
        return True

    def lease(self, view: MapView, request: LeaseBlockIdsRequest, inputs: Sequence[int]) -> LeaseBlockIdsReply:
        """Give ids to the request's session, spread over groups that take writes now.

        Groups with `near_node` are preferred, those with nodes of `avoid_nodes` are used only when there are no
        others. Inputs: a random number, which chooses among equal groups; then ids of nodes that are full.
        Raises InvalidArgument; BelowWriteMin when no group has enough nodes up; NoSpace when they are full.
        """
        if not 1 <= request.count <= LARGEST_LEASE:
            raise InvalidArgument(f"{request.count} block ids were asked for; 1 to {LARGEST_LEASE} can be")
        full = frozenset(inputs[1:])
        groups = self._writable(view, request.near_node, frozenset(request.avoid_nodes), full)
        if not groups:
            what = f"write_min ({view.head.write_min}) nodes"
            if full and self._writable(view, 0, frozenset(), frozenset()):
                raise NoSpace(f"no placement group has {what} that are up and have space")
            raise BelowWriteMin(f"no placement group has {what} up", definite=True, retry_after_ms=1000)
        count, session = request.count, request.request.session
        spread = min(len(groups), _SPREAD, -(-count // _IDS_PER_GROUP))
        start = inputs[0] if inputs else session + request.request.sequence
        chosen = [groups[(start + turn * len(groups) // spread) % len(groups)] for turn in range(spread)]
        ranges = [
            self._give(session, group, count // spread + (turn < count % spread)) for turn, group in enumerate(chosen)
        ]
        return LeaseBlockIdsReply(ranges=ranges, map_epoch=view.epoch)

    def skip_ahead(self, groups: int) -> None:
        """Pass over `SKIPPED_IDS` ids in every group, those that were given out after the state was copied among them.

        A group has 2^48, so it can be restored some 65,000 times. 2^32 is more blocks than one group of a large
        cluster gets between two backups: a million a second, all in this one, for more than an hour.
        """
        for group in range(groups):
            self.next.put(group, (self.next.get(group) or 1) + SKIPPED_IDS)

    def end_session(self, session: int) -> None:
        """Take back everything a session owns. Its blocks that nothing refers to are orphans from now on."""
        for group in self.groups.get(session) or ():
            self.ranges.delete((group, session))
        self.groups.delete(session)

    def sessions_in(self, group: int) -> Iterator[int]:
        """Yield every session that owns ids in a group."""
        prefix = _LEASES_OF_GROUP.pack(_LEASE_NAME, group)
        stored = {int.from_bytes(key[-8:], "big") for key, _ in self.tx.scan_prefix(prefix)}
        recent = {name[1] for names in (self.ranges.dirty, self.ranges.pending) for name in names if name[0] == group}
        for session in sorted(stored | recent):
            if self.ranges.get((group, session)):
                yield session

    def _writable(self, view: MapView, near: int, avoid: frozenset[int], full: frozenset[int]) -> list[int]:
        """Return the most welcome of the groups that take writes, rising."""
        if view is not self._choices_view or len(self._choices) >= _CHOICES_KEPT:
            self._choices.clear()
            self._choices_view = view
        key = (near, avoid, full)
        if key not in self._choices:
            self._choices[key] = _most_welcome(view, near, avoid, full)
        return self._choices[key]

    def _give(self, session: int, group: int, count: int) -> BlockIdRange:
        first = self.next.get(group) or 1
        end = first + count
        if end > SEQUENCE_LIMIT:
            raise NoSpace(f"placement group {group} has given out all of its block ids")
        self.next.put(group, end)
        owned = self.ranges.get((group, session))
        if owned is None:
            of_session = self.groups.get(session) or ()
            self.groups.put(session, tuple(sorted({*of_session, group})))
            owned = ()
        joined = (*owned[:-1], end) if owned and owned[-1] == first else (*owned, first, end)
        self.ranges.put((group, session), joined[-2 * RANGES_PER_GROUP :])
        return BlockIdRange(group=group, first_sequence=first, count=count)


def _most_welcome(view: MapView, near: int, avoid: frozenset[int], full: frozenset[int]) -> list[int]:
    write_min = view.head.write_min
    classes: dict[tuple[bool, int, bool], list[int]] = {}
    for group, writers in enumerate(view.writers):
        usable = [node for node in writers if node not in full]
        if len(usable) < write_min:
            continue
        avoided = sum(node in avoid for node in usable)
        rank = (len(usable) - avoided < write_min, avoided, near != 0 and near not in usable)
        classes.setdefault(rank, []).append(group)
    return classes[min(classes)] if classes else []


def _parse_number(row: bytes) -> int:
    return int.from_bytes(row, "big")


def _encode_number(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _parse_boundaries(row: bytes) -> Boundaries:
    return unpack(f">{len(row) // 8}Q", row)


def _encode_boundaries(boundaries: Boundaries) -> bytes:
    return pack(f">{len(boundaries)}Q", *boundaries)


def _parse_groups(row: bytes) -> tuple[int, ...]:
    return unpack(f">{len(row) // 2}H", row)


def _encode_groups(groups: tuple[int, ...]) -> bytes:
    return pack(f">{len(groups)}H", *groups)
