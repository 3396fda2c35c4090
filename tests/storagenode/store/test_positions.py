"""Where the log goes on after a crash: never behind a record that the index does not have."""

import shutil
import threading
from pathlib import Path

import pytest
from blockyard.proto import failpoints
from blockyard.storagenode.store import BlockStore, NewBlock
from crc32c import crc32c

FIRST, SECOND = 1, 2


def put(store: BlockStore, block: int) -> None:
    store.put([NewBlock(block, 5, (crc32c(b"bytes"),))], b"bytes", True)


def test_an_index_that_is_written_out_amid_an_append_does_not_claim_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlockStore(tmp_path / "store")
    (tmp_path / "store").mkdir()
    store.open()
    put(store, FIRST)
    written, go_on = threading.Event(), threading.Event()

    def wait_there(name: str) -> None:
        if name == "store.append.written" and not written.is_set():
            written.set()
            assert go_on.wait(30)

    settle = store._rewriter._settle

    def settle_and_append() -> None:
        settle()
        monkeypatch.setattr(failpoints, "hit", wait_there)
        appending.start()
        assert written.wait(30)

    appending = threading.Thread(target=put, args=(store, SECOND))
    monkeypatch.setattr(store._rewriter, "_settle", settle_and_append)
    store.rewrite_packs(1)
    shutil.copytree(tmp_path / "store", tmp_path / "crashed")
    go_on.set()
    appending.join()
    store.close()
    crashed = BlockStore(tmp_path / "crashed")
    crashed.open()
    assert [block for block, _ in crashed.list(0, 0, 10)] == [FIRST, SECOND]
    crashed.close()
