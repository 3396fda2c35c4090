"""Finds the metadata group from the command line: which members there are, which of them leads."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar, cast

import grpc
import typer
from blockyard.proto import errors
from blockyard.proto.cluster_pb2_grpc import ClusterStub
from blockyard.proto.group import GroupChannel
from blockyard.proto.lane import Channel
from blockyard.proto.raft_pb2 import MetaStatusReply, MetaStatusRequest
from blockyard.proto.raft_pb2_grpc import MetaAdminStub

Result = TypeVar("Result")
PATIENCE_S = 10.0

Members = Annotated[
    str,
    typer.Option(
        "--members",
        envvar="BLOCKYARD_MEMBERS",
        help="Lane addresses of metadata members, HOST:PORT,HOST:PORT,…",
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object for machines.")]


class Group:
    """The members of one metadata group, by address."""

    def __init__(self, members: str) -> None:
        self.addresses = [address.strip() for address in members.split(",") if address.strip()]
        if not self.addresses:
            raise typer.BadParameter("give --members HOST:PORT,… or set BLOCKYARD_MEMBERS")

    def statuses(self) -> dict[str, MetaStatusReply | errors.BlockyardError]:
        """Ask every member how it is."""
        found: dict[str, MetaStatusReply | errors.BlockyardError] = {}
        for address in self.addresses:
            try:
                with admin(address, timeout_s=2.0) as stub:
                    found[address] = stub.Status(MetaStatusRequest())
            except errors.BlockyardError as error:
                found[address] = error
        return found

    def on_leader(self, make_stub: Callable[[grpc.Channel], Any], ask: Callable[[Any], Result]) -> Result:
        """Run `ask` with a stub to the leader, wherever it is; raises the last error after `PATIENCE_S` seconds."""
        deadline = time.monotonic() + PATIENCE_S
        candidates = list(self.addresses)
        while True:
            address = candidates.pop(0)
            try:
                with Channel(address, timeout_s=3600, connect_timeout_s=1.0) as channel:
                    return ask(make_stub(cast(grpc.Channel, channel)))
            except (errors.NotLeader, errors.Unavailable) as error:
                if time.monotonic() > deadline:
                    raise
                if error.leader is not None and error.leader.lane_port:
                    candidates.insert(0, f"{error.leader.host}:{error.leader.lane_port}")
            if not candidates:
                candidates = list(self.addresses)
                time.sleep(0.1)


@contextmanager
def cluster(members: str) -> Iterator[Any]:
    """Yield a stub of the Cluster service of whichever member leads."""
    with GroupChannel(Group(members).addresses, timeout_s=PATIENCE_S) as channel:
        yield ClusterStub(cast(grpc.Channel, channel))


@contextmanager
def admin(address: str, timeout_s: float) -> Iterator[Any]:
    """Yield a stub of one member's MetaAdmin service."""
    with Channel(address, timeout_s=timeout_s, connect_timeout_s=1.0) as channel:
        yield MetaAdminStub(cast(grpc.Channel, channel))
