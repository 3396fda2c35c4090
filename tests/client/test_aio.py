"""The event loop's flavour: the same answers, many at once."""

import asyncio

import pytest
from blockyard.client import aio

from tests.support.storage_cluster import StorageCluster


async def test_many_coroutines_share_one_file_system(cluster: StorageCluster) -> None:
    async with aio.connect(cluster.meta.addresses) as fs:
        await fs.mkdir("/aio")

        async def one(number: int) -> bytes:
            async with await fs.open(f"/aio/{number}", "w+b") as file:
                await file.write(b"%d" % number * 1000)
                await file.fsync()
                await file.seek(0)
                content = await file.read()
            assert (await fs.stat(f"/aio/{number}")).st_size == len(content)
            return bytes(content)

        contents = await asyncio.gather(*(one(number) for number in range(40)))
        assert contents == [b"%d" % number * 1000 for number in range(40)]
        assert dict(await fs.get_many([f"/aio/{number}" for number in range(40)])) == {
            f"/aio/{number}": content for number, content in enumerate(contents)
        }
        async with await fs.open("/aio/text", "w") as file:
            await file.write("one\ntwo\n")
        async with await fs.open("/aio/text") as file:
            assert [line async for line in file] == ["one\n", "two\n"]
        with pytest.raises(FileNotFoundError) as raised:
            await fs.open("/aio/none")
        assert raised.value.filename == "/aio/none"
        assert len(await fs.scandir("/aio")) == 41
        await fs.rmtree("/aio")
