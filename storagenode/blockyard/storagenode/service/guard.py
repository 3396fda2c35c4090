"""What a storage node knows of the cluster, as far as a request must agree with it."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

ChainFailed: TypeAlias = Callable[[int, Sequence[int]], None]
"""Is told of a block and the nodes of its chain that failed, once it is stored on the others. Returns at once."""


class Guard(Protocol):
    """Says whether a request fits the cluster map that the node knows. Called from many threads, and often."""

    def check_write(self, block: int, chain: Sequence[int], map_epoch: int) -> None:
        """Return when the nodes of `chain`, this node first, may be given `block` by a caller with that map.

        Raises StaleEpoch when the caller must fetch a newer map first, InvalidArgument for nodes that do not hold the
        block's placement group.
        """

    def check_holders(self, block: int, chain: Sequence[int]) -> None:
        """Return when the nodes of `chain` hold the block's group under the newest map known here; else StaleEpoch."""

    def learn(self, map_epoch: int) -> None:
        """Know a map of that epoch, or a newer one, when this returns. Raises what stopped the fetching."""

    def check_read(self, block: int, map_epoch: int) -> None:
        """Return when a caller with that map may read `block` here; raises StaleEpoch otherwise."""
