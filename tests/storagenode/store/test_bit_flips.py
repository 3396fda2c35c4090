"""One flipped bit anywhere, files swapped, moved or cut: found, or without effect. Nothing is silently different."""

import os
import pickle
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from blockyard.proto.disk.failures import CorruptStorage
from blockyard.proto.errors import UnknownBlock
from blockyard.storagenode.store import BlockStore, RecoveryReport
from blockyard.storagenode.store.pack import FIRST_RECORD

from tests.storagenode.store.harness import SETTINGS, block_id, check, content, listed, opened, put, read, seal
from tests.storagenode.store.processes import ROOT

SMALL = {block_id(number): length for number, length in enumerate([1, 100, 4096, 70_000] * 40, 1)}
LARGE = {block_id(number): 150_000 + number for number in range(500, 504)}


def written(path: Path) -> dict[int, int]:
    """Make a closed store with several packs and files; return its blocks."""
    with opened(path) as store:
        blocks = list(SMALL.items())
        for start in range(0, len(blocks), 8):
            put(store, blocks[start : start + 8])
        for block, length in LARGE.items():
            seal(store, block, length)
        gone = [block for block in SMALL if block % 5 == 0]
        store.drop(gone)
    return {block: length for block, length in (SMALL | LARGE).items() if block not in gone}


def flip(path: Path, offset: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def right_or_found(store: BlockStore, expected: dict[int, int]) -> str:
    """Demand that every listed block reads as it was written or fails its verification; say which it was."""
    found = listed(store)
    assert found.items() <= expected.items(), "a block is listed that must not be"
    outcome = "whole" if found == expected else "missing"
    for block, length in found.items():
        good = store.verify(block).good
        try:
            assert good == (read(store, block) == content(block, length))
            assert store.find(block).length == length
        except UnknownBlock:
            assert not good
        if not good:
            outcome = "found"
    return outcome


def test_a_flip_in_a_large_blocks_file_is_found_at_its_page(tmp_path: Path) -> None:
    written(tmp_path / "data")
    with opened(tmp_path / "data") as store:
        for block, length in LARGE.items():
            path = store._layout.file(block)
            for offset in (0, 65_535, 65_536, length - 1):
                flip(path, offset, offset % 8)
                assert store.verify(block).bad_pages == (offset // 65_536,)
                flip(path, offset, offset % 8)
            assert store.verify(block).good


def test_every_flip_in_a_pack_is_found_or_harmless_with_its_index_and_without(tmp_path: Path) -> None:
    expected = written(tmp_path / "data")
    chance = random.Random(5)
    outcomes: Counter[str] = Counter()
    for name in sorted(path.name for path in (tmp_path / "data" / "packs").iterdir()):
        size = (tmp_path / "data" / "packs" / name).stat().st_size
        for region, low, high in (("header", 0, 64), ("copy", 4096, 4160), ("records", FIRST_RECORD, size)):
            for _ in range(1 if region != "records" else 3):
                offset = chance.randrange(low, high)
                for with_index in (True, False):
                    path = tmp_path / "damaged"
                    shutil.copytree(tmp_path / "data", path)
                    flip(path / "packs" / name, offset, offset % 8)
                    if not with_index:
                        (path / "index.broken").touch()
                    store = BlockStore(path, SETTINGS)
                    report = store.open()
                    outcome = right_or_found(store, expected)
                    store.close()
                    if outcome == "missing":
                        assert report.damage or report.torn, f"{name} byte {offset}: a block vanished without a word"
                    assert region == "records" or outcome == "whole"
                    outcomes[f"{region} {outcome}"] += 1
                    shutil.rmtree(path)
    assert outcomes["records found"] + outcomes["records missing"] > 10, outcomes


def test_a_pack_that_lost_both_headers_is_refused_with_what_to_do_and_the_rest_is_rebuilt_without_it(
    tmp_path: Path,
) -> None:
    expected = written(tmp_path / "data")
    pack = min((tmp_path / "data" / "packs").iterdir())
    flip(pack, 10, 1)
    flip(pack, 4106, 1)
    store = BlockStore(tmp_path / "data", SETTINGS)
    with pytest.raises(CorruptStorage, match="--rebuild-index"):
        store.open()
    pack.rename(tmp_path / "aside")
    BlockStore.rebuild_index(tmp_path / "data")
    with opened(tmp_path / "data") as store:
        found = listed(store)
        assert found
        check(store, found)
        assert found.items() < expected.items()


@pytest.mark.parametrize("kind", ["*.sst", "MANIFEST-*", "CURRENT", "OPTIONS-*", "IDENTITY"])
def test_every_flip_in_the_index_is_found_and_the_index_made_anew_or_harmless(tmp_path: Path, kind: str) -> None:
    expected = written(tmp_path / "data")
    outcomes: Counter[str] = Counter()
    chance = random.Random(6)
    for name in sorted(path.name for path in (tmp_path / "data" / "index").glob(kind)):
        size = (tmp_path / "data" / "index" / name).stat().st_size
        for offset in sorted(chance.sample(range(size), min(size, 6))):
            path = tmp_path / "damaged"
            shutil.copytree(tmp_path / "data", path)
            flip(path / "index" / name, offset, offset % 8)
            outcomes[reopened(path, expected)] += 1
            shutil.rmtree(path)
    assert outcomes
    if kind in ("*.sst", "CURRENT"):
        assert outcomes["made anew"], outcomes


REOPEN = """
import pickle, sys
from pathlib import Path
from tests.storagenode.store.harness import check, opened
with opened(Path(sys.argv[1])) as store:
    check(store, pickle.loads(bytes.fromhex(sys.argv[2])))
    print("made anew" if store.report.from_scratch else "harmless")
"""


def reopened(path: Path, expected: dict[int, int]) -> str:
    """Open the store, in a process that may end by itself, until it serves; say how it came to that."""
    command = [sys.executable, "-c", REOPEN, str(path), pickle.dumps(expected).hex()]
    for _ in range(3):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 3:
            assert (path / "index.broken").exists(), "the process ended, and the next one would too"
            continue
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
    raise AssertionError("the store does not come up")


def test_swapped_and_moved_files_are_found(tmp_path: Path) -> None:
    expected = written(tmp_path / "data")
    [first, second, third, fourth] = LARGE
    with opened(tmp_path / "data") as store:
        put(store, [(block_id(900), 99_999)])
        files = {block: store._layout.file(block) for block in LARGE}
        swap(files[first], files[second])
        os.truncate(files[third], 70_000)
        assert not store.verify(first).good
        assert not store.verify(second).good
        assert store.verify(third).bad_pages == (1, 2)
        stray = files[fourth].with_name(f"{block_id(888):016x}")
        shutil.copy(files[fourth], stray)
    report = BlockStore.rebuild_index(tmp_path / "data")
    assert sorted(block for block, _ in report.lost) == [first, second, third]
    assert report.strays == [str(stray)]
    with opened(tmp_path / "data") as store:
        assert {block for block, _ in store.quarantined()} == {first, second, third, block_id(888)}
        for block in (first, second, third):
            del expected[block]
        check(store, expected | {block_id(900): 99_999})


def test_swapped_files_of_one_length_are_found(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number in (1, 2):
            seal(store, block_id(number), 200_000)
        swap(store._layout.file(block_id(1)), store._layout.file(block_id(2)))
    report = BlockStore.rebuild_index(tmp_path)
    assert sorted(block for block, _ in report.lost) == [block_id(1), block_id(2)]
    assert all("swapped" in why for _, why in report.lost)


def test_swapped_packs_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "data")
    first, second = sorted((tmp_path / "data" / "packs").iterdir())[:2]
    swap(first, second)
    with pytest.raises(CorruptStorage, match="is in truth"):
        BlockStore(tmp_path / "data", SETTINGS).open()


def test_a_pack_that_is_gone_costs_its_own_blocks_only(tmp_path: Path) -> None:
    expected = written(tmp_path / "data")
    packs = sorted((tmp_path / "data" / "packs").iterdir())
    packs[1].unlink()
    with opened(tmp_path / "data") as store:
        report: RecoveryReport = store.report
        assert report.from_scratch
        found = listed(store)
        assert 0 < len(found) < len(expected)
        check(store, found)


def test_a_rewrite_does_not_launder_rot(tmp_path: Path) -> None:
    """A record that has rotted is put aside, not copied under a fresh checksum."""
    blocks = {block_id(number): 4096 for number in range(1, 500)}
    with opened(tmp_path) as store:
        for start in range(1, 500, 50):
            put(store, [(block_id(n), 4096) for n in range(start, min(500, start + 50))])
        gone = [block for block in blocks if block % 8]
        store.drop(gone)
        alive = [block for block in blocks if block % 8 == 0]
        with store.open_range(alive[3]) as replica:
            offset = replica.file_offset
        with store.open_range(alive[9]) as replica:
            header = replica.file_offset - 64
        pack = min((tmp_path / "packs").iterdir())
        flip(pack, offset + 1000, 3)
        flip(pack, header + 8, 3)
        assert store.rewrite_packs(1 << 30) > 0
        assert {block for block, _ in store.quarantined()} == {alive[3], alive[9]}
        check(store, {block: 4096 for block in alive if block not in (alive[3], alive[9])})


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_a_torn_end_is_cut_and_what_was_acknowledged_stays(tmp_path: Path) -> None:
    """The last put reached the disk in part: its bytes and everything behind them mean nothing."""
    with opened(tmp_path / "data") as store:
        put(store, [(block_id(number), 4096) for number in range(1, 10)])
        end = store._log._writer.end
        put(store, [(block_id(number), 4096) for number in range(10, 14)])
        crashed = tmp_path / "crashed"
        for cut in (end + 10, end + 64, end + 2000, end + 4160 + 64, end + 3 * 4160 + 100):
            shutil.copytree(tmp_path / "data", crashed)
            with (crashed / "packs" / "00000001-000000.pack").open("r+b") as file:
                file.seek(cut)
                file.write(bytes(5 * 4160))
            torn = BlockStore(crashed, SETTINGS)
            report = torn.open()
            assert report.torn == 1
            whole = 9 + (cut - end) // 4160
            expected = {block_id(number): 4096 for number in range(1, whole + 1)}
            check(torn, expected)
            put(torn, [(block_id(50), 300)])
            torn.close()
            with opened(crashed) as again:
                check(again, expected | {block_id(50): 300})
            shutil.rmtree(crashed)
