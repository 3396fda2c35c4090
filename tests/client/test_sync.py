"""`fsync` vouches for everything written to the file before, whoever wrote it and through whichever handle."""

import threading

import pytest
from blockyard.client import Filesystem
from blockyard.client.engine import Engine
from blockyard.client.metadata.session import Session


class Hardening:
    """Watches blocks become durable; the first time it waits to be told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self.ended: list[int] = []
        harden = Engine.harden

        def watched(engine: Engine, blocks: list[tuple[int, int]], session: Session) -> None:
            self.began.set()
            assert self.go_on.wait(30)
            harden(engine, blocks, session)
            self.ended.append(len(blocks))

        monkeypatch.setattr(Engine, "harden", watched)


def test_a_second_fsync_does_not_return_before_the_first_one_made_it_true(
    fs: Filesystem, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardening = Hardening(monkeypatch)
    with fs.open(f"{place}/f", "wb", 0) as file:
        file.write(b"small")
        file.flush()
        first, second = threading.Thread(target=file.fsync), threading.Thread(target=file.fsync)
        first.start()
        assert hardening.began.wait(30)
        second.start()
        second.join(0.3)
        assert second.is_alive()
        hardening.go_on.set()
        first.join(30)
        second.join(30)
        assert hardening.ended == [1]


def test_what_was_written_at_positions_is_synced_with_what_was_appended(
    fs: Filesystem, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardening = Hardening(monkeypatch)
    hardening.go_on.set()
    with fs.open(f"{place}/f", "wb", 0) as file, fs.open(f"{place}/f", "ab", 0) as log:
        file.write(b"small")
        file.flush()
        log.write(b" and more")
        log.flush()
        log.fsync()
        assert hardening.ended == [2]
        file.fsync()
        assert hardening.ended == [2]
