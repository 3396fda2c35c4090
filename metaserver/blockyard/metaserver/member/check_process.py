"""The check of a checkpoint in a process of its own, so that a long check takes no time from the member that serves.

    python -m blockyard.metaserver.member.check_process CHECKPOINT CLUSTER [--hash]

prints one MetaFsckReply a line, in base64.
"""

import asyncio
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from pathlib import Path

from blockyard.metaserver.member.group_machine import GroupMachine
from blockyard.metaserver.namespace import fsck
from blockyard.metaserver.storage.checkpoint import Checkpoint
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto import errors
from blockyard.proto.raft_pb2 import MetaFsckFinding, MetaFsckReply

REPORT_S = 0.5


async def run(checkpoint: Checkpoint, cluster: str, with_hash: bool) -> AsyncIterator[MetaFsckReply]:
    """Check a checkpoint; yield progress and findings as they come."""
    arguments = [str(checkpoint.path), cluster, *(["--hash"] if with_hash else [])]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            yield MetaFsckReply.FromString(b64decode(line))
        if await process.wait() != 0:
            raise errors.InternalError("the check did not finish; the member's log says why")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def check(path: Path, cluster: str, with_hash: bool) -> None:
    """Check the checkpoint in `path`, printing as it goes."""
    store = StateStore(path, read_only=True)
    machine = GroupMachine(store, cluster)
    progress = fsck.Progress()
    reported = time.monotonic()
    findings: list[MetaFsckFinding] = []
    for found in fsck.check(machine.state, progress):
        findings.append(MetaFsckFinding(kind=found.kind, inode=found.inode, message=found.message))
        if time.monotonic() - reported > REPORT_S:
            _report(progress, findings, store)
            findings, reported = [], time.monotonic()
    for sentence in machine.cluster_state.check(machine.tx):
        findings.append(MetaFsckFinding(kind="cluster", message=sentence))
    state_hash = machine.state_hash() if with_hash else 0
    _report(progress, findings, store, done=True, state_hash=state_hash)


def _report(
    progress: fsck.Progress,
    findings: list[MetaFsckFinding],
    store: StateStore,
    done: bool = False,
    state_hash: int = 0,
) -> None:
    reply = MetaFsckReply(
        inodes=progress.inodes,
        dentries=progress.dentries,
        slices=progress.slices,
        findings=findings,
        done=done,
        applied_index=store.applied_index(),
        state_hash=state_hash,
    )
    sys.stdout.write(b64encode(reply.SerializeToString()).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    check(Path(sys.argv[1]), sys.argv[2], "--hash" in sys.argv)
