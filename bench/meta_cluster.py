"""A metadata group of two data members and a witness as processes on this machine, and a bare client of it."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
from blockyard.proto import errors
from blockyard.proto.common_pb2 import Caller, RequestId
from blockyard.proto.lane import AioChannel, Channel
from blockyard.proto.metadata_pb2 import CreateRequest, LookupRequest, OpenSessionRequest
from blockyard.proto.metadata_pb2_grpc import MetadataStub
from blockyard.proto.raft_pb2 import ROLE_LEADER, MetaStatusReply, MetaStatusRequest
from blockyard.proto.raft_pb2_grpc import MetaAdminStub

ROOT_USER = Caller(uid=0, gid=0)
WINDOW = 1_000
_SETTINGS = """
[cluster]
id = "{cluster}"
metaservers = [{addresses}]
[metaserver]
member = {member}
role = "{role}"
group = [{group}]
data_dir = "{directory}"
[listen]
host = "127.0.0.1"
lane_port = {port}
grpc_port = {grpc_port}
[metrics]
enabled = false
[logs]
level = "warning"
"""


class MetaProcess:
    """One member as a process."""

    def __init__(self, number: int, port: int, config: Path) -> None:
        self.number = number
        self.address = f"127.0.0.1:{port}"
        self.config = config
        self.data = config.parent / f"data{number}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start serving."""
        command = [sys.executable, "-m", "blockyard.metaserver", "serve", "--config", str(self.config)]
        with open(self.config.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def signal(self, number: int) -> None:
        """Send a signal; SIGKILL also waits for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self.process is not None
        return self.process.pid

    def status(self, timeout_s: float = 1.0) -> MetaStatusReply | None:
        """Return how it says it is, None when it does not answer."""
        try:
            with Channel(self.address, timeout_s=timeout_s, connect_timeout_s=timeout_s) as channel:
                reply: MetaStatusReply = MetaAdminStub(cast(grpc.Channel, channel)).Status(MetaStatusRequest())
                return reply
        except errors.BlockyardError:
            return None

    def resident_bytes(self) -> int:
        """Return the memory it has resident."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def disk_bytes(self) -> int:
        """Return the bytes its data directory takes on disk."""
        return sum(path.stat().st_blocks * 512 for path in self.data.rglob("*") if path.is_file())


class MetaCluster:
    """Members 1 and 2 with data, member 3 as witness."""

    def __init__(self, directory: Path) -> None:
        ports = _free_ports(6)
        addresses = [f"127.0.0.1:{port}" for port in ports[:3]]
        group = [f"{i + 1}@{address}" + ("/witness" if i == 2 else "") for i, address in enumerate(addresses)]
        cluster = f"c{secrets.token_hex(16)}"
        self.members: list[MetaProcess] = []
        for i in range(3):
            config = directory / f"member{i + 1}.toml"
            config.write_text(
                _SETTINGS.format(
                    cluster=cluster,
                    addresses=", ".join(f'"{address}"' for address in addresses),
                    member=i + 1,
                    role="witness" if i == 2 else "data",
                    group=", ".join(f'"{each}"' for each in group),
                    directory=directory / f"data{i + 1}",
                    port=ports[i],
                    grpc_port=ports[3 + i],
                )
            )
            subprocess.run(
                [sys.executable, "-m", "blockyard.metaserver", "format", "--config", str(config)], check=True
            )
            self.members.append(MetaProcess(i + 1, ports[i], config))

    @property
    def data_members(self) -> list[MetaProcess]:
        """The members that can serve."""
        return self.members[:2]

    def leader(self, patience_s: float = 20.0) -> MetaProcess:
        """Return the member that leads, waiting for one."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            for member in self.data_members:
                status = member.status()
                if status is not None and status.role == ROLE_LEADER:
                    return member
            time.sleep(0.02)
        raise TimeoutError(f"no leader within {patience_s:g} s")

    def end(self) -> None:
        """Kill every member."""
        for member in self.members:
            if member.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    member.process.send_signal(signal.SIGCONT)
                member.process.kill()
                member.process.wait()


@contextmanager
def meta_cluster() -> Iterator[MetaCluster]:
    """Start a group in a directory of its own, wait until it serves, and remove everything at the end."""
    with tempfile.TemporaryDirectory(prefix="blockyard-bench-", ignore_cleanup_errors=True) as directory:
        cluster = MetaCluster(Path(directory))
        try:
            for member in cluster.members:
                member.start()
            cluster.leader()
            yield cluster
        finally:
            cluster.end()


class BareClient:
    """A session and nothing else: no retry, no cache. Many coroutines may use it at once."""

    def __init__(self, address: str) -> None:
        self.channel = AioChannel(address, timeout_s=60)
        self.stub: Any = MetadataStub(cast(grpc.Channel, self.channel))
        self.session = 0
        self._sequence = 0

    async def open(self) -> "BareClient":
        """Register."""
        reply = await self.stub.OpenSession(OpenSessionRequest(client="bench", nonce=secrets.randbits(64)))
        self.session = reply.session
        return self

    def request(self) -> RequestId:
        """Return the id of one more change."""
        self._sequence += 1
        return RequestId(session=self.session, sequence=self._sequence, answered_below=max(1, self._sequence - WINDOW))

    def create(self, name: bytes, parent: int = 1) -> Any:
        """Make a file."""
        return self.stub.Create(
            CreateRequest(caller=ROOT_USER, request=self.request(), parent=parent, name=name, mode=0o644)
        )

    def lookup(self, name: bytes, parent: int = 1) -> Any:
        """Find a file."""
        return self.stub.Lookup(LookupRequest(caller=ROOT_USER, parent=parent, name=name))

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
