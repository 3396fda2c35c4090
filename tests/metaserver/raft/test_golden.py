"""Golden scenarios: protocol runs as readable transcripts, in `golden/*.txt`.

After a wanted change of the protocol: BLOCKYARD_GOLDEN=write pytest tests/metaserver/raft/test_golden.py, and read
the difference as carefully as code.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.metaserver.raft.golden_run import Scenario

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.name for path in GOLDEN.glob("*.txt"))


@pytest.mark.parametrize("name", NAMES)
def test_the_protocol_runs_as_its_transcript_says(name: str) -> None:
    path = GOLDEN / name
    written = path.read_text(encoding="utf-8")
    run = Scenario().run(written)
    if os.environ.get("BLOCKYARD_GOLDEN") == "write":
        path.write_text(run, encoding="utf-8")
    else:
        assert run == written


def test_all_scenarios_are_there() -> None:
    assert len(NAMES) >= 12
