"""Creates from several callers at once, with a manifest of what was acknowledged.

Callers retry under the same request id until they are answered, so when they have stopped nothing is unknown: the
directory holds what the manifest holds, no more and no less, each name with the inode that its caller was told.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from types import TracebackType

from tests.support.group_client import ROOT, GroupClient
from tests.support.meta_cluster import MetaCluster, until


class Load:
    """Callers that make files until they are told to stop; to be used as a context manager."""

    def __init__(
        self, clients: Sequence[GroupClient], callers_per_client: int = 4, parent: int = ROOT, pace_s: float = 0.004
    ) -> None:
        """`pace_s` is how long each caller rests between two creates, so that the directory stays small."""
        self.acknowledged: dict[str, int] = {}
        self.longest_gap_s = 0.0
        """Longest time between two acknowledgements, of all callers together."""
        self._clients = clients
        self._callers = callers_per_client
        self._parent = parent
        self._pace_s = pace_s
        self._numbers = itertools.count()
        self._stopping = False
        self._last_s = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    async def __aenter__(self) -> "Load":
        for client in self._clients:
            self._tasks += [asyncio.create_task(self._call(client)) for _ in range(self._callers)]
        await self.more(50)
        self.longest_gap_s = 0.0
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def more(self, count: int = 100, timeout_s: float = 15.0) -> None:
        """Wait until `count` more changes were acknowledged."""
        wanted = len(self.acknowledged) + count

        async def enough() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()  # raises what a caller was told that it should not have been told
            return len(self.acknowledged) >= wanted

        await until(enough, f"{count} more changes are acknowledged", timeout_s)

    def rest(self) -> None:
        """Begin nothing new until `go_on`."""
        self._may_go_on.clear()

    def go_on(self) -> None:
        self._may_go_on.set()

    async def stop(self) -> None:
        """Let every caller finish what it asked for; raises what any of them met."""
        self.go_on()
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def verify(self, cluster: MetaCluster, sound: bool = True) -> None:
        """Demand the manifest of every running data member, and that all are sound and equal."""
        await cluster.in_step()
        for member in cluster.data:
            if member.running:
                entries = await self._clients[0].list(self._parent, member.address)
                found = {entry.name.decode(): entry.inode for entry in entries if entry.name.startswith(b"load-")}
                missing = self.acknowledged.keys() - found.keys()
                assert not missing, f"member {member.id} lost {len(missing)} acknowledged files: {sorted(missing)[:5]}"
                assert found == self.acknowledged, f"member {member.id} has files that nobody was told of"
        if sound:
            await cluster.assert_sound()

    async def _call(self, client: GroupClient) -> None:
        while not self._stopping:
            name = f"load-{next(self._numbers)}"
            self.acknowledged[name] = await client.create(name, self._parent)
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - self._last_s)
            self._last_s = now
            await asyncio.sleep(self._pace_s)
            await self._may_go_on.wait()
