"""The contract: generated code is up to date, every message and field is described, every change can be retried."""

import filecmp
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockyard.proto import (
    cluster_pb2,
    common_pb2,
    compute_pb2,
    lane_pb2,
    metadata_pb2,
    options_pb2,
    probe_pb2,
    raft_pb2,
    storage_pb2,
)
from blockyard.proto.lane import method_id
from blockyard.proto.lane.methods import payload_direction
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FileDescriptor, MethodDescriptor

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "proto/blockyard/proto"
FILES: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        *(cluster_pb2, common_pb2, compute_pb2, lane_pb2, metadata_pb2),
        *(options_pb2, probe_pb2, raft_pb2, storage_pb2),
    )
]


def methods() -> Iterator[MethodDescriptor]:
    for file in FILES:
        for service in file.services_by_name.values():
            yield from service.methods


def effect(method: MethodDescriptor) -> int:
    return int(method.GetOptions().Extensions[options_pb2.effect])  # type: ignore[index]


def fields(message: Descriptor) -> set[str]:
    return {field.name for field in message.fields}


def test_generated_code_is_what_the_contract_generates(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(ROOT / "proto/generate.py"), str(tmp_path)], check=True, capture_output=True, timeout=120
    )
    fresh = {path.name for path in (tmp_path / "blockyard/proto").iterdir()}
    committed = {path.name for path in PACKAGE.glob("*_pb2*.py*")}
    assert fresh == committed
    _, different, errors = filecmp.cmpfiles(tmp_path / "blockyard/proto", PACKAGE, sorted(fresh), shallow=False)
    assert not different
    assert not errors


def test_every_message_field_value_and_method_says_what_it_means(tmp_path: Path) -> None:
    out = tmp_path / "all.binpb"
    sources = sorted(str(path.relative_to(ROOT / "proto")) for path in PACKAGE.glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--include_source_info", f"--descriptor_set_out={out}"]
    subprocess.run([*command, *sources], cwd=ROOT / "proto", check=True, timeout=60)
    silent: list[str] = []
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        described = {
            tuple(location.path)
            for location in file.source_code_info.location
            if location.leading_comments.strip() or location.trailing_comments.strip()
        }
        silent += [f"{file.name}: {name}" for path, name in declarations(file) if path not in described]
    assert not silent


def declarations(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield the source path and name of everything that must be described."""
    for i, message in enumerate(file.message_type):
        yield (4, i), message.name
        for j, field in enumerate(message.field):
            yield (4, i, 2, j), f"{message.name}.{field.name}"
    for i, enum in enumerate(file.enum_type):
        yield (5, i), enum.name
        for j, value in enumerate(enum.value):
            yield (5, i, 2, j), f"{enum.name}.{value.name}"
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        for j, method in enumerate(service.method):
            yield (6, i, 2, j), f"{service.name}.{method.name}"


def test_every_change_of_the_namespace_carries_a_request_id() -> None:
    unsafe = [
        method.full_name
        for method in methods()
        if effect(method) == options_pb2.EFFECT_CHANGE
        and "request" not in fields(method.input_type)
        and method.containing_service.name == "Metadata"
    ]
    sessions = {f"blockyard.v1.Metadata.{name}" for name in ("OpenSession", "CloseSession")}
    assert set(unsafe) == sessions, "only sessions, which have a nonce or are their own id, may do without"


def test_no_metadata_operation_takes_a_path() -> None:
    service = metadata_pb2.DESCRIPTOR.services_by_name["Metadata"]
    assert not [
        method.full_name
        for method in service.methods
        if {"path", "paths"} & fields(method.input_type) and method.name != "OperationLog"
    ]


@pytest.mark.parametrize("name", ["WriteOpen", "PutBlocksRequest", "ReadBlocksRequest", "ListBlocksRequest"])
def test_requests_to_storage_nodes_carry_the_map_epoch(name: str) -> None:
    assert "map_epoch" in fields(storage_pb2.DESCRIPTOR.message_types_by_name[name])


def test_payload_methods_have_a_field_for_transports_without_payload() -> None:
    for method in methods():
        direction = payload_direction(f"/{method.containing_service.full_name}/{method.name}")
        if direction in (options_pb2.PAYLOAD_REQUEST, options_pb2.PAYLOAD_BOTH):
            assert "data" in fields(method.input_type), method.full_name
        if direction in (options_pb2.PAYLOAD_RESPONSE, options_pb2.PAYLOAD_BOTH):
            assert "data" in fields(method.output_type), method.full_name


def test_no_two_methods_share_a_lane_id() -> None:
    names = [f"/{method.containing_service.full_name}/{method.name}" for method in methods()]
    assert len({method_id(name) for name in names}) == len(names)


def test_unknown_fields_survive_a_process_that_does_not_know_them() -> None:
    newer = metadata_pb2.Attributes(inode=7).SerializeToString() + b"\xfa\x3e\x03new"
    assert b"\xfa\x3e\x03new" in metadata_pb2.Attributes.FromString(newer).SerializeToString()
