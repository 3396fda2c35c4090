"""The bare loops that block transfer is measured against: what the kernel and one CRC allow, and nothing else.

- `serve_file`: sendfile of a file to whoever connects, for `read_file`, recv_into of one buffer.
- `serve_relay`: receives into one buffer, forwards to the next, takes the CRC32C of every page, writes to a file, one
  for each block, as blocks are kept; the last one answers a byte per block, which comes back through all.
"""

import itertools
import os
import socket
import struct
import time
from multiprocessing.queues import Queue
from pathlib import Path

from crc32c import crc32c

BLOCK_BYTES = 64 << 20
PIECE_BYTES = 1 << 20
PAGE_BYTES = 64 << 10


def serve_file(queue: "Queue[str]", path: str) -> None:
    """Send the whole of one file as often as a client asks for it."""
    source = os.open(path, os.O_RDONLY)
    length = os.fstat(source).st_size
    listener = socket.create_server(("127.0.0.1", 0))
    queue.put(f"127.0.0.1:{listener.getsockname()[1]}")
    while True:
        sock, _ = listener.accept()
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while sock.recv(1):
                done = 0
                while done < length:
                    done += os.sendfile(sock.fileno(), source, done, length - done)


def read_file(address: str, times: int, buffer: memoryview) -> float:
    """Return the seconds that receiving the file `times` times takes; `buffer` is as long as the file."""
    with _connect(address) as sock:
        started = time.perf_counter()
        for _ in range(times):
            sock.sendall(b"x")
            done = 0
            while done < buffer.nbytes:
                done += sock.recv_into(buffer[done:])
        return time.perf_counter() - started


def read_direct(path: Path, offset: int, times: int, buffer: memoryview) -> float:
    """Return the seconds that filling `buffer` from the file itself takes, `times` times."""
    source = os.open(path, os.O_RDONLY)
    try:
        started = time.perf_counter()
        for _ in range(times):
            done = 0
            while done < buffer.nbytes:
                done += os.preadv(source, [buffer[done:]], offset + done)
        return time.perf_counter() - started
    finally:
        os.close(source)


def serve_relay(queue: "Queue[str]", directory: str, following: str) -> None:
    """Receive blocks, pass them on to `following` (empty: this is the last), check and write them."""
    listener = socket.create_server(("127.0.0.1", 0))
    queue.put(f"127.0.0.1:{listener.getsockname()[1]}")
    buffer = memoryview(bytearray(PIECE_BYTES))
    paths = (Path(directory) / f"relay-{os.getpid()}-{number}" for number in itertools.count())
    while True:
        sock, _ = listener.accept()
        onward = _connect(following) if following else None
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while head := sock.recv(8, socket.MSG_WAITALL):
                _relay(sock, onward, struct.unpack("<Q", head)[0], buffer, next(paths))
        if onward is not None:
            onward.close()


def write_chain(address: str, blocks: int, data: memoryview) -> float:
    """Return the seconds that sending `data` as so many blocks through the relays takes, all answers awaited."""
    with _connect(address) as sock:
        started = time.perf_counter()
        for _ in range(blocks):
            sock.sendall(struct.pack("<Q", data.nbytes))
            for start in range(0, data.nbytes, PIECE_BYTES):
                piece = data[start : start + PIECE_BYTES]
                for page in range(0, piece.nbytes, PAGE_BYTES):
                    crc32c(piece[page : page + PAGE_BYTES])
                sock.sendall(piece)
            assert sock.recv(1) == b"k"
        return time.perf_counter() - started


def _relay(sock: socket.socket, onward: socket.socket | None, length: int, buffer: memoryview, path: Path) -> None:
    target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        if onward is not None:
            onward.sendall(struct.pack("<Q", length))
        done = 0
        while done < length:
            piece = buffer[: min(PIECE_BYTES, length - done)]
            got = 0
            while got < piece.nbytes:
                got += sock.recv_into(piece[got:])
            if onward is not None:
                onward.sendall(piece)
            for page in range(0, piece.nbytes, PAGE_BYTES):
                crc32c(piece[page : page + PAGE_BYTES])
            done += os.pwrite(target, piece, done)
        sock.sendall(b"k" if onward is None else onward.recv(1))
    finally:
        os.close(target)


def _connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
