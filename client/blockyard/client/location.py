"""Where a file's bytes are: what a scheduler needs to send work to the data."""

from dataclasses import dataclass

from blockyard.client.engine import Engine
from blockyard.client.reader.slice_map import SliceMap
from blockyard.proto.metadata_pb2 import ReadSlicesRequest


@dataclass(frozen=True, slots=True)
class Location:
    """`length` bytes from byte `offset` of a file, and who holds them."""

    offset: int
    length: int
    nodes: tuple[int, ...]
    """Ids of the storage nodes, preferred first; those that are silent come last."""
    hosts: tuple[str, ...]
    """Their machines, in the same order."""


def locate(engine: Engine, inode: int, offset: int, length: int | None) -> list[Location]:
    """Return where the bytes of a file are, in rising order; neighbours on the same nodes are one."""
    found: list[Location] = []
    view = engine.link.maps.newest()
    end = None if length is None else offset + length
    while end is None or offset < end:
        request = ReadSlicesRequest(inode=inode, offset=offset, length=0 if end is None else end - offset)
        reply = engine.link.calls.read("ReadSlices", request)
        end = reply.attributes.size if end is None else min(end, reply.attributes.size)
        if offset >= end:
            break
        known = SliceMap(reply.attributes.version)
        known.learn(offset, end, reply)
        for segment in known.segments(offset, known.end):
            if not segment.block:
                continue
            nodes = view.readers(segment.block)
            here = Location(
                segment.position,
                segment.length,
                tuple(node.id for node in nodes),
                tuple(node.host for node in nodes),
            )
            last = found[-1] if found else None
            if last is not None and last.nodes == here.nodes and last.offset + last.length == here.offset:
                found[-1] = Location(last.offset, last.length + here.length, last.nodes, last.hosts)
            else:
                found.append(here)
        offset = known.end
    return found
