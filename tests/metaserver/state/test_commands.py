"""Commands of the log: ids, bytes, and what this version does not know."""

from typing import Any

import pytest
from blockyard.metaserver.state.commands import INTERNAL, METADATA, catalogue, encode, method_id
from blockyard.proto import metadata_pb2 as pb
from blockyard.proto.options_pb2 import EFFECT_CHANGE, effect
from blockyard.proto.raft_pb2 import CommandBatch
from crc32c import crc32c


def test_a_method_id_is_the_lanes() -> None:
    assert method_id(f"{METADATA}Create") == crc32c(b"/blockyard.v1.Metadata/Create")


def test_every_change_of_the_service_is_a_command_and_no_read_is() -> None:
    option: Any = effect
    known = {kind.path for kind in catalogue().kinds.values()}
    for method in pb.DESCRIPTOR.services_by_name["Metadata"].methods:
        changes = method.GetOptions().Extensions[option] == EFFECT_CHANGE
        assert (METADATA + method.name in known) == changes
    assert f"{INTERNAL}ExpireSessions" in known


def test_a_batch_survives_its_bytes() -> None:
    request = pb.UnlinkRequest(parent=1, name=b"f")
    data = encode(5, 6, [(method_id(f"{METADATA}Unlink"), request.SerializeToString(), [7, 8])])
    entry = catalogue().decode(data)
    (command,) = entry.commands
    assert (entry.time_ns, entry.session_clock_ms) == (5, 6)
    assert (command[0], command[1], list(command[2])) == (method_id(f"{METADATA}Unlink"), request, [7, 8])


def test_a_command_of_a_newer_version_stops_the_member() -> None:
    batch = CommandBatch()
    batch.commands.add(method=1)
    with pytest.raises(LookupError, match="upgrade"):
        catalogue().decode(batch.SerializeToString())
