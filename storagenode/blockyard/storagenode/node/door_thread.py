"""The gRPC server of a process that is otherwise made of threads: its event loop has a thread of its own."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import uvloop
from blockyard.proto.door import DoorServer
from blockyard.proto.metrics import TransportMetrics
from blockyard.proto.settings import Door


class DoorThread:
    """A `DoorServer` whose servicers' plain methods run on worker threads."""

    def __init__(self, settings: Door, metrics: TransportMetrics, workers: int) -> None:
        self._settings = settings
        self._metrics = metrics
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="door")
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="door", daemon=True)
        self._server: DoorServer | None = None

    def start(self, register: Callable[[DoorServer], None], host: str, port: int) -> int:
        """Serve what `register` registers on `host`; return the port (0 chooses one). Raises OSError if it is taken."""

        async def begin() -> int:
            server = DoorServer(self._settings, workers=self._workers, metrics=self._metrics)
            register(server)
            bound = server.listen_tcp(host, port)
            await server.start()
            self._server = server
            return bound

        self._thread.start()
        return asyncio.run_coroutine_threadsafe(begin(), self._loop).result()

    @property
    def calls(self) -> int:
        """Calls under way."""
        return self._server.calls_under_way if self._server is not None else 0

    def stop(self, grace_s: float) -> None:
        """Take no new calls, let those under way finish for `grace_s` seconds, then cut the rest off."""
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.stop(grace_s), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._workers.shutdown(wait=False, cancel_futures=True)
