"""The lists of a group's blocks, fetched page by page; a list that breaks off ends early, and that is noted."""

from collections.abc import Iterable, Iterator

from blockyard.proto import errors, logs
from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.upkeep.peers import LISTED_AT_ONCE, Peers
from blockyard.storagenode.upkeep.windows import Entries, rising

_log = logs.get(__name__)


class Lists:
    """One walk through the lists of one group."""

    def __init__(self, store: BlockStore, peers: Peers, group: int, unheard: set[int]) -> None:
        """A node whose list breaks off is added to `unheard`."""
        self.whole = True
        """Whether no list has broken off so far."""
        self._store = store
        self._peers = peers
        self._group = group
        self._unheard = unheard

    def of(self, nodes: Iterable[int]) -> dict[int, Iterator[Entries]]:
        """Return the lists of other nodes, and this node's own, by node."""
        return {**{node: self._heard(node) for node in nodes}, self._peers.me: own_pages(self._store, self._group)}

    def _heard(self, node: int) -> Iterator[Entries]:
        try:
            yield from rising(self._peers.pages(node, self._group), self._group)
        except errors.BlockyardError as error:
            self.whole = False
            self._unheard.add(node)
            _log.info("list_broken", group=self._group, node=node, why=error)


def own_pages(store: BlockStore, group: int) -> Iterator[Entries]:
    """Yield the pages of this node's own list of a group."""
    after = 0
    while page := store.list(group, after, LISTED_AT_ONCE):
        yield page
        after = page[-1][0]
