"""Which of the marked chunks is rewritten next, and which storage node does it.

Leader-local and pure: time is an argument, nothing is replicated. A new leader knows the marks only; it takes every
chunk for one written to just now, and goes on from there.

A chunk is judged when it has changed since the last look, and again when it has been quiet for twice as long as at the
last judgement. After a failure it is left alone for a while that doubles.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from blockyard.metaserver.cluster.map import MapView
from blockyard.metaserver.compaction import policy
from blockyard.metaserver.compaction.policy import Plan, References
from blockyard.metaserver.namespace import slices
from blockyard.metaserver.namespace.crowded import ChunkName
from blockyard.metaserver.namespace.slices import Piece
from blockyard.proto.ids import SEQUENCE_BITS
from crc32c import crc32c

FIRST_LOOK_S: Final = 1.0
HOPELESS_AFTER_S: Final = 30.0
"""A mark is not taken away before so much quiet: the next write might only bring it back."""
RETRY_S: Final = 1.0
RETRY_MAX_S: Final = 300.0


@dataclass(slots=True)
class _Watched:
    """What this leader knows of a marked chunk."""

    row_crc32c: int
    since_s: float  # when the row was first seen as it is
    look_s: float  # when it is judged again if it stays as it is
    failures: int = 0
    not_before_s: float = 0.0
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at a chunk came to: a plan to carry out, or that no rewriting will ever help, or neither yet."""

    plan: Plan | None = None
    hopeless: bool = False


_NOT_YET: Final = Verdict()


class Chooser:
    """What is known of each marked chunk."""

    def __init__(self) -> None:
        self._watched: dict[ChunkName, _Watched] = {}

    def look(self, name: ChunkName, row: bytes, references: References, now_s: float) -> Verdict:
        """Judge a marked chunk by its row, if it is time to."""
        checksum = crc32c(row)
        watched = self._watched.get(name)
        if watched is None:
            watched = self._watched[name] = _Watched(checksum, now_s, now_s)
        elif watched.row_crc32c != checksum:
            watched.row_crc32c, watched.since_s, watched.look_s = checksum, now_s, now_s
        if watched.busy or now_s < max(watched.look_s, watched.not_before_s):
            return _NOT_YET
        pieces, quiet_s = slices.parse(row), now_s - watched.since_s
        found = policy.plan(pieces, references, quiet_s)
        if found is not None:
            return Verdict(found)
        watched.look_s = now_s + max(FIRST_LOOK_S, quiet_s)
        return Verdict(hopeless=quiet_s >= HOPELESS_AFTER_S and policy.hopeless(pieces, references))

    def begun(self, name: ChunkName) -> None:
        """A chunk is being rewritten: it is not chosen again before `ended`."""
        self._watched[name].busy = True

    def ended(self, name: ChunkName, now_s: float, *, failed: bool) -> None:
        """The rewriting of a chunk is over."""
        watched = self._watched.get(name)
        if watched is None:
            return
        watched.busy = False
        watched.look_s = now_s
        watched.failures = watched.failures + 1 if failed else 0
        if failed:
            watched.not_before_s = now_s + min(RETRY_S * 2 ** (watched.failures - 1), RETRY_MAX_S)

    def keep_only(self, marked: Mapping[ChunkName, object]) -> None:
        """Forget the chunks that are no longer marked and not being rewritten."""
        self._watched = {name: known for name, known in self._watched.items() if name in marked or known.busy}


def choose_node(
    view: MapView, pieces: Sequence[Piece], running: Mapping[int, int], per_node: int, full: Container[int]
) -> int:
    """Return the node to rewrite the pieces: of those that are up and neither full nor busy the one that holds most of
    their bytes; 0 for none.

    `running` are the jobs under way by node; among equals the one with fewest has it, then the lowest id.
    """
    held: dict[int, int] = {}
    by_group = policy.bytes_by_group(pieces, lambda block: block >> SEQUENCE_BITS)
    for group, length in by_group.items():
        if group < len(view.writers):
            for node in view.writers[group]:
                held[node] = held.get(node, 0) + length
    free = [node for node in held if node not in full and running.get(node, 0) < per_node]
    return min(free, key=lambda node: (-held[node], running.get(node, 0), node), default=0)
