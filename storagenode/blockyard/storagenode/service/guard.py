"""What a storage node knows of the cluster, as far as a request must agree with it."""

from collections.abc import Sequence
from typing import Protocol


class Guard(Protocol):
    """Says whether a request fits the cluster map that the node knows. Called from many threads, and often."""

    def check_write(self, block: int, chain: Sequence[int], map_epoch: int) -> None:
        """Return when the nodes of `chain`, this node first, may be given `block` by a caller with that map.

        Raises StaleEpoch when the caller must fetch a newer map first, InvalidArgument for nodes that do not hold the
        block's placement group.
        """

    def check_read(self, block: int, map_epoch: int) -> None:
        """Return when a caller with that map may read `block` here; raises StaleEpoch otherwise."""
