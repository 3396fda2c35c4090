"""The table of operations: which function carries out which request, and how it is logged."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from blockyard.metaserver.namespace import (
    attributes,
    commits,
    directories,
    files,
    links,
    locks,
    ranges,
    rename,
    validation,
    xattrs,
)
from blockyard.metaserver.namespace.oplog import CODES
from blockyard.metaserver.namespace.state import State
from blockyard.metaserver.state.commands import METADATA, method_id
from blockyard.proto import metadata_pb2
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.metadata_pb2 import SetLockRequest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Run = Callable[[State, Caller, Any], Any]


class Operation(NamedTuple):
    """How a request is carried out."""

    run: Run
    check: Callable[[Any], None] | None  # of the request's shape
    code: int  # in the operation log; 0 keeps it out
    named: bool  # has parent and name
    second: bool  # has a second parent and name
    outcome: str  # field of a batch's Outcome for the reply
    reply: type[Message]


_CHANGES: Final[dict[str, tuple[Run, str, str]]] = {  # method: function, name in the log, field of Outcome
    "Create": (files.create, "create", "entry"),
    "MakeDirectory": (directories.make_directory, "mkdir", "entry"),
    "MakeNode": (files.make_node, "mknod", "entry"),
    "CreateUnnamed": (files.create_unnamed, "create_unnamed", "entry"),
    "Symlink": (files.make_symlink, "symlink", "entry"),
    "Link": (links.link, "link", "entry"),
    "Unlink": (links.unlink, "unlink", "unlink"),
    "RemoveDirectory": (directories.remove_directory, "rmdir", "unlink"),
    "Rename": (rename.rename, "rename", "unlink"),
    "SetAttributes": (attributes.set_attributes, "set_attributes", "entry"),
    "SetXattr": (xattrs.set_xattr, "set_xattr", "done"),
    "RemoveXattr": (xattrs.remove_xattr, "remove_xattr", "done"),
    "Open": (files.open_file, "", "entry"),
    "Close": (files.close_file, "", "done"),
    "CommitSlices": (commits.commit_slices, "write", "commit_slices"),
    "PutFile": (commits.put_file, "put_file", "entry"),
    "Allocate": (ranges.allocate, "allocate", "entry"),
    "CopyRange": (ranges.copy_range, "copy_range", "copy_range"),
    "ReplaceSlices": (commits.replace_slices, "", "replace_slices"),
    "SetLock": (locks.set_lock, "", "done"),
    "ReleaseLocks": (locks.release_locks, "", "done"),
}

_READS: Final[dict[str, tuple[Run, str]]] = {
    "Lookup": (directories.lookup, "entry"),
    "GetAttributes": (attributes.get_attributes, "entry"),
    "ReadSlices": (ranges.read_slices, "read_slices"),
    "Walk": (directories.walk, ""),
    "Access": (attributes.access, ""),
    "ReadDirectory": (directories.read_directory, ""),
    "ReadLink": (links.read_link, ""),
    "GetXattr": (xattrs.get_xattr, ""),
    "ListXattrs": (xattrs.list_xattrs, ""),
    "GetLock": (locks.get_lock, ""),
}


def _types(method: str) -> tuple[type[Message], type[Message]]:
    found = metadata_pb2.DESCRIPTOR.services_by_name["Metadata"].methods_by_name[method]
    return GetMessageClass(found.input_type), GetMessageClass(found.output_type)


def _operation(method: str, run: Run, log: str, outcome: str) -> Operation:
    request, reply = _types(method)
    fields = {field.name for field in request.DESCRIPTOR.fields}
    named = {"parent", "name"} <= fields
    second = "new_name" in fields
    return Operation(run, validation.check_of(request), CODES[log], named, second, outcome, reply)


CHANGES: Final = {
    method_id(METADATA + method): _operation(method, run, log, outcome)
    for method, (run, log, outcome) in _CHANGES.items()
}
"""Operations that change the namespace, by method id."""

READS: Final = {
    method_id(METADATA + method): _operation(method, run, "", outcome) for method, (run, outcome) in _READS.items()
}
"""Operations that only read, by method id."""


def _set_lock_at_once(state: State, who: Caller, request: SetLockRequest) -> Any:
    return locks.set_lock(state, who, request, may_wait=False)


def _batched() -> dict[str, Operation]:
    by_type = {_types(method)[0].DESCRIPTOR.full_name: method_id(METADATA + method) for method in (*_CHANGES, *_READS)}
    table = {**CHANGES, **READS}
    table[method_id(METADATA + "SetLock")] = table[method_id(METADATA + "SetLock")]._replace(run=_set_lock_at_once)
    return {
        field.name: table[by_type[field.message_type.full_name]]
        for field in metadata_pb2.Operation.DESCRIPTOR.oneofs_by_name["operation"].fields
        if field.message_type is not None
    }


BATCHED: Final = _batched()
"""Operations of a batch, by the field of the Operation message."""
