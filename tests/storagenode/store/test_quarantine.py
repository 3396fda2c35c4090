"""Bad replicas that are kept aside: looked at by one thread while another lets them go."""

import threading
from pathlib import Path

from blockyard.storagenode.store.quarantine import Quarantine


def test_what_is_let_go_while_it_is_looked_at_is_passed_over(tmp_path: Path) -> None:
    kept = Quarantine(tmp_path, 1 << 30)
    going = threading.Event()
    failed: list[OSError] = []
    seen = 0

    def look() -> None:
        nonlocal seen
        while not going.is_set():
            try:
                seen += len(kept.entries())
            except OSError as error:
                failed.append(error)
                return

    looking = threading.Thread(target=look)
    looking.start()
    for block in range(1, 3000):
        kept.admit(block, "bad").write_bytes(b"x")
        kept.release(block)
    going.set()
    looking.join()
    assert seen, "nothing was ever looked at"
    assert not failed
    assert kept.entries() == []


def test_everything_of_a_block_is_let_go_and_nothing_else(tmp_path: Path) -> None:
    kept = Quarantine(tmp_path, 1 << 30)
    for block in (7, 8, 7):
        kept.admit(block, "bad").write_bytes(b"x")
    kept.release(7)
    assert [entry.block for entry in kept.entries()] == [8]
    assert len(list(tmp_path.iterdir())) == 2
