"""A storage node as a process that tests may kill: the real store and service, without a cluster around.

As a program: `python -m tests.storagenode.service.node_process DIRECTORY NODE PORT`; it says its port when it serves.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from blockyard.proto import failpoints
from blockyard.proto.common_pb2 import Address
from blockyard.proto.lane import ThreadServer
from blockyard.proto.storage_pb2 import ChainNode
from blockyard.storagenode.service import StorageServicer, register
from blockyard.storagenode.store import BlockStore

from tests.storagenode.service.nodes import PATIENCE, SETTINGS, AnyMap
from tests.support.meta_cluster import WITH_PARENT


class NodeProcess:
    """One node; its directory and port stay the same when it is started again."""

    def __init__(self, number: int, directory: Path) -> None:
        self.number = number
        self.directory = directory / f"p{number}"
        self.directory.mkdir()
        self.chain_node = ChainNode(node=number, address=Address(host="127.0.0.1"))  # the first start chooses a port
        self._process: subprocess.Popen[str] | None = None

    def start(self, armed: str = "") -> "NodeProcess":
        """Start it, with failpoints armed, and wait until it serves."""
        assert self._process is None
        port = self.chain_node.address.lane_port
        self._process = subprocess.Popen(
            [*WITH_PARENT, sys.executable, "-m", __name__, str(self.directory), str(self.number), str(port)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            env={**os.environ, failpoints.VARIABLE: armed},
        )
        assert self._process.stdout is not None
        self.chain_node.address.lane_port = int(self._process.stdout.readline())
        return self

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def await_death(self, timeout_s: float = 20.0) -> None:
        """Wait until a failpoint has killed it; fails when none does."""
        assert self._process is not None
        assert self._process.wait(timeout_s) == -signal.SIGKILL
        self._forget()

    def kill(self) -> None:
        """SIGKILL; it may be dead already."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def pause(self) -> None:
        """SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _forget(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None


def main() -> None:
    """Serve until killed."""
    directory, number, port = sys.argv[1:]
    store = BlockStore(Path(directory), SETTINGS)
    store.open()
    server = ThreadServer()
    register(StorageServicer(store, int(number), AnyMap(), patience=PATIENCE), server)
    print(server.listen(f"127.0.0.1:{port}").rpartition(":")[2], flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
