"""Connections to storage nodes: one channel per address, made at first use and kept."""

import threading
from typing import Any, cast

import grpc
from blockyard.proto import errors
from blockyard.proto.common_pb2 import Address
from blockyard.proto.lane import Channel
from blockyard.proto.storage_pb2_grpc import StorageStub

CONNECT_TIMEOUT_S = 1.0
"""A node that does not shake hands within this is taken for failed; others hold what it holds."""


class Channels:
    """Channels of one process to storage nodes. Any number of threads may use it."""

    def __init__(self, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._lock = threading.Lock()
        self._closed = False
        self._by_address: dict[str, tuple[Channel, Any]] = {}

    def stub(self, address: Address) -> Any:
        """Return a stub of the Storage service of the node at `address`, over TCP. Raises Unavailable once closed."""
        return self._stub(f"{address.host}:{address.lane_port}")

    def local_stub(self, address: Address) -> Any:
        """Return the same over the node's Unix socket, which must be on this machine."""
        return self._stub(f"unix:{address.unix_path}")

    def close(self) -> None:
        """Close every channel; calls under way fail with ConnectionLost."""
        with self._lock:
            self._closed = True
            channels, self._by_address = self._by_address, {}
        for channel, _ in channels.values():
            channel.close()

    def __enter__(self) -> "Channels":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stub(self, name: str) -> Any:
        with self._lock:
            if self._closed:
                raise errors.Unavailable("the channels were closed", name)
            known = self._by_address.get(name)
            if known is None:
                channel = Channel(name, connect_timeout_s=self._connect_timeout_s)
                known = self._by_address[name] = (channel, StorageStub(cast(grpc.Channel, channel)))
        return known[1]
