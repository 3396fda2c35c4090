"""A whole cluster of real processes: a metadata group and storage nodes, each with a directory of its own.

Made, started, killed, paused, wiped and looked at by tests; everything here blocks, for tests of threads. Every process
is started by this class and ended by its id. Logs stay in the test's directory (`logs()` for a test that fails).
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

import grpc
from blockyard.proto import errors
from blockyard.proto.blocks import Channels
from blockyard.proto.cluster_map import ClusterView, MapNode
from blockyard.proto.cluster_pb2 import (
    NODE_UP,
    ChangeNodeRequest,
    ClusterStatusReply,
    ClusterStatusRequest,
    GetClusterMapReply,
    GetClusterMapRequest,
    NodeState,
    NodeStatus,
)
from blockyard.proto.cluster_pb2_grpc import ClusterStub
from blockyard.proto.group import GroupChannel

from tests.support.meta_cluster import WITH_PARENT, MetaCluster, free_port, toml_value
from tests.support.networks import Network

T = TypeVar("T")
Settings = Mapping[str, Mapping[str, Any]]

WAIT_S = 60.0
POLL_S = 0.02
SERVING = b"] serving "
"""What a node logs once it has registered: from then on the cluster knows this start of it and no earlier one."""
GROUPS = 32
FAST: Settings = {"placement": {"placement_groups": GROUPS, "heartbeat_ms": 200, "down_after_ms": 1_000}}
"""Settings of the metadata group in which a dead node is noticed within a second or so."""


def wait_until(condition: Callable[[], T], what: str, timeout_s: float = WAIT_S) -> T:
    """Ask again until the answer is true, and return it; fail with what was waited for after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{timeout_s} s passed, and not yet: {what}")
        time.sleep(POLL_S)
    return found


@dataclass(slots=True)
class NodeProcess:
    """One storage node: where it listens, its settings, and the process that runs it, if any."""

    name: str
    zone: str
    host: str
    lane_port: int
    grpc_port: int
    metrics_port: int
    directory: Path
    config: Path
    log: Path
    settings: Settings
    inside: Sequence[str] = ()
    """The command that runs another one in the node's network namespace, if it has one."""
    process: "subprocess.Popen[bytes] | None" = None
    logged_before: int = 0  # bytes in the log when it was last started

    @property
    def serving(self) -> bool:
        """Whether the process of the last start has registered and serves."""
        return self.running and SERVING in self.log.read_bytes()[self.logged_before :]

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def unix_path(self) -> str:
        return str(self.config.with_suffix(".sock"))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def output(self) -> str:
        """Return what it logged, all starts together."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass(slots=True)
class StorageCluster:
    """Two metadata members, a witness, and one storage node per entry of `zones`, named n1, n2, …

    `meta_settings` and `node_settings` are sections over the usual ones. As a context manager it starts everything and
    ends everything.
    """

    root: Path
    zones: Sequence[str] = ("z1", "z2", "z3")
    meta_settings: Settings = field(default_factory=dict)
    node_settings: Settings = field(default_factory=dict)
    network: Network | None = None
    """Namespaces 1 to 3 are the members', the next ones the nodes'."""
    nodes: dict[str, NodeProcess] = field(default_factory=dict)
    channels: Channels = field(default_factory=Channels)
    meta: MetaCluster = field(init=False)
    group: GroupChannel = field(init=False)
    cluster: Any = field(init=False)

    def __post_init__(self) -> None:
        sections = {name: dict(keys) for name, keys in FAST.items()}
        for name, keys in self.meta_settings.items():
            sections.setdefault(name, {}).update(keys)
        self.meta = MetaCluster(self.root / "meta", sections, self.network)
        self.group = GroupChannel(self.meta.addresses)
        self.cluster = ClusterStub(cast(grpc.Channel, self.group))
        for zone in self.zones:
            self.add(zone)

    # ------------------------------------------------------------------------------------------ making

    def add(self, zone: str = "z1", name: str = "", directory: Path | None = None, **settings: Any) -> NodeProcess:
        """Name one more node; nothing runs yet. `settings` are keys of its section [storagenode]."""
        name = name or f"n{len(self.nodes) + 1}"
        place = self.root / name
        number = 4 + len(self.nodes)
        host = "127.0.0.1" if self.network is None else self.network.address(number)
        ports = (free_port(), free_port(), free_port()) if self.network is None else (7701, 7702, 7703)
        inside = () if self.network is None else self.network.inside(number)
        node = NodeProcess(
            name, zone, host, *ports, directory or place, self.root / f"{name}.toml", self.root / f"{name}.log",
            {"storagenode": settings}, inside,
        )  # fmt: skip
        self.nodes[name] = node
        node.directory.mkdir(parents=True, exist_ok=True)
        self.configure(name)
        return node

    def configure(self, name: str, **more: Mapping[str, Any]) -> Path:
        """Write a node's settings; return the file. `more` are sections over what it has."""
        node = self.nodes[name]
        sections: dict[str, dict[str, Any]] = {
            "cluster": {"id": self.meta.id, "metaservers": [m.address for m in self.meta.founders]},
            "storagenode": {"name": name, "zone": node.zone, "data_dir": str(node.directory)},
            "listen": {
                "host": node.host, "lane_port": node.lane_port, "grpc_port": node.grpc_port,
                "unix_path": node.unix_path,
            },
            "metrics": {"host": node.host, "port": node.metrics_port},
            "logs": {"format": "console"},
        }  # fmt: skip
        for given in (self.node_settings, node.settings, more):
            for section, keys in given.items():
                sections.setdefault(section, {}).update(keys)
        lines = []
        for section, keys in sections.items():
            lines += [f"[{section}]", *(f"{key} = {toml_value(value)}" for key, value in keys.items())]
        node.config.write_text("\n".join(lines) + "\n")
        return node.config

    # ------------------------------------------------------------------------------------------ processes

    def __enter__(self) -> "StorageCluster":
        try:
            self.meta.format_here()
            self.meta.start()
            self.start()
            self.until_up()
        except BaseException:
            print(self.logs())
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.logs())  # pytest shows it with the failure
        self.close()

    def start(
        self,
        *names: str,
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        arguments: Sequence[str] = (),
    ) -> None:
        """Start nodes, all if none is named. `wrapper` is a command that runs the command after it."""
        for name in names or tuple(self.nodes):
            node = self.nodes[name]
            assert not node.running
            node.logged_before = node.log.stat().st_size if node.log.exists() else 0
            command = [*wrapper, sys.executable, "-m", "blockyard.storagenode", "serve", "--config", str(node.config)]
            with node.log.open("ab") as log:
                node.process = subprocess.Popen(
                    [*WITH_PARENT, *node.inside, *command, *arguments],
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **(environment or {})},
                )

    def signal(self, name: str, what: signal.Signals) -> None:
        """Send a signal to a running node."""
        os.kill(self.nodes[name].pid, what)

    def kill(self, *names: str) -> None:
        """End nodes as a power switch would, all if none is named."""
        doomed = [node for node in self.nodes.values() if node.process and (not names or node.name in names)]
        for node in doomed:
            if node.running:
                os.kill(node.pid, signal.SIGKILL)
        for node in doomed:
            assert node.process is not None
            node.process.wait(20)

    def stop(self, name: str) -> int:
        """Ask a node to end; return its exit status."""
        self.signal(name, signal.SIGTERM)
        return self.ended(name)

    def ended(self, name: str, timeout_s: float = 20.0) -> int:
        """Wait until a node's process has ended; return its exit status."""
        process = self.nodes[name].process
        assert process is not None
        return process.wait(timeout_s)

    def pause(self, name: str) -> None:
        self.signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self.signal(name, signal.SIGCONT)

    def restart(self, name: str) -> None:
        """Kill a node, start it again and wait until it is up."""
        self.kill(name)
        self.start(name)
        self.until_up(name)

    def wipe(self, name: str) -> None:
        """Empty the disk of a node that does not run."""
        assert not self.nodes[name].running
        for each in self.nodes[name].directory.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()

    def close(self) -> None:
        """End everything that this cluster started."""
        for node in self.nodes.values():
            if node.running:
                os.kill(node.pid, signal.SIGCONT)
        self.kill()
        self.channels.close()
        self.group.close()
        self.meta.close()
        for node in self.nodes.values():
            shutil.rmtree(node.directory, ignore_errors=True)

    # ------------------------------------------------------------------------------------------ looking

    def view(self) -> ClusterView:
        """Return the newest map."""
        reply: GetClusterMapReply = self.cluster.GetClusterMap(GetClusterMapRequest(), timeout=WAIT_S)
        return ClusterView(reply.map)

    def status(self) -> ClusterStatusReply:
        """Return how the cluster says it is."""
        reply: ClusterStatusReply = self.cluster.Status(ClusterStatusRequest(), timeout=WAIT_S)
        return reply

    def node(self, name: str) -> MapNode:
        """Return a node as the map shows it; the newest of that name. Raises UnknownNode."""
        found = [node for node in self.view().nodes.values() if node.name == name]
        if not found:
            raise errors.UnknownNode(f"{name} has not registered")
        return found[-1]

    def id(self, name: str) -> int:
        """Return a node's id."""
        return self.node(name).id

    def stub(self, name: str) -> Any:
        """Return a stub of a node's Storage service, on the lane over TCP."""
        return self.channels.stub(self.node(name).address())

    def heard(self, name: str) -> NodeStatus | None:
        """Return a node's status once the leader has had a heartbeat of this start of it, None until then."""
        node = self.nodes[name]
        for each in self.status().nodes:
            if each.node.name == name and each.HasField("heartbeat") and each.node.state == NODE_UP:
                return each if each.node.address.lane_port == node.lane_port else None
        return None

    def until_up(self, *names: str) -> None:
        """Wait until nodes, all if none is named, are up and heard, and every group has the holders it can have."""
        wanted = names or tuple(self.nodes)

        def ready() -> bool:
            for name in wanted:
                node = self.nodes[name]
                assert node.running, f"{name} ended: {node.output()[-2000:]}"
            if not all(self.nodes[name].serving and self.heard(name) for name in wanted):
                return False
            view = self.view()
            takers = sum(node.takes_writes for node in view.nodes.values())
            return all(len(group.nodes) == min(view.replicas, takers) for group in view.groups)

        wait_until(ready, f"{', '.join(wanted)} are up")

    def until_state(self, name: str, *states: NodeState, timeout_s: float = WAIT_S) -> None:
        """Wait until the map says that a node is in one of some states."""
        wait_until(lambda: self.node(name).state in states, f"{name} is in state {states}", timeout_s)

    def change(self, name: str, state: NodeState, force: bool = False) -> None:
        """Drain, undrain or remove a node."""
        self.cluster.ChangeNode(ChangeNodeRequest(node=self.id(name), state=state, force=force))

    def logs(self) -> str:
        """Return what every process logged."""
        own = "\n".join(f"--- node {node.name}\n{node.output()[-6000:]}" for node in self.nodes.values())
        return f"{self.meta.logs()}\n{own}"
