"""Addresses that cannot be used are named, with the reason."""

from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.lane import sockets
from blockyard.proto.metrics import ProcessMetrics


def test_a_taken_port_is_named() -> None:
    with sockets.listen("127.0.0.1:0") as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {address}: Address already in use"):
            sockets.listen(address)


def test_a_unix_path_without_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot listen on unix:.*/none/lane: No such file"):
        sockets.listen(f"unix:{tmp_path}/none/lane")


def test_a_taken_metrics_port_is_named_with_its_key() -> None:
    with sockets.listen("127.0.0.1:0") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port} \(metrics\.port\): Address already in use"):
            ProcessMetrics().serve(port, "127.0.0.1")


@pytest.mark.parametrize("address", ["nonsense", "host:", ":7701", "host:http"])
def test_what_is_no_address_is_said_to_be_none(address: str) -> None:
    with pytest.raises(errors.Unavailable, match=f"{address} is no address: give HOST:PORT"):
        sockets.connect(address, 1.0)
