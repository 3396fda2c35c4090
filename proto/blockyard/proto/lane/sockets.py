"""Addresses and sockets: connecting, listening, and what the kernel is told about dead peers."""

import os
import socket
from pathlib import Path
from typing import Any

from blockyard.proto import errors

STALL_S = 30.0
"""A peer that stops in the middle of a frame, or takes nothing, for this long is given up."""


def connect(address: str, timeout_s: float) -> socket.socket:
    """Connect to `host:port` or `unix:/path`; raises Unavailable, saying why, when nothing answers in time."""
    try:
        if address.startswith("unix:"):
            sock = _connect_unix(address.removeprefix("unix:"), timeout_s)
        else:
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal():
                raise errors.Unavailable(f"{address} is no address: give HOST:PORT", address)
            sock = socket.create_connection((host.strip("[]"), int(port)), timeout_s)
            tune(sock, STALL_S)
    except errors.Unavailable:
        raise
    except (OSError, OverflowError, ValueError) as error:
        raise errors.Unavailable(f"{address} does not answer: {error}", address) from error
    sock.settimeout(None)
    return sock


def _connect_unix(path: str, timeout_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def listen(address: str, backlog: int = 1024) -> socket.socket:
    """Listen on `host:port` (port 0: the system chooses) or `unix:/path` (a left-over socket there is replaced).

    Raises OSError, saying where.
    """
    try:
        return _listen(address, backlog)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
        raise OSError(error.errno, f"cannot listen on {address}: {why}") from error


def _listen(address: str, backlog: int) -> socket.socket:
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(path))
        sock.listen(backlog)
        return sock
    host, _, port = address.rpartition(":")
    return socket.create_server((host.strip("[]"), int(port)), backlog=backlog, reuse_port=False)


def tune(sock: Any, stall_s: float) -> None:
    """Let small frames leave at once, and notice a machine that died after `stall_s` seconds; for TCP.

    `sock` is a socket or what an event loop shows of one.
    """
    if sock.family == socket.AF_UNIX:
        return
    seconds = max(1, int(stall_s))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 3))


def peer_name(sock: socket.socket) -> str:
    """Return the other end's address, for logs."""
    try:
        name = sock.getpeername()
    except OSError:
        return "gone"
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix"


def sever(sock: socket.socket) -> None:
    """Shut a socket down without closing its descriptor: whoever waits on it wakes."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # already down
