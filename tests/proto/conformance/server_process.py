"""A server in a process of its own, to be killed, stopped and started again."""

import asyncio
import os
import selectors
import subprocess
import sys
from pathlib import Path

from tests.proto.conformance.transports import TRANSPORTS, Transport

ROOT = Path(__file__).parents[3]


class ServerProcess:
    """`python -m tests.proto.conformance.server_process TRANSPORT ADDRESS`."""

    def __init__(self, transport: Transport, address: str) -> None:
        command = [sys.executable, "-m", "tests.proto.conformance.server_process", str(transport), address]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            ready = selector.select(30)
        self.address = self._process.stdout.readline().decode().strip() if ready else ""
        if not self.address:
            self.kill()
        assert self.address, "the server did not start"

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it at once; returns when it is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


async def serve(transport: Transport, address: str) -> None:
    """Serve until standard input ends, as it does with the test's process; says on standard output where."""
    async with transport.serving(transport.servicer(), address) as serving:
        print(serving.address, flush=True)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve({str(each): each for each in TRANSPORTS}[sys.argv[1]], sys.argv[2]))
