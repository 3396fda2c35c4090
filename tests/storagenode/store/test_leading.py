"""Whoever waits for the log's leader is woken, whatever becomes of the round."""

import threading
from pathlib import Path

from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.store.log import Append, Log, NewRecord, View

from tests.proto.lane.peers import wait_until


class Caller(threading.Thread):
    """Submits one append and keeps what it was told."""

    def __init__(self, log: Log, append: Append) -> None:
        super().__init__(daemon=True)
        self.told: Exception | None = None
        self._log = log
        self._append = append
        self.start()

    def run(self) -> None:
        try:
            self._log.submit(self._append)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.told = error


def test_a_mistake_in_one_append_leaves_nobody_waiting(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    store.open()
    log, leading, go_on = store._log, threading.Event(), threading.Event()

    def hold(view: View) -> list[NewRecord]:
        leading.set()
        assert go_on.wait(30)
        return []

    def fail(view: View) -> list[NewRecord]:
        raise RuntimeError("a mistake")

    callers = [Caller(log, Append(hold, durable=False))]
    assert leading.wait(30)
    callers.append(Caller(log, Append(fail, durable=True)))
    wait_until(lambda: len(log._queue) == 1, "it was not queued")
    callers.append(Caller(log, Append(lambda view: (), durable=True)))
    wait_until(lambda: len(log._queue) == 2, "it was not queued")
    go_on.set()
    for caller in callers:
        caller.join(10)
    assert [caller.is_alive() for caller in callers] == [False] * 3
    assert [type(caller.told) for caller in callers] == [type(None), RuntimeError, RuntimeError]
    log.sync()
    store.close()
