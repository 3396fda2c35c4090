"""`blockyard demo`: what there is so far, on this machine: a metadata group that loses its leader while it works.

Starts two data members and a witness as processes in a temporary directory, creates files one after the other, kills
the leader with SIGKILL in the middle, measures the pause, and checks that every acknowledged file is there once.
"""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, cast

import grpc
import typer
from blockyard.client.cli.group import Group
from blockyard.client.cli.output import console, show_json
from blockyard.proto import errors
from blockyard.proto.common_pb2 import Caller, RequestId
from blockyard.proto.lane import Channel
from blockyard.proto.metadata_pb2 import CreateRequest, MakeDirectoryRequest, OpenSessionRequest, ReadDirectoryRequest
from blockyard.proto.metadata_pb2_grpc import MetadataStub
from blockyard.proto.raft_pb2 import ROLE_LEADER, MetaStatusReply

ME = Caller(uid=os.getuid(), gid=os.getgid())
ROOT = Caller()
ELSEWHERE = (errors.NotLeader, errors.Unavailable, errors.ConnectionLost, errors.LeadershipLost, errors.Overloaded)
PATIENCE_S = 30.0
_SETTINGS = """[cluster]
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
grpc_port = 0
[metrics]
enabled = false
[logs]
level = "warning"
"""


def demo(
    seconds: Annotated[float, typer.Option(help="How long to create files.", min=2, max=600)] = 8.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for machines.")] = False,
) -> None:
    """Start a metadata group here, kill its leader under work, and show that nothing was lost."""
    with tempfile.TemporaryDirectory(prefix="blockyard-demo-", ignore_cleanup_errors=True) as directory:
        members = _format(Path(directory))
        processes = {address: _start(config) for address, config in members.items()}
        try:
            result = _run(Group(",".join(members)), processes, seconds)
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
    if as_json:
        show_json(result)
    else:
        _tell(result)
    if result["lost"] or result["twice"]:
        raise typer.Exit(1)


def _format(directory: Path) -> dict[str, Path]:
    """Make three members' settings and data directories; return settings by address."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    cluster = f"c{secrets.token_hex(16)}"
    group = [f'"{i + 1}@{address}{"/witness" if i == 2 else ""}"' for i, address in enumerate(addresses)]
    configs = {}
    for i, address in enumerate(addresses):
        config = directory / f"member{i + 1}.toml"
        config.write_text(
            _SETTINGS.format(
                cluster=cluster,
                addresses=", ".join(f'"{each}"' for each in addresses),
                member=i + 1,
                role="witness" if i == 2 else "data",
                group=", ".join(group),
                directory=directory / f"data{i + 1}",
                port=address.rpartition(":")[2],
            )
        )
        subprocess.run([sys.executable, "-m", "blockyard.metaserver", "format", "--config", str(config)], check=True)
        configs[address] = config
    return configs


def _start(config: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "blockyard.metaserver", "serve", "--config", str(config)])


def _leader(group: Group) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for address, status in group.statuses().items():
            if isinstance(status, MetaStatusReply) and status.role == ROLE_LEADER:
                return address
        time.sleep(0.05)
    raise errors.Unavailable("the group has no leader; its processes have said why above")


def _run(group: Group, processes: "dict[str, subprocess.Popen[bytes]]", seconds: float) -> dict[str, Any]:
    with console.status("starting two metadata servers and a witness …"):
        leader = _leader(group)
    client = _Client(group.addresses[:2], leader)
    acknowledged: list[bytes] = []
    longest = 0.0
    began = before = time.monotonic()
    killed = 0.0
    with console.status("creating files, each on two disks before it counts …") as status:
        while (now := time.monotonic()) - began < seconds:
            if not killed and now - began > seconds / 2:
                processes[leader].kill()
                killed = before = now
                status.update("the leader is killed …")
            name = b"file-%06d" % len(acknowledged)
            client.create(name)
            acknowledged.append(name)
            after = time.monotonic()
            longest, before = max(longest, after - before), after
    names = client.names()
    return {
        "files": len(acknowledged),
        "files_per_second": round(len(acknowledged) / (time.monotonic() - began - longest)),
        "pause_ms": round(longest * 1000),
        "lost": len(set(acknowledged) - set(names)),
        "twice": len(names) - len(set(names)),
    }


class _Client:
    """One session, one change at a time; a change is repeated under its id until some member has done it."""

    def __init__(self, addresses: list[str], leader: str) -> None:
        self._channels = {address: Channel(address, timeout_s=1.0, connect_timeout_s=0.5) for address in addresses}
        self._at = leader
        self._sequence = 0
        self._session = self._ask(
            "OpenSession", OpenSessionRequest(client=f"demo {os.getpid()}", nonce=secrets.randbits(63))
        ).session
        made = self._ask(
            "MakeDirectory",
            MakeDirectoryRequest(caller=ROOT, request=self._id(), parent=1, name=b"demo", mode=0o777),
        )
        self._directory = made.attributes.inode

    def create(self, name: bytes) -> None:
        """Make a file; returns when it is on two disks."""
        request = CreateRequest(
            caller=ME, request=self._id(), parent=self._directory, name=name, mode=0o644, exclusive=True
        )
        self._ask("Create", request)

    def names(self) -> list[bytes]:
        """Return every name in the directory."""
        found: list[bytes] = []
        after = 0
        while True:
            page = self._ask(
                "ReadDirectory", ReadDirectoryRequest(caller=ME, inode=self._directory, after=after, limit=5_000)
            )
            found += [entry.name for entry in page.entries]
            if page.end:
                return found
            after = page.entries[-1].cookie

    def _id(self) -> RequestId:
        self._sequence += 1
        return RequestId(session=self._session, sequence=self._sequence, answered_below=self._sequence)

    def _ask(self, method: str, request: Any) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            stub = MetadataStub(cast(grpc.Channel, self._channels[self._at]))
            try:
                return getattr(stub, method)(request)
            except (*ELSEWHERE, errors.DeadlineExceeded):
                if time.monotonic() > deadline:
                    raise
                self._at = next(address for address in self._channels if address != self._at)
                time.sleep(0.005)


def _tell(result: dict[str, Any]) -> None:
    console.print(
        f"{result['files']:,} files at {result['files_per_second']:,} a second, one after the other, "
        "each on two disks before it was acknowledged."
    )
    console.print(f"The leader was killed in the middle: a pause of {result['pause_ms']} ms.")
    if result["lost"] or result["twice"]:
        console.print(f"NOT SOUND: {result['lost']} acknowledged files are lost, {result['twice']} are there twice.")
    else:
        console.print("Nothing that was acknowledged is lost, and nothing happened twice.")
