"""The backlog: frames of calls that wait come out in order, and what waits is bounded."""

from collections import OrderedDict

import pytest
from blockyard.proto import errors
from blockyard.proto.lane import backlog as module
from blockyard.proto.lane import frame
from blockyard.proto.lane.backlog import Backlog
from blockyard.proto.lane.frame import Frame, FrameError, Header
from hypothesis import given
from hypothesis import strategies as st


def item(kind: int, call: int, message: bytes = b"") -> Frame:
    """Return a frame."""
    return Frame(kind, 0, call, 0, message, b"")


def header(kind: int, size: int = 0) -> Header:
    """Return the header of a frame that comes."""
    return Header(kind, 0, 1, 0, size, 0)


STEPS = st.lists(st.tuples(st.sampled_from(["call", "message", "take_call", "take", "drop"]), st.integers(1, 4)))


@given(STEPS)
def test_frames_come_out_as_a_plain_model_says(steps: list[tuple[str, int]]) -> None:
    backlog, model = Backlog(10), OrderedDict[int, list[Frame]]()
    for count, (step, call) in enumerate(steps):
        if step == "call" and call not in model:
            backlog.hold(item(frame.CALL, call))
            model[call] = [item(frame.CALL, call)]
        elif step == "message" and call in model:
            backlog.hold(item(frame.MESSAGE, call, b"%d" % count))
            model[call].append(item(frame.MESSAGE, call, b"%d" % count))
        elif step == "take_call":
            expected = next(iter(model.values())).pop(0) if model else None
            assert backlog.take_call() == expected
        elif step == "take":
            assert backlog.take(call) == (model[call].pop(0) if call in model else None)
        elif step == "drop":
            backlog.drop(call)
            model.pop(call, None)
        for empty in [number for number, held in model.items() if not held]:
            del model[empty]
        for number in range(1, 5):
            assert list(backlog.frames(number)) == model.get(number, [])
            assert backlog.has(number) == (number in model)
    for call in list(model):
        backlog.drop(call)
    assert backlog._held_bytes == 0


def test_bytes_are_bounded() -> None:
    backlog = Backlog(10)
    backlog.check_room(header(frame.MESSAGE, module.MAX_KEPT_BYTES - 1000))
    with pytest.raises(errors.Overloaded):
        backlog.check_room(header(frame.MESSAGE, module.MAX_KEPT_BYTES))


def test_frames_of_no_bytes_are_bounded_too() -> None:
    backlog = Backlog(10)
    backlog.hold(item(frame.CALL, 1))
    for _ in range(module.MAX_KEPT_BYTES // module._COST_BYTES - 1):
        backlog.check_room(header(frame.MESSAGE))
        backlog.hold(item(frame.MESSAGE, 1))
    with pytest.raises(errors.Overloaded):
        backlog.check_room(header(frame.MESSAGE))


def test_calls_are_bounded() -> None:
    backlog = Backlog(2)
    backlog.hold(item(frame.CALL, 1))
    backlog.hold(item(frame.CALL, 2))
    with pytest.raises(errors.Overloaded, match="2 calls wait"):
        backlog.check_room(header(frame.CALL))
    backlog.check_room(header(frame.MESSAGE))


def test_a_number_that_waits_already_is_refused() -> None:
    backlog = Backlog(10)
    backlog.hold(item(frame.CALL, 1))
    with pytest.raises(FrameError):
        backlog.hold(item(frame.CALL, 1))
