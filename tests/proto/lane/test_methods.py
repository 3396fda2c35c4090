"""How methods are found: by the CRC32C of their name, with their payload's direction from the contract."""

import importlib
import itertools
from typing import Any

import pytest
from blockyard.proto import options_pb2
from blockyard.proto.call import register
from blockyard.proto.lane.methods import MethodTable, carries_reply_payload, carries_request_payload, method_id
from blockyard.proto.metrics import TransportMetrics
from blockyard.proto.probe import ThreadProbe
from blockyard.proto.probe_pb2_grpc import add_ProbeServicer_to_server
from crc32c import crc32c
from google.protobuf.descriptor import FileDescriptor

CONTRACT = ("cluster", "compute", "metadata", "probe", "raft", "storage")


def table() -> MethodTable:
    """Return an empty table."""
    return MethodTable(TransportMetrics("lane", "server"))


def test_a_registered_method_is_found_by_its_id() -> None:
    methods = table()
    register(add_ProbeServicer_to_server, ThreadProbe(), methods)
    method = methods.get(method_id("/blockyard.v1.Probe/Push"))
    assert method is not None
    assert (method.name, method.request_streaming, method.response_streaming) == (
        "/blockyard.v1.Probe/Push",
        False,
        False,
    )
    assert (method.request_payload, method.reply_payload) == (True, False)
    short = {name.removeprefix("/blockyard.v1.Probe/") for name in methods.names()}
    assert short == {"Chat", "Count", "Echo", "Pull", "Push", "Sum"}


def test_an_unknown_id_is_none() -> None:
    assert table().get(method_id("/blockyard.v1.Probe/Nothing")) is None


def test_a_service_is_registered_once() -> None:
    methods = table()
    register(add_ProbeServicer_to_server, ThreadProbe(), methods)
    with pytest.raises(ValueError, match="register it once"):
        register(add_ProbeServicer_to_server, ThreadProbe(), methods)


def test_two_names_with_one_id_are_refused() -> None:
    names: dict[int, str] = {}
    for number in itertools.count():
        name = f"/s/m{number}"
        other = names.setdefault(crc32c(name.encode()), name)
        if other != name:
            break
    methods: Any = table()
    handler = _Handler()
    methods.add_registered_method_handlers("s", {other.rpartition("/")[2]: handler})
    with pytest.raises(ValueError, match=f"{name} and {other} share the lane id"):
        methods.add_registered_method_handlers("s", {name.rpartition("/")[2]: handler})


def test_no_two_methods_of_the_contract_share_an_id() -> None:
    names = []
    for module in CONTRACT:
        descriptor: FileDescriptor = importlib.import_module(f"blockyard.proto.{module}_pb2").DESCRIPTOR
        for service in descriptor.services_by_name.values():
            names += [f"/{service.full_name}/{method.name}" for method in service.methods]
    assert len({method_id(name) for name in names}) == len(names) > 50


def test_payload_goes_where_the_contract_says() -> None:
    assert carries_request_payload("/blockyard.v1.Probe/Push")
    assert not carries_reply_payload("/blockyard.v1.Probe/Push")
    assert carries_reply_payload("/blockyard.v1.Probe/Pull")
    assert not carries_request_payload("/blockyard.v1.Probe/Echo")
    assert not carries_reply_payload("/no.such.Service/Method")
    assert options_pb2.PAYLOAD_NONE == 0


class _Handler:
    """What generated code registers for one method."""

    request_streaming = response_streaming = False
    unary_stream = stream_unary = stream_stream = None
    request_deserializer = response_serializer = staticmethod(bytes)

    def unary_unary(self, request: Any, context: Any) -> Any:
        return request
