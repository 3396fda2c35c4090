"""Nodes that run for one module's tests; blocks are named anew by each test."""

from collections.abc import Iterator

import pytest
from blockyard.proto.blocks import Channels

from tests.storagenode.service.nodes import Node, running


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Three nodes, on the lane and gRPC."""
    with running(3, tmp_path_factory.mktemp("nodes"), grpc_too=True) as nodes:
        yield nodes


@pytest.fixture
def nodes(three: list[Node]) -> list[Node]:
    """The same, whose guards agree to everything until told otherwise."""
    for node in three:
        node.guard.write_error = node.guard.read_error = None
    return three


@pytest.fixture
def channels() -> Iterator[Channels]:
    """Connections of a client."""
    with Channels() as every:
        yield every
