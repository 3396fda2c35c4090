"""What a log directory holds when a member starts: reading every record, and telling torn from rotten.

Records are written one at a time, each synced before the next. So a record that fails its checksum was synced, and
may have been acknowledged, when

- a later record is valid: in the same segment or as the beginning of the next one; or
- the watermark lies at or behind it.

Then it is rotten and the log is refused. Otherwise it is the last one, its sync never returned, nobody was told of it:
it is torn, and is cleared. (One case is left undecided and taken for torn: rot in the last record, when the machine
lost power before the watermark that covers it reached the disk. `LogStore.settle` keeps that window short.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from blockyard.metaserver.raft.types import BaseRecord, HardState
from blockyard.metaserver.storage.failures import FETCH_FROM_PEER, CorruptLog
from blockyard.metaserver.storage.positions import Positions, Tail
from blockyard.metaserver.storage.record import ALIGNMENT, MAGIC, Record, decode
from blockyard.metaserver.storage.segment import Segment, SegmentDirectory, Watermark


@dataclass(slots=True)
class Recovered:
    """The log as it was found; `torn_bytes` were cleared."""

    tail: Tail
    positions: Positions = field(default_factory=Positions)
    segments: dict[int, Segment] = field(default_factory=dict)
    hard_state: HardState | None = None
    base: BaseRecord | None = None
    sequence: int = 0
    end: int = 0  # offset in the last segment at which the next record goes
    torn_bytes: int = 0
    records: int = 0

    def replay(self, record: Record) -> None:
        """Do to the picture what the record did to the log."""
        self.hard_state = record.hard_state or self.hard_state
        if record.base is not None:
            self.base = record.base
            if record.resets:
                self.positions.clear(record.base.index + 1)
                self.tail.clear()
            elif len(self.positions):
                self.positions.drop_to(record.base.index)
        if record.entries:
            if len(self.positions) and record.entries[0].index > self.positions.last + 1:
                raise CorruptLog(_gap(f"entry {record.entries[0].index} follows entry {self.positions.last}"))
            self.positions.replace_from(record.entries, record.spans, record.segment, 0)
            self.tail.replace_from(record.entries)
        self.sequence = record.sequence
        self.end = record.end
        self.records += 1


def recover(directory: SegmentDirectory, cache_bytes: int) -> Recovered:
    """Read the whole log. Raises CorruptLog, and OSError when the disk fails."""
    found = Recovered(Tail(cache_bytes))
    numbers = directory.numbers()
    if not numbers:
        raise CorruptLog(f"{directory.path} holds no segment of the log. {FETCH_FROM_PEER}.")
    if numbers != list(range(numbers[0], numbers[-1] + 1)):
        raise CorruptLog(_gap(f"of the segments {numbers[0]} to {numbers[-1]} in {directory.path} some are missing"))
    watermark = directory.read_watermark()
    for number in numbers:
        segment = directory.open(number)
        found.segments[number] = segment
        _read_segment(found, segment, is_last=number == numbers[-1])
    if watermark is not None:
        _check_against(watermark, found, numbers[-1])
    _check_whole(found)
    return found


def _read_segment(found: Recovered, segment: Segment, *, is_last: bool) -> None:
    data = memoryview(segment.read_all())
    end = 0
    for record in _records(data, segment.number):
        if found.records and record.sequence != found.sequence + 1:
            what = f"record {record.sequence} follows record {found.sequence} at {segment.path.name} byte {end}"
            raise CorruptLog(_gap(what))
        found.replay(record)
        end = record.end
    later = _later_record(data, end, segment.number, found.sequence)
    if later is not None or (end == 0 and not is_last):
        raise CorruptLog(_rotten(segment, end, "valid records follow it"))
    found.end = end
    head = bytes(data[end : end + 16])
    if is_last and head.startswith(MAGIC) and head[8:] == segment.number.to_bytes(8, "little"):
        found.torn_bytes = _torn_length(data, end)
        segment.clear_from(end)


def _records(data: memoryview, number: int) -> Iterator[Record]:
    offset = 0
    while (record := decode(data, offset, number)) is not None:
        yield record
        offset = record.end


def _later_record(data: memoryview, end: int, number: int, sequence: int) -> Record | None:
    """Return a valid record of this segment behind `end`, newer than `sequence`."""
    content: bytes = data.obj  # type: ignore[assignment]
    at = content.find(MAGIC, end)
    while at >= 0:
        if at % ALIGNMENT == 0:
            record = decode(data, at, number)
            if record is not None and record.sequence > sequence:
                return record
        at = content.find(MAGIC, at + 1)
    return None


def _check_against(watermark: Watermark, found: Recovered, last_number: int) -> None:
    if watermark.sequence > found.sequence or watermark.segment > last_number:
        segment = found.segments[last_number]
        why = f"the log was synced up to record {watermark.sequence} in segment {watermark.segment}"
        raise CorruptLog(_rotten(segment, found.end, why))


def _check_whole(found: Recovered) -> None:
    if found.base is None or found.hard_state is None:
        raise CorruptLog(f"The log holds no valid record, not even its first. {FETCH_FROM_PEER}.")
    if len(found.positions):
        found.positions.drop_to(found.base.index)
    if len(found.positions) and found.positions.first != found.base.index + 1:
        raise CorruptLog(
            _gap(f"the log begins after entry {found.base.index}, and its first entry is {found.positions.first}")
        )
    if not len(found.positions):
        found.positions.clear(found.base.index + 1)


def _torn_length(data: memoryview, end: int) -> int:
    return len(bytes(data[end:]).rstrip(b"\0"))


def _gap(what: str) -> str:
    return f"The log has a gap: {what}. {FETCH_FROM_PEER}."


def _rotten(segment: Segment, offset: int, why: str) -> str:
    return (
        f"The log's record at byte {offset} of {segment.path} fails its checksum and is not a torn tail: {why}. "
        f"Entries that this member acknowledged would be lost. {FETCH_FROM_PEER}."
    )
