"""The same file system for event loops: every call is made by a thread of a small pool, and awaited.

    async with connect("blockyard://meta-1/") as fs, await fs.open("/f", "rb") as file:
        data = await file.read(1 << 20)

What it says, raises and promises is what `Filesystem` and its files do. Cancelling a coroutine leaves its thread to
finish the call.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from blockyard.client import connecting
from blockyard.client.filesystem import Filesystem

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 16
"""Calls of one file system under way at once; others wait their turn."""


def connect(where: Any = None, *, threads: int = THREADS, **options: Any) -> "AioFilesystem":
    """Return the file system of a cluster; `where` and `options` are those of `blockyard.client.connect`."""
    return AioFilesystem(connecting.connect(where, **options), threads)


def _awaited(
    method: Callable[Concatenate[Filesystem, P], T],
) -> Callable[Concatenate["AioFilesystem", P], Coroutine[Any, Any, T]]:
    """Return the coroutine function that makes a call of `method` in a thread."""

    @wraps(method)
    async def call(self: "AioFilesystem", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(partial(method, self.blocking, *args, **kwargs))

    return call


class AioFilesystem:
    """One user's view of one cluster, for one event loop. Close it, or use it as an async context manager."""

    def __init__(self, blocking: Filesystem, threads: int = THREADS) -> None:
        """Stand on `blocking`, which is closed with this."""
        self.blocking = blocking
        self._threads = ThreadPoolExecutor(threads, "blockyard-aio")

    def run(self, call: Callable[[], T]) -> Awaitable[T]:
        """Make any call in a thread of the pool."""
        return asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def open(self, path: Any, mode: str = "r", *args: Any, **options: Any) -> "AioFile":
        """Open a file; see `Filesystem.open`."""
        return AioFile(self, await self.run(partial(self.blocking.open, path, mode, *args, **options)))

    async def get_many(self, paths: Any) -> list[tuple[Any, bytes]]:
        """Return (path, content) of many whole files; see `Filesystem.get_many`."""
        return await self.run(lambda: list(self.blocking.get_many(paths)))

    async def scandir(self, path: Any = "/") -> list[Any]:
        """Return a directory's entries; see `Filesystem.scandir`."""
        return await self.run(lambda: list(self.blocking.scandir(path)))

    async def close(self) -> None:
        """Flush every open file, end the session, close every connection."""
        try:
            await self.run(self.blocking.close)
        finally:
            self._threads.shutdown(wait=False)

    async def __aenter__(self) -> "AioFilesystem":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    stat = _awaited(Filesystem.stat)
    lstat = _awaited(Filesystem.lstat)
    exists = _awaited(Filesystem.exists)
    isdir = _awaited(Filesystem.isdir)
    isfile = _awaited(Filesystem.isfile)
    islink = _awaited(Filesystem.islink)
    read_bytes = _awaited(Filesystem.read_bytes)
    write_bytes = _awaited(Filesystem.write_bytes)
    put_many = _awaited(Filesystem.put_many)
    glob = _awaited(Filesystem.glob)
    mkdir = _awaited(Filesystem.mkdir)
    makedirs = _awaited(Filesystem.makedirs)
    rename = _awaited(Filesystem.rename)
    replace = _awaited(Filesystem.replace)
    link = _awaited(Filesystem.link)
    symlink = _awaited(Filesystem.symlink)
    readlink = _awaited(Filesystem.readlink)
    unlink = _awaited(Filesystem.unlink)
    rmdir = _awaited(Filesystem.rmdir)
    rmtree = _awaited(Filesystem.rmtree)
    chmod = _awaited(Filesystem.chmod)
    chown = _awaited(Filesystem.chown)
    utime = _awaited(Filesystem.utime)
    truncate = _awaited(Filesystem.truncate)
    getxattr = _awaited(Filesystem.getxattr)
    setxattr = _awaited(Filesystem.setxattr)
    listxattr = _awaited(Filesystem.listxattr)
    removexattr = _awaited(Filesystem.removexattr)
    copy = _awaited(Filesystem.copy)
    locate = _awaited(Filesystem.locate)
    statvfs = _awaited(Filesystem.statvfs)


class AioFile:
    """An open file. One coroutine at a time may use its position."""

    def __init__(self, filesystem: AioFilesystem, blocking: Any) -> None:
        self.blocking = blocking
        """The file that `Filesystem.open` returned."""
        self._run = filesystem.run

    async def read(self, size: int = -1) -> Any:
        """Return up to `size` bytes, or characters of a text file; everything by default."""
        return await self._run(partial(self.blocking.read, size))

    async def readinto(self, buffer: Any) -> int:
        """Fill `buffer`; return how many bytes there were."""
        return int(await self._run(partial(self.blocking.readinto, buffer)))

    async def readline(self) -> Any:
        """Return the next line."""
        return await self._run(self.blocking.readline)

    async def write(self, data: Any) -> int:
        """Write all of `data`."""
        return int(await self._run(partial(self.blocking.write, data)))

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; return it."""
        return int(await self._run(partial(self.blocking.seek, offset, whence)))

    async def tell(self) -> int:
        """Return the position."""
        return int(await self._run(self.blocking.tell))

    async def truncate(self, size: int | None = None) -> int:
        """Make the file `size` bytes long."""
        return int(await self._run(partial(self.blocking.truncate, size)))

    async def flush(self) -> None:
        """Make everything written visible."""
        await self._run(self.blocking.flush)

    async def fsync(self) -> None:
        """Make everything written visible and durable."""
        await self._run(self.blocking.fsync)

    async def close(self) -> None:
        """Flush, and close."""
        await self._run(self.blocking.close)

    async def __aenter__(self) -> "AioFile":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> "AioFile":
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line
