"""One cluster of real processes for the commands that change nothing, and a way to run them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.acknowledged import AcknowledgedBlocks
from tests.support.storage_cluster import StorageCluster

BLOCKYARD = str(Path(sys.executable).parent / "blockyard")


@dataclass(frozen=True, slots=True)
class Yard:
    """A cluster with some blocks, and its operator."""

    cluster: StorageCluster
    blocks: AcknowledgedBlocks

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        environment = {**os.environ, "BLOCKYARD_MEMBERS": ",".join(self.cluster.meta.addresses), "COLUMNS": "200"}
        command = [BLOCKYARD, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def text(self, *arguments: str) -> str:
        """Return what a command that must succeed printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Return what a command that must succeed printed with --json."""
        return json.loads(self.text(*arguments, "--json"))


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Return four nodes in four zones with blocks on them; tests of one file share it."""
    with StorageCluster(tmp_path_factory.mktemp("yard"), zones=("z1", "z2", "z3", "z4")) as cluster:
        blocks = AcknowledgedBlocks(cluster)
        blocks.put(20)
        blocks.write(2)
        yield Yard(cluster, blocks)
        blocks.close()
        print(cluster.logs())
