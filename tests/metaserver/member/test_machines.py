"""Machines that fail a member: clocks, disks, and more work than it can do (RELIABILITY.md, rows 10, 12, 14 and 19)."""

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blockyard.metaserver.member.proposals import Clock
from blockyard.proto import errors
from blockyard.proto import metadata_pb2 as pb

from tests.support.group_client import ME, ROOT, GroupClient
from tests.support.load import Load
from tests.support.meta_cluster import MetaCluster, until

HOUR_NS = 3600 * 10**9


def test_the_replicated_clocks_never_go_back_and_sessions_know_no_wall_clock() -> None:
    wall, monotonic = [10 * HOUR_NS], [100.0]
    clock = Clock(lambda: wall[0], lambda: monotonic[0])
    clock.applied(5, 7_000)
    assert clock.read() == (10 * HOUR_NS, 7_000)  # nobody leads: the session clock stands
    clock.leading(True)
    monotonic[0] += 2
    assert clock.read() == (10 * HOUR_NS, 9_000)
    wall[0] -= HOUR_NS
    monotonic[0] += 1
    assert clock.read() == (10 * HOUR_NS, 10_000)
    wall[0] += 2 * HOUR_NS
    assert clock.read() == (11 * HOUR_NS, 10_000)
    clock.leading(False)
    monotonic[0] += 50
    assert clock.read()[1] == 10_000


def shifted(root: Path, hours: int) -> list[str]:
    """Return a wrapper that starts Python with a wall clock that is wrong by so many hours."""
    folder = root / f"shift{hours}"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        textwrap.dedent(
            f"""
            import time
            _time, _time_ns = time.time, time.time_ns
            time.time = lambda: _time() + {hours * 3600}
            time.time_ns = lambda: _time_ns() + {hours * HOUR_NS}
            """
        )
    )
    return ["env", f"PYTHONPATH={folder}:{os.environ.get('PYTHONPATH', '')}"]


async def test_a_leader_whose_wall_clock_is_wrong_by_an_hour_ends_no_session(make: Any) -> None:
    group: MetaCluster = make()
    group.format()
    group.start(3)
    group.start(1, wrapper=shifted(group.root, +1))
    group.start(2, wrapper=shifted(group.root, -1))
    await group.leader()
    async with GroupClient(group.addresses) as client:
        await client.open(term_ms=20_000)
        times = []
        for number in range(3):
            made = await client.change("Create", pb.CreateRequest(parent=ROOT, name=b"%d" % number, mode=0o644))
            times.append(made.attributes.birth_ns)
            leader = await group.leader()
            group.kill(leader)
            wrapper = ["env", f"PYTHONPATH={group.root / f'shift{1 if leader == 1 else -1}'}"]
            await client.create(f"after{number}")
            group.start(leader, wrapper=wrapper)
            await group.in_step_enough(leader)
        await client.keep()
        assert times == sorted(times)
        off_h = {round((each - time.time_ns()) / HOUR_NS) for each in times}
        assert 1 in off_h, "the clock that is an hour ahead was never the leader's: nothing was at risk"
    await group.assert_sound()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 192 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root: a full metadata disk is left unproven")
    path = tmp_path / "small"
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({made.stderr.strip()}): a full metadata disk is left unproven")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("full", ["leader", "follower"])
async def test_a_disk_that_fills_makes_the_group_read_only_and_deletes_make_it_writable(
    make: Any, small_disk: Path, full: str
) -> None:
    group: MetaCluster = make()
    group.members[1].directory = small_disk / "d1"
    limits = {"read_only_below_bytes": 24 << 20}
    group.settings = {"metaserver": limits}
    group.configure(1, metaserver={**limits, "data_dir": str(small_disk / "d1")})
    group.format()
    group.start()
    await group.leader()
    ballast = small_disk / "ballast"

    async def read_only(wanted: bool) -> None:
        async def so() -> bool:
            status = await group.answers(await group.leader())
            return status.read_only == wanted

        await until(so, f"the group says read_only={wanted}")

    async with GroupClient(group.addresses) as client:
        if (await group.leader() == 1) != (full == "leader"):
            leader = await group.leader()
            group.kill(leader)
            await group.leader([3 - leader])
            group.start(leader)
            await group.in_step_enough(leader)
        for number in range(20):
            await client.create(f"f{number}")
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - (12 << 20))
        await read_only(True)
        with pytest.raises(errors.ReadOnlyCluster) as refused:
            await client.create("one more")
        assert refused.value.errno == errno.EROFS
        assert len(await client.list()) == 20
        for number in range(10):
            await client.change("Unlink", pb.UnlinkRequest(parent=ROOT, name=b"f%d" % number))
        await client.keep()
        ballast.unlink()
        await read_only(False)
        await client.create("there is room")
        assert len(await client.list()) == 11
    assert all(member.running for member in group.members.values())
    await group.assert_sound()


async def test_a_failed_sync_ends_the_process_and_the_group_goes_on(group: MetaCluster) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace): a failing fsync is left unproven")
    leader = await group.leader()
    tracing: subprocess.Popen[bytes] | None = None
    try:
        async with GroupClient(group.addresses) as client, Load([client]) as load:
            tracing = fail_syncs(group, leader)
            assert await group.ended(leader) == 70, "the process outlived a failed sync"
            await load.more()
            group.start(leader)
            await group.in_step_enough(leader)
            await load.stop()
            await load.verify(group)
    finally:
        if tracing is not None:
            if tracing.poll() is None:
                tracing.terminate()
            _, complaint = tracing.communicate(timeout=20)
            print(complaint.decode())
    assert "Input/output error" in group.members[leader].output()


def fail_syncs(group: MetaCluster, number: int) -> "subprocess.Popen[bytes]":
    """Let every fsync of a member from its fifth on return EIO."""
    pid, trace = str(group.members[number].pid), str(group.root / "trace")
    syncs = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=5+"]
    return subprocess.Popen(["strace", "-f", "-qq", "-o", trace, "-p", pid, *syncs], stderr=subprocess.PIPE)


async def test_twenty_thousand_requests_at_once_end_in_answers_or_refusals(group: MetaCluster) -> None:
    leader = group.members[await group.leader()]
    clients, each = 4, 2_500
    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(GroupClient(group.addresses)) for _ in range(clients)]
        creates, lookups = [], []
        for which, client in enumerate(opened):
            stub = client.stub(leader.address)
            for number in range(each):
                name = f"n{which}-{number}".encode()
                request = pb.CreateRequest(caller=ME, parent=ROOT, name=name, mode=0o644)
                request.request.session, request.request.sequence = client.session, number + 1
                creates.append(asyncio.ensure_future(stub.Create(request, timeout=60)))
                lookup = pb.LookupRequest(caller=ME, parent=ROOT, name=name)
                lookups.append(asyncio.ensure_future(stub.Lookup(lookup, timeout=60)))
        answers = await asyncio.gather(*creates, return_exceptions=True)
        reads = await asyncio.gather(*lookups, return_exceptions=True)
        made = {answer.attributes.inode for answer in answers if not isinstance(answer, BaseException)}
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert all(isinstance(answer, errors.Overloaded) for answer in refused), refused[0]
        failed = [answer for answer in reads if isinstance(answer, BaseException)]
        assert all(isinstance(answer, errors.Overloaded | errors.NotFound) for answer in failed), failed[0]
        found = await opened[0].list()
        assert {entry.inode for entry in found} == made
        assert resident_bytes(leader.pid) < 1 << 30
        assert await group.leader() == leader.id, "too much work cost the leader its office"
        await opened[0].open()
        await opened[0].change("Unlink", pb.UnlinkRequest(parent=ROOT, name=found[0].name))  # it still serves
    print(f"{len(made)} made, {len(refused)} refused, leader {resident_bytes(leader.pid) >> 20} MiB")


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
