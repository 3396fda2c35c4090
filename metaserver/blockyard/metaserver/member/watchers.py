"""Who is told of changes as they are applied: caches that must forget, and readers of the operation log."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Generic, TypeVar

from blockyard.metaserver.member.applier import Applier
from blockyard.metaserver.member.paths import Paths
from blockyard.metaserver.namespace import oplog
from blockyard.metaserver.namespace.machine import Applied
from blockyard.metaserver.raft import LogIndex
from blockyard.proto.metadata_pb2 import OperationLogRequest, OperationRecord, WatchEvent, WatchRequest

QUEUED = 1_000
"""Events that wait for one slow reader; after that it is told that it lost some."""
ROWS_PER_TURN = 500
Item = TypeVar("Item")


class Subscription(Generic[Item]):
    """A bounded queue from the applier to one reader."""

    def __init__(self) -> None:
        self.lost = False
        self._queue: deque[Item] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: Item) -> None:
        """Queue an item, or note that it was lost."""
        if len(self._queue) >= QUEUED:
            self.lost = True
        else:
            self._queue.append(item)
        self._wake()

    def lose(self) -> None:
        """Drop what is queued: it is stale, or there is too much of it."""
        self._queue.clear()
        self.lost = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Item | None:
        """Return the next item, None when some were lost and none is left: the reader then says that it goes on."""
        while not self._queue:
            if self.lost:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._queue.popleft()


class Watchers:
    """Clients that are told which inodes and names others changed."""

    def __init__(self, applier: Applier) -> None:
        self._applier = applier
        self._subscriptions: dict[Subscription[WatchEvent], int] = {}
        self._epoch = 0
        applier.on_entry.append(self._applied)
        applier.on_switch.append(self.lost_everything)

    async def events(self, request: WatchRequest) -> AsyncIterator[WatchEvent]:
        """Yield events until the reader leaves."""
        subscription: Subscription[WatchEvent] = Subscription()
        if not self._subscriptions:
            self._epoch = self._applier.map_epoch()  # nobody listened, so nobody looked
        self._subscriptions[subscription] = request.session
        try:
            yield WatchEvent(map_epoch=self._epoch)
            while True:
                event = await subscription.get()
                if event is None:
                    subscription.lost = False
                    event = WatchEvent(lost=True)
                yield event
        finally:
            del self._subscriptions[subscription]

    def lost_everything(self) -> None:
        """The state was replaced by a snapshot: what changed meanwhile is not known."""
        for subscription in self._subscriptions:
            subscription.lose()

    def _applied(self, index: LogIndex, applied: Applied) -> None:
        if not self._subscriptions:
            return
        epoch = self._applier.map_epoch()
        moved, self._epoch = epoch != self._epoch, epoch
        records = list(oplog.parse(index, applied.log)) if applied.log else []
        for subscription, session in self._subscriptions.items():
            event = _event([record for record in records if not record.errno and record.session != session])
            if moved:
                event.map_epoch = epoch
            if event.inodes or event.parents or moved:
                subscription.put(event)


def _event(records: list[OperationRecord]) -> WatchEvent:
    event = WatchEvent()
    for record in records:
        event.inodes.append(record.inode)
        if record.parent:
            event.parents.append(record.parent)
            event.names.append(record.name)
        if record.new_parent:
            event.parents.append(record.new_parent)
            event.names.append(record.new_name)
    return event


class OperationTail:
    """The operation log as a stream: what is kept, then what comes."""

    def __init__(self, applier: Applier) -> None:
        self._applier = applier
        self._subscriptions: set[Subscription[tuple[LogIndex, bytes]]] = set()
        applier.on_entry.append(self._applied)
        applier.on_switch.append(self._lose)

    async def records(self, request: OperationLogRequest) -> AsyncIterator[OperationRecord]:
        """Yield the rows that are wanted, with names of clients and paths filled in."""
        wanted = _filter(request)
        subscription: Subscription[tuple[LogIndex, bytes]] = Subscription()
        self._subscriptions.add(subscription)
        sent = 0
        try:
            async for record in self._all(subscription, request.follow):
                record.client = self._applier.client_of(record.session)
                if wanted(record):
                    yield record
                    sent += 1
                    if sent == request.limit:
                        return
        finally:
            self._subscriptions.discard(subscription)

    async def _all(
        self, subscription: Subscription[tuple[LogIndex, bytes]], follow: bool
    ) -> AsyncIterator[OperationRecord]:
        """Yield what is kept, then what comes. A reader that was too slow goes on in what is kept."""
        paths = Paths(lambda: self._applier.machine.state)
        seen = (0, -1)
        while True:
            subscription.lost = False
            while page := self._page(seen):
                for record in page:
                    yield paths.fill(record)
                seen = (page[-1].index, page[-1].position)
                await asyncio.sleep(0)
            if not follow:
                return
            while (item := await subscription.get()) is not None:
                for record in oplog.parse(*item):
                    if (record.index, record.position) > seen:
                        yield paths.fill(record)
                        seen = (record.index, record.position)

    def _page(self, seen: tuple[int, int]) -> list[OperationRecord]:
        """Return the next rows that are kept, read at once: between pages a snapshot may replace the state."""
        rows = oplog.read(self._applier.machine.state, seen[0])
        return list(islice((record for record in rows if (record.index, record.position) > seen), ROWS_PER_TURN))

    def _lose(self) -> None:
        for subscription in self._subscriptions:
            subscription.lose()

    def _applied(self, index: LogIndex, applied: Applied) -> None:
        if applied.log:
            for subscription in self._subscriptions:
                subscription.put((index, applied.log))


def _filter(request: OperationLogRequest) -> Callable[[OperationRecord], bool]:
    def wanted(record: OperationRecord) -> bool:
        return (
            record.time_ns >= request.since_ns
            and (not request.HasField("uid") or record.uid == request.uid)
            and record.path.startswith(request.path_prefix)
        )

    return wanted
