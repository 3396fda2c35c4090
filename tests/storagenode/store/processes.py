"""Starting the worker, with failpoints or under strace."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from blockyard.proto import failpoints

ROOT = Path(__file__).resolve().parents[3]
MODULE = "tests.storagenode.store.worker"


def run_worker(
    data: Path, acks: Path, count: int, *, fail: str = "", seed: int = 1, under: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the worker to its end, `under` a command such as strace, with failpoints `fail`."""
    data.mkdir(exist_ok=True)
    return subprocess.run(
        [*under, sys.executable, "-m", MODULE, str(data), str(acks), str(count), str(seed)],
        cwd=ROOT,
        env={**os.environ, failpoints.VARIABLE: fail},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def start_worker(data: Path, acks: Path, count: int, seed: int) -> "subprocess.Popen[bytes]":
    data.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", MODULE, str(data), str(acks), str(count), str(seed)], cwd=ROOT, stderr=subprocess.PIPE
    )
