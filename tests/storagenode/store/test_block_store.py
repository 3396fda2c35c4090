"""The store's calls, one by one: what they take, what they refuse, what is true afterwards."""

import os
import threading
from pathlib import Path

import crc32c
import pytest
from blockyard.proto.disk.failures import DirectoryRefused
from blockyard.proto.errors import CorruptBlock, Exists, InvalidArgument, TooLarge, UnknownBlock
from blockyard.storagenode.store import PAGE_BYTES, BlockStore, NewBlock, OpenedReplica

from tests.storagenode.store.harness import (
    SETTINGS,
    SMALL_LIMIT,
    block_id,
    check,
    content,
    listed,
    opened,
    pages,
    put,
    read,
    seal,
)

LENGTHS = [1, 63, 64, 4096, PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1, SMALL_LIMIT - 1, SMALL_LIMIT, 1 << 20]


@pytest.mark.parametrize("durable", [True, False])
def test_blocks_of_every_length_read_as_they_were_written_and_survive_a_restart(tmp_path: Path, durable: bool) -> None:
    expected = {block_id(number): length for number, length in enumerate(LENGTHS, 1)}
    expected |= {block_id(number, 9): length for number, length in enumerate(LENGTHS, 100)}
    with opened(tmp_path) as store:
        for block, length in expected.items():
            if block < block_id(0, 9):
                assert seal(store, block, length, durable=durable).in_pack == (length < SMALL_LIMIT)
            else:
                put(store, [(block, length)], durable=durable)
        check(store, expected)
        assert store.groups() == [7, 9]
    with opened(tmp_path) as store:
        check(store, expected)
        assert all(store.verify(block).good for block in expected)


def test_a_list_is_of_one_group_rising_and_begins_after_an_id(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, [(block_id(number), 10) for number in (5, 3, 9)])
        put(store, [(block_id(4), 20), (block_id(1, 8), 30)], durable=False)
        assert store.list(7, 0, 10) == [(block_id(3), 10), (block_id(4), 20), (block_id(5), 10), (block_id(9), 10)]
        assert store.list(7, block_id(3), 2) == [(block_id(4), 20), (block_id(5), 10)]
        assert store.list(7, block_id(9), 10) == []
        assert store.list(6, 0, 10) == []


def test_a_put_again_with_the_same_content_is_success_and_writes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, [(block_id(1), 100)], durable=False)
        puts, syncs = store.usage().puts, store.usage().syncs
        put(store, [(block_id(1), 100)])
        assert (store.usage().puts, store.usage().syncs) == (puts, syncs + 1)


def test_a_put_with_other_content_is_refused_with_all_that_came_with_it(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, [(block_id(1), 100)])
        with pytest.raises(Exists):
            put(store, [(block_id(2), 50), (block_id(1), 99)])
        check(store, {block_id(1): 100})


def test_a_put_that_does_not_match_itself_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    data = content(block_id(1), 100)
    with opened(tmp_path) as store:
        for blocks, error in [
            ([NewBlock(block_id(1), 99, pages(data[:99]))], InvalidArgument),
            ([NewBlock(block_id(1), 100, ())], InvalidArgument),
            ([NewBlock(block_id(1), 100, (*pages(data), 1))], InvalidArgument),
            ([NewBlock(block_id(1), 100, pages(data[:99]))], CorruptBlock),
            ([NewBlock(1 << 64, 100, pages(data))], InvalidArgument),
            ([NewBlock(7 << 48, 100, pages(data))], InvalidArgument),
            (
                [NewBlock(block_id(1), 50, pages(data[:50])), NewBlock(block_id(1), 50, pages(data[50:]))],
                InvalidArgument,
            ),
        ]:
            with pytest.raises(error):
                store.put(blocks, data, True)
        with pytest.raises(TooLarge):
            put(store, [(block_id(1), (4 << 20) + 1)])
        assert (listed(store), store.usage().puts) == ({}, 0)


def test_a_block_is_written_by_one_writer_and_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        writer = store.begin(block_id(1))
        with pytest.raises(Exists):
            store.begin(block_id(1))
        with pytest.raises(Exists):
            put(store, [(block_id(1), 10)])
        with pytest.raises(UnknownBlock):
            store.find(block_id(1))
        writer.abort()
        seal(store, block_id(1), 200_000)
        with pytest.raises(Exists):
            store.begin(block_id(1))
        check(store, {block_id(1): 200_000})
        assert not list((tmp_path / "writing").iterdir())


def test_a_piece_with_a_wrong_checksum_leaves_the_block_as_it_was(tmp_path: Path) -> None:
    block, data = block_id(1), content(block_id(1), 3 * PAGE_BYTES + 5)
    crcs = pages(data)
    with opened(tmp_path) as store:
        writer = store.begin(block)
        writer.append(memoryview(data)[: PAGE_BYTES + 7], crcs[:1])
        for bad in [(crcs[1] ^ 1, crcs[2]), (crcs[1], crcs[2] ^ 1), (crcs[2], crcs[1])]:
            with pytest.raises(CorruptBlock):
                writer.append(memoryview(data)[PAGE_BYTES + 7 : 3 * PAGE_BYTES], bad)
        with pytest.raises(InvalidArgument):
            writer.append(memoryview(data)[PAGE_BYTES + 7 : 3 * PAGE_BYTES], crcs[1:2])
        assert writer.length == PAGE_BYTES + 7
        writer.append(memoryview(data)[PAGE_BYTES + 7 : 3 * PAGE_BYTES], crcs[1:3])
        with pytest.raises(CorruptBlock):
            writer.append(memoryview(data)[3 * PAGE_BYTES :], [crcs[3] ^ 1])
        writer.append(memoryview(data)[3 * PAGE_BYTES :], crcs[3:])
        view = bytearray(100)
        assert writer.read(PAGE_BYTES - 50, memoryview(view)) == 100
        assert bytes(view) == data[PAGE_BYTES - 50 : PAGE_BYTES + 50]
        with pytest.raises(InvalidArgument):
            writer.seal(len(data) - 1, crc32c.crc32c(data), True)
        with pytest.raises(CorruptBlock):
            writer.seal(len(data), crc32c.crc32c(data) ^ 1, True)
        assert writer.seal(len(data), crc32c.crc32c(data), True).checksums == crcs
        with pytest.raises(InvalidArgument):
            writer.append(memoryview(data), crcs)
        check(store, {block: len(data)})


def test_a_dropped_block_is_gone_for_good_and_may_come_again(tmp_path: Path) -> None:
    small, large = block_id(1), block_id(2)
    with opened(tmp_path) as store:
        for _ in range(2):
            put(store, [(small, 5000)])
            seal(store, large, 300_000)
            check(store, {small: 5000, large: 300_000})
            assert store.drop([small, large, small, block_id(3)]) == 2
            check(store, {})
            with pytest.raises(UnknownBlock):
                store.open_range(large)
    with opened(tmp_path) as store:
        check(store, {})
    assert not list((tmp_path / "blocks").glob("*/*"))
    assert not list((tmp_path / "writing").iterdir())


def test_an_opened_block_stays_readable_while_it_is_dropped_and_its_pack_is_rewritten(tmp_path: Path) -> None:
    blocks = [block_id(number) for number in range(1, 400)]
    with opened(tmp_path) as store:
        for start in range(0, len(blocks), 50):
            put(store, [(block, 5000) for block in blocks[start : start + 50]])
        seal(store, block_id(1000), 300_000)
        held = {block: store.open_range(block) for block in [*blocks[:20], blocks[150], block_id(1000)]}
        store.drop([*blocks[:180], block_id(1000)])
        assert store.rewrite_packs(1 << 30) > 0
        put(store, [(block_id(number), 5000) for number in range(2000, 2400)])
        for block, replica in held.items():
            data = os.pread(replica.fd, replica.length, replica.file_offset)
            assert data == content(block, replica.length)
            replica.close()
        check(store, dict.fromkeys([*blocks[180:], *range(block_id(2000), block_id(2400))], 5000))


def test_blocks_opened_together_are_as_each_by_itself_and_are_given_back(tmp_path: Path) -> None:
    lengths = {block_id(number): length for number, length in enumerate((1, 4096, 300_000, PAGE_BYTES + 1), 1)}
    gone, lost = block_id(99), block_id(3)
    with opened(tmp_path) as store:
        for block, length in lengths.items():
            seal(store, block, length)
        before = len(os.listdir("/proc/self/fd"))
        with store.open_ranges([*lengths, gone, *lengths]) as together:
            store.drop([block_id(2), lost])
            assert isinstance(together[gone], UnknownBlock)
            for block, length in lengths.items():
                replica = together[block]
                assert isinstance(replica, OpenedReplica)
                assert replica.checksums == tuple(pages(content(block, length)))
                assert os.pread(replica.fd, replica.length, replica.file_offset) == content(block, length)
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # the pack's is kept, the dropped file's is not
        seal(store, lost, 300_000)
        next((tmp_path / "blocks").glob("*/*")).unlink()
        with store.open_ranges([lost, block_id(1)]) as together:
            assert isinstance(together[lost], UnknownBlock)
            assert isinstance(together[block_id(1)], OpenedReplica)
        assert [block for block, _ in store.quarantined()] == [lost]


def test_descriptors_are_few_however_many_blocks_are_read(tmp_path: Path) -> None:
    settings = SETTINGS.__class__(small_block_limit_bytes=1, open_files=4, reserve_bytes=0, sync_interval_s=3600)
    with opened(tmp_path, settings) as store:
        expected = {block_id(number): 100 for number in range(1, 40)}
        for block, length in expected.items():
            seal(store, block, length, durable=False)
        held = [store.open_range(block) for block in expected]
        assert all(os.pread(each.fd, 100, 0) == content(b, 100) for b, each in zip(expected, held, strict=True))
        for each in held:
            each.close()
        before = len(os.listdir("/proc/self/fd"))
        check(store, expected)
        assert len(os.listdir("/proc/self/fd")) <= before


def test_what_is_quarantined_is_neither_served_nor_listed_and_is_kept_aside(tmp_path: Path) -> None:
    small, large = block_id(1), block_id(2)
    with opened(tmp_path) as store:
        put(store, [(small, 5000)])
        seal(store, large, 300_000)
        store.quarantine(small, "a reader said so")
        store.quarantine(large, "scrub")
        store.quarantine(block_id(3), "is not here")
        assert store.quarantined() == [(small, "a reader said so"), (large, "scrub")]
        check(store, {})
        kept = sorted(path for path in (tmp_path / "quarantine").iterdir() if path.suffix != ".why")
        assert [path.read_bytes() for path in kept] == [content(small, 5000), content(large, 300_000)]
        put(store, [(small, 5000)])
        assert store.usage().quarantined == 2
    with opened(tmp_path) as store:
        check(store, {small: 5000})


def test_the_quarantine_is_bounded(tmp_path: Path) -> None:
    settings = SETTINGS.__class__(quarantine_bytes=12_000, reserve_bytes=0, sync_interval_s=3600)
    with opened(tmp_path, settings) as store:
        for number in range(1, 6):
            put(store, [(block_id(number), 5000)])
            store.quarantine(block_id(number), str(number))
        assert [why for _, why in store.quarantined()] == ["4", "5"]


def test_a_block_whose_file_is_missing_is_not_served(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        seal(store, block_id(1), 300_000)
        next((tmp_path / "blocks").glob("*/*")).unlink()
        assert not store.verify(block_id(1)).good
        with pytest.raises(UnknownBlock):
            store.open_range(block_id(1))
        assert listed(store) == {}
        assert [block for block, _ in store.quarantined()] == [block_id(1)]


def test_the_scrubber_gets_the_blocks_checked_longest_ago_first(tmp_path: Path) -> None:
    blocks = [block_id(number) for number in range(1, 8)]
    with opened(tmp_path) as store:
        put(store, [(block, 10) for block in blocks])
        for age, block in enumerate(reversed(blocks)):
            store.mark_scrubbed(block, 1000 + age)
        store.mark_scrubbed(block_id(99), 1)
        assert store.oldest_scrubbed(3) == blocks[:3:-1]
        assert store.oldest_scrubbed(10) == blocks[3::-1]
        assert store.find(blocks[-1]).scrubbed_ns == 1000
    with opened(tmp_path) as store:
        assert store.find(blocks[-1]).scrubbed_ns == 1000
        check(store, dict.fromkeys(blocks, 10))


def test_one_process_has_a_directory_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(DirectoryRefused, match="in use by process"):
        BlockStore(tmp_path, SETTINGS).open()
    with pytest.raises(DirectoryRefused, match="There is no directory"):
        BlockStore(tmp_path / "none", SETTINGS).open()


def test_many_threads_share_syncs_and_none_gets_anothers_answer(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def work(store: BlockStore, worker: int) -> None:
        try:
            for number in range(40):
                mine, shared = block_id(1 + worker * 1000 + number), block_id(1 + number, 9)
                put(store, [(mine, 4096), (shared, 500)])
                with pytest.raises(Exists):
                    put(store, [(block_id(2_000_000 + worker), 10), (shared, 501)])
                if number % 8 == 7:
                    seal(store, block_id(1_000_000 + worker * 1000 + number), 150_000)
                    assert store.drop([mine]) == 1
                else:
                    assert read(store, mine) == content(mine, 4096)
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    with opened(tmp_path) as store:
        threads = [threading.Thread(target=work, args=(store, worker)) for worker in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        usage = store.usage()
        assert usage.puts / usage.syncs > 2, "no sync served several puts: group commit was not tried"
        expected = {block_id(1 + number, 9): 500 for number in range(40)}
        for worker in range(16):
            expected |= {block_id(1 + worker * 1000 + number): 4096 for number in range(40) if number % 8 != 7}
            expected |= {block_id(1_000_000 + worker * 1000 + number): 150_000 for number in range(7, 40, 8)}
        check(store, expected)
    with opened(tmp_path) as store:
        check(store, expected)
