"""A metadata group of real processes: made, started, killed, paused, cut off and looked at by tests.

Every process is started by this class and ended by its id. Logs stay in the test's directory; they are printed when a
test that used the group fails (`tests/metaserver/member/conftest.py`).
"""

import asyncio
import fcntl
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc
from blockyard.metaserver.member import settings as derived
from blockyard.metaserver.raft import DurableState
from blockyard.metaserver.storage.directory import DataDirectory
from blockyard.metaserver.storage.identity import Identity
from blockyard.proto import errors
from blockyard.proto.ids import INCARNATION, MEMBER, ClusterId
from blockyard.proto.lane import AioChannel
from blockyard.proto.raft_pb2 import ROLE_LEADER, MetaFsckReply, MetaFsckRequest, MetaStatusReply, MetaStatusRequest
from blockyard.proto.raft_pb2_grpc import MetaAdminStub
from blockyard.proto.settings import MetaserverSettings, load

from tests.support.networks import Network

T = TypeVar("T")
Settings = Mapping[str, Mapping[str, Any]]

LEADER_S = 25.0
POLL_S = 0.02

_ports = itertools.count(21_000 + 1_500 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))


WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
"""Ends a member with the test process, however that ends; it stays one process, with one id."""


def free_port() -> int:
    """Return a port that nobody listens on, and that no other test run of this machine is given meanwhile."""
    for port in _ports:
        if _reserve(port):
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
    raise AssertionError("the count does not end")


def _reserve(port: int) -> bool:
    """Lock the file that stands for a port, until this process ends; return whether it was free."""
    fd = os.open(Path(tempfile.gettempdir()) / f"blockyard-test-port-{port}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    return True


async def until(condition: Callable[[], Awaitable[T]], what: str, timeout_s: float = LEADER_S) -> T:
    """Ask again until the answer is true, and return it; fail with what was waited for after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (found := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{timeout_s} s passed, and not yet: {what}")
        await asyncio.sleep(POLL_S)
    return found


@dataclass(slots=True)
class MemberProcess:
    """One member: where it listens, its settings, and the process that runs it, if any."""

    id: int
    witness: bool
    host: str
    lane_port: int
    grpc_port: int
    directory: Path
    config: Path
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    starts: int = 0

    @property
    def address(self) -> str:
        return f"{self.host}:{self.lane_port}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def output(self) -> str:
        """Return what it logged, all starts together."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass(slots=True)
class MetaCluster:
    """Two data members, 1 and 2, and the witness, 3; more by `add`."""

    root: Path
    settings: Settings = field(default_factory=dict)
    network: Network | None = None
    id: str = field(default_factory=lambda: "c" + secrets.token_hex(16))
    members: dict[int, MemberProcess] = field(default_factory=dict)

    # ------------------------------------------------------------------------------------------ making

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        for number in (1, 2, 3):
            self.add(number, witness=number == 3)

    def add(self, number: int, witness: bool = False) -> MemberProcess:
        """Name one more member; nothing runs yet and nothing is on disk."""
        host = "127.0.0.1" if self.network is None else self.network.address(number)
        ports = (free_port(), free_port()) if self.network is None else (7701, 7702)
        member = MemberProcess(
            number, witness, host, *ports, self.root / f"d{number}", self.root / f"m{number}.toml",
            self.root / f"log{number}",
        )  # fmt: skip
        self.members[number] = member
        return member

    @property
    def founders(self) -> list[MemberProcess]:
        return [member for number, member in self.members.items() if number <= 3]

    @property
    def data(self) -> list[MemberProcess]:
        return [member for member in self.members.values() if not member.witness]

    @property
    def addresses(self) -> list[str]:
        return [member.address for member in self.members.values()]

    def configure(self, number: int, group: Iterable[MemberProcess] | None = None, **more: Mapping[str, Any]) -> Path:
        """Write a member's settings; return the file. `more` are sections over the cluster's own."""
        member = self.members[number]
        founders = [f"{m.id}@{m.address}{'/witness' if m.witness else ''}" for m in group or self.founders]
        sections: dict[str, dict[str, Any]] = {
            "cluster": {"id": self.id, "metaservers": [m.address for m in self.founders]},
            "metaserver": {
                "member": number,
                "role": "witness" if member.witness else "data",
                "group": founders,
                "data_dir": str(member.directory),
                "read_only_below_bytes": 1 << 20,
            },
            "listen": {"host": member.host, "lane_port": member.lane_port, "grpc_port": member.grpc_port},
            "metrics": {"enabled": False},
            "logs": {"format": "console"},
        }
        for name, keys in [*self.settings.items(), *more.items()]:
            sections.setdefault(name, {}).update(keys)
        lines = []
        for name, keys in sections.items():
            lines += [f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in keys.items())]
        member.config.write_text("\n".join(lines) + "\n")
        return member.config

    def run(self, action: str, number: int, *more: str) -> "subprocess.CompletedProcess[str]":
        """Run `format`, `join` or `restore` for a configured member; return how it ended."""
        command = [sys.executable, "-m", "blockyard.metaserver", action, "--config", str(self.members[number].config)]
        return subprocess.run([*command, *more], capture_output=True, text=True, timeout=60, check=False)

    def format(self, *numbers: int) -> None:
        """Make the directories of founding members, all three if none is named, at the same time."""
        making = []
        for number in numbers or (1, 2, 3):
            config = self.configure(number)
            command = [sys.executable, "-m", "blockyard.metaserver", "format", "--config", str(config)]
            making.append(subprocess.Popen(command, stderr=subprocess.PIPE))
        for process in making:
            _, complaint = process.communicate(timeout=60)
            assert process.returncode == 0, complaint.decode()

    def format_here(self) -> None:
        """Make the directories of the founding members in this process: what `format` does, without three starts."""
        for member in self.founders:
            settings = load(MetaserverSettings, self.configure(member.id), {})
            identity = Identity(
                ClusterId(self.id), MEMBER.check(member.id), INCARNATION.check(secrets.randbits(63) + 1)
            )
            durable = DurableState.bootstrap(derived.founding_membership(settings))
            DataDirectory.create(member.directory, identity, durable, with_state=not member.witness)

    # ------------------------------------------------------------------------------------------ processes

    def start(self, *numbers: int, environment: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()) -> None:
        """Start members, all if none is named. `wrapper` is a command that runs the command after it."""
        for number in numbers or tuple(self.members):
            member = self.members[number]
            assert not member.running
            member.starts += 1
            command = [*wrapper, sys.executable, "-m", "blockyard.metaserver", "serve", "--config", str(member.config)]
            if self.network is not None:
                command = [*self.network.inside(number), *command]
            command = [*WITH_PARENT, *command]
            # Another hash seed for each: what depends on a set's order would make the members differ.
            variables = {**os.environ, "PYTHONHASHSEED": str(number * 1000 + member.starts), **(environment or {})}
            with member.log.open("ab") as log:
                member.process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to a running member."""
        os.kill(self.members[number].pid, what)

    def kill(self, *numbers: int) -> None:
        """End members as a power switch would, all if none is named."""
        doomed = [self.members[number] for number in numbers or self.members if self.members[number].process]
        for member in doomed:
            if member.running:
                self.signal(member.id, signal.SIGKILL)
        for member in doomed:
            assert member.process is not None
            member.process.wait(20)

    def stop(self, number: int) -> int:
        """Ask a member to end; return its exit status."""
        self.signal(number, signal.SIGTERM)
        process = self.members[number].process
        assert process is not None
        return process.wait(20)

    def pause(self, number: int) -> None:
        self.signal(number, signal.SIGSTOP)

    def resume(self, number: int) -> None:
        self.signal(number, signal.SIGCONT)

    async def ended(self, number: int, timeout_s: float = 20.0) -> int:
        """Wait until a member's process ended by itself; return its exit status."""
        process = self.members[number].process
        assert process is not None

        async def over() -> bool:
            return process.poll() is not None

        await until(over, f"member {number} ends", timeout_s)
        return int(process.returncode)

    def close(self) -> None:
        """End everything that this group started."""
        for member in self.members.values():
            if member.running:
                self.signal(member.id, signal.SIGKILL)
        for member in self.members.values():
            if member.process is not None:
                member.process.wait(20)
        for member in self.members.values():
            shutil.rmtree(member.directory, ignore_errors=True)

    # ------------------------------------------------------------------------------------------ looking

    async def status(self, number: int, timeout_s: float = 1.0) -> MetaStatusReply | None:
        """Return how a member says it is, None when it does not answer."""
        try:
            async with AioChannel(self.members[number].address, timeout_s=timeout_s, connect_timeout_s=0.5) as channel:
                stub: Any = MetaAdminStub(cast(grpc.Channel, channel))
                reply: MetaStatusReply = await stub.Status(MetaStatusRequest())
                return reply
        except errors.BlockyardError:
            return None

    async def answers(self, number: int) -> MetaStatusReply:
        """Wait until a member says how it is."""
        status = await until(lambda: self.status(number), f"member {number} answers")
        assert status is not None
        return status

    async def leader(self, among: Iterable[int] | None = None, timeout_s: float = LEADER_S) -> int:
        """Wait until a data member leads and says so; return its id."""
        numbers = [m.id for m in self.data if m.running] if among is None else list(among)

        async def found() -> int | None:
            replies = await asyncio.gather(*(self.status(number) for number in numbers))
            leading = [reply for reply in replies if reply is not None and reply.role == ROLE_LEADER]
            return max(leading, key=lambda reply: reply.term).member if leading else None

        number = await until(found, f"one of {numbers} leads", timeout_s)
        assert number is not None
        return number

    async def follower(self) -> int:
        """Return the data member that does not lead."""
        leader = await self.leader()
        return next(member.id for member in self.data if member.id != leader)

    async def follow(self, leader: int) -> None:
        """Wait until every running member knows who leads."""

        async def known() -> bool:
            replies = await asyncio.gather(*(self.status(m.id) for m in self.members.values() if m.running))
            return all(reply is not None and reply.leader == leader for reply in replies)

        await until(known, f"everybody follows member {leader}")

    async def in_step(self, *numbers: int, timeout_s: float = LEADER_S) -> None:
        """Wait until the data members, or those named, have applied the same and all of it."""
        wanted = numbers or tuple(member.id for member in self.data if member.running)

        async def equal() -> bool:
            replies = await asyncio.gather(*(self.status(number) for number in wanted))
            if any(reply is None for reply in replies):
                return False
            known = [reply for reply in replies if reply is not None]
            return len({reply.applied_index for reply in known} | {reply.last_index for reply in known}) == 1

        await until(equal, f"members {wanted} have applied the same", timeout_s)

    async def in_step_enough(self, number: int) -> None:
        """Wait until a member answers and is at most a moment behind the leader; changes may go on."""

        async def close() -> bool:
            theirs = await self.status(number)
            status = await self.status(await self.leader())
            if theirs is None or status is None or theirs.leader != status.member:
                return False
            return status.commit_index - theirs.commit_index < 50

        await until(close, f"member {number} is nearly in step")

    async def fsck(self, number: int) -> MetaFsckReply:
        """Check a data member's namespace, hash included; return the findings all in one reply."""
        address = self.members[number].address
        whole = MetaFsckReply()
        async with AioChannel(address, timeout_s=60, connect_timeout_s=1.0) as channel:
            stub: Any = MetaAdminStub(cast(grpc.Channel, channel))
            async for part in stub.Fsck(MetaFsckRequest(hash=True)):
                findings = [*whole.findings, *part.findings]
                whole = MetaFsckReply()
                whole.CopyFrom(part)
                del whole.findings[:]
                whole.findings.extend(findings)
        return whole

    async def assert_sound(self, *numbers: int) -> None:
        """Demand of the data members, or those named: nothing wrong, and the same state at the same index.

        Nobody may change anything meanwhile. The leader's own commands still may: then it is looked at again.
        """
        wanted = numbers or tuple(member.id for member in self.data if member.running)

        async def equal() -> bool:
            await self.in_step(*wanted)
            checks = await asyncio.gather(*(self.fsck(number) for number in wanted))
            for number, check in zip(wanted, checks, strict=True):
                assert check.done
                assert not check.findings, f"member {number}: {check.findings}"
            if len({check.applied_index for check in checks}) > 1:
                return False
            hashes = {number: f"{check.state_hash:x}" for number, check in zip(wanted, checks, strict=True)}
            assert len(set(hashes.values())) == 1, f"states differ at one index: {hashes}"
            return True

        await until(equal, "all members were checked at one index", 30)

    def logs(self) -> str:
        """Return what every member logged."""
        return "\n".join(f"--- member {m.id}\n{m.output()[-6000:]}" for m in self.members.values())


def toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    return '"' + str(value) + '"'
