"""Many whole files at once: blocks put together on the same nodes, files made together in one change.

While one batch is being committed the blocks of the next are on their way.
"""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from blockyard.client.metadata.session import Session
from blockyard.client.reader.slice_map import Segment, SliceMap
from blockyard.client.writer.file_core import PUT_BYTES
from blockyard.proto import errors
from blockyard.proto import metadata_pb2 as pb

if TYPE_CHECKING:
    from blockyard.client.filesystem import Filesystem

BATCH_FILES: Final = 512
BATCH_BYTES: Final = 8 << 20
_BATCHES_UNDER_WAY: Final = 3

File = tuple[Any, bytes]


def put_many(
    filesystem: "Filesystem", files: Mapping[Any, bytes] | Iterable[File], *, durable: bool, replace: bool
) -> int:
    """Write files; see `Filesystem.put_many`."""
    pairs = files.items() if isinstance(files, Mapping) else files
    session = filesystem.engine.link.calls.session()
    under_way: deque[Future[OSError | None]] = deque()
    failure: OSError | None = None
    count = 0
    for batch in _batches(pairs):
        count += len(batch)
        if len(under_way) == _BATCHES_UNDER_WAY:
            failure = failure or under_way.popleft().result()
        under_way.append(filesystem.engine.reading.submit(_put_batch, filesystem, batch, session, durable, replace))
    for each in under_way:
        failure = each.result() or failure
    if failure is not None:
        raise failure
    return count


def _batches(pairs: Iterable[File]) -> Iterator[list[File]]:
    batch: list[File] = []
    size = 0
    for path, data in pairs:
        if batch and (len(batch) == BATCH_FILES or size + len(data) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((path, data))
        size += len(data)
    if batch:
        yield batch


def _put_batch(
    filesystem: "Filesystem", batch: Sequence[File], session: Session, durable: bool, replace: bool
) -> OSError | None:
    """Write one batch; return the first error."""
    small = [(path, data) for path, data in batch if len(data) <= PUT_BYTES]
    failure: OSError | None = None
    try:
        failure = _put_small(filesystem, small, session, durable, replace)
        for path, data in batch:
            if len(data) > PUT_BYTES:
                _put_large(filesystem, path, data, durable, replace)
    except OSError as error:
        failure = failure or error
    return failure


def _put_large(filesystem: "Filesystem", path: Any, data: bytes, durable: bool, replace: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if replace else os.O_EXCL)
    with filesystem.open_raw(path, flags, "wb") as file:
        file.write(data)
        if durable:
            file.fsync()


def _put_small(
    filesystem: "Filesystem", files: Sequence[File], session: Session, durable: bool, replace: bool
) -> OSError | None:
    """Write files of one block each, or none; return the first error."""
    engine = filesystem.engine
    names = engine.link.namespace
    deadline_s = time.monotonic() + engine.deadline_s
    contents = [data for _, data in files if data]
    blocks = iter(engine.blocks.put_all(contents, session, durable=durable, deadline_s=deadline_s))
    failure: OSError | None = None
    made: list[tuple[Any, bytes, pb.PutFileRequest]] = []
    parents: dict[bytes, int] = {}
    for path, data in files:
        block, epoch = next(blocks) if data else (0, 0)
        length = len(data)
        try:
            with filesystem.about(path) as encoded:
                parent, name = _place(filesystem, encoded, parents)
        except OSError as error:
            failure = failure or error
            continue
        request = pb.PutFileRequest(
            parent=parent,
            name=name,
            mode=0o666 & ~filesystem.umask,
            slices=[pb.Slice(length=length, block=block, block_length=length)] if data else [],
            size=length,
            replace=replace,
            map_epoch=epoch,
        )
        made.append((path, data, request))
    outcomes = names.batch([pb.Operation(put_file=request) for _, _, request in made], session)
    for (path, data, request), outcome in zip(made, outcomes, strict=True):
        if not outcome.HasField("error"):
            names.named(request.parent, request.name, outcome.entry.attributes)
            continue
        refusal = errors.from_detail(outcome.error)
        if isinstance(refusal, errors.StaleEpoch):  # the nodes it was put on were let go: write it elsewhere
            _put_large(filesystem, path, data, durable, replace)
        else:
            refusal.filename = os.fspath(path)
            failure = failure or refusal
    return failure


def _place(filesystem: "Filesystem", path: bytes, parents: dict[bytes, int]) -> tuple[int, bytes]:
    """Return the directory and the name of a path; directories are looked up once."""
    directory, name = os.path.split(path)
    known = parents.get(directory)
    if known is not None and name not in (b"", b".", b".."):
        return known, name
    parent, name = filesystem.engine.link.namespace.find_parent(path)
    parents[directory] = parent
    return parent, name


def get_many(filesystem: "Filesystem", paths: Iterable[Any]) -> Iterator[File]:
    """Yield whole files; see `Filesystem.get_many`."""
    engine = filesystem.engine
    under_way: deque[Future[list[File]]] = deque()
    batch: list[Any] = []
    for path in paths:
        batch.append(path)
        if len(batch) == BATCH_FILES:
            if len(under_way) == _BATCHES_UNDER_WAY:
                yield from under_way.popleft().result()
            under_way.append(engine.background.submit(_get_batch, filesystem, batch))
            batch = []
    under_way.append(engine.background.submit(_get_batch, filesystem, batch))
    while under_way:
        yield from under_way.popleft().result()


def _get_batch(filesystem: "Filesystem", paths: Sequence[Any]) -> list[File]:
    """Return the content of files: one call for their inodes, one for their slices, then their bytes, node by node."""
    engine = filesystem.engine
    reads = [pb.Operation(read_slices=pb.ReadSlicesRequest(inode=inode)) for inode in _find_all(filesystem, paths)]
    outcomes = engine.link.calls.read("Batch", pb.BatchRequest(operations=reads)).outcomes if reads else []
    contents: list[bytearray | None] = []
    small: list[tuple[Segment, memoryview]] = []
    for path, outcome in zip(paths, outcomes, strict=True):
        with filesystem.about(path):
            if outcome.HasField("error"):
                raise errors.from_detail(outcome.error)
        reply = outcome.read_slices
        segments = _segments(reply)
        if segments is None:
            contents.append(None)
            continue
        content = bytearray(reply.attributes.size)
        view = memoryview(content)
        contents.append(content)
        small += [(each, view[each.position : each.position + each.length]) for each in segments]
    try:
        engine.bytes.read_many(small)
    except errors.UnknownBlock:
        contents = [None] * len(contents)  # some were changed meanwhile: read them as they are now
    pairs = zip(paths, contents, strict=True)
    return [(path, filesystem.read_bytes(path) if content is None else bytes(content)) for path, content in pairs]


def _segments(reply: pb.ReadSlicesReply) -> Sequence[Segment] | None:
    """Return what a small file consists of, None for a large one."""
    size = reply.attributes.size
    if size > PUT_BYTES or reply.next_offset:
        return None
    if not size:
        return ()
    known = SliceMap(reply.attributes.version)
    known.learn(0, size, reply)
    return known.segments(0, size)


def _find_all(filesystem: "Filesystem", paths: Sequence[Any]) -> list[int]:
    names = filesystem.engine.link.namespace
    parents: dict[bytes, int] = {}
    lookups = []
    for path in paths:
        with filesystem.about(path) as encoded:
            directory, name = os.path.split(encoded)
            if directory not in parents:
                parents[directory] = names.find_parent(encoded)[0]
            lookups.append(pb.Operation(lookup=pb.LookupRequest(parent=parents[directory], name=name)))
    outcomes = (
        filesystem.engine.link.calls.read("Batch", pb.BatchRequest(operations=lookups)).outcomes if lookups else []
    )
    inodes = []
    for path, outcome in zip(paths, outcomes, strict=True):
        with filesystem.about(path) as encoded:
            if outcome.HasField("error"):
                raise errors.from_detail(outcome.error)
            found = outcome.entry.attributes
            inodes.append(names.find(encoded).inode if found.type == pb.FILE_TYPE_SYMLINK else found.inode)
    return inodes
