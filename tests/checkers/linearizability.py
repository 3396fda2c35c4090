"""Whether a concurrent history could have been made by one sequential object.

A Wing–Gong search with Lowe's cache: pick an operation that had been called before anything still unexplained returned,
apply it to the model, and go on; when a return is reached whose call was never picked, step back. A configuration that
was reached before (the same operations explained, the same state) is not searched again. Operations of unknown outcome
are tried last, and few in a row first (iterative deepening), because nearly all of them matter to nobody.

An operation whose outcome nobody learned (a time-out, a killed client) has `returned=None`: it may take effect at any
time after its call, even after everything else, or never. An operation that is known *not* to have happened (a definite
error) must be left out of the history: if somebody saw its effect, the rest cannot be explained, which is the point.

Pure: no clock, no chance; the same history gives the same verdict and the same steps.
Source: Wing and Gong, "Testing and verifying concurrent objects", JPDC 1993; Lowe, "Testing for linearizability",
CCPE 2017.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Action = TypeVar("Action")
Result = TypeVar("Result")
State = TypeVar("State", bound=Hashable)
ActionIn = TypeVar("ActionIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)

DEFAULT_STEP_LIMIT = 2_000_000


@dataclass(frozen=True, slots=True)
class Operation(Generic[Action, Result]):
    """One call of one client: asked at `called`, answered with `result` at `returned`.

    `returned=None` says that no answer was ever seen; `result` is then not looked at. Times only need an order: ticks,
    nanoseconds or the position in a log all do.
    """

    client: Hashable
    action: Action
    result: Result | None
    called: float
    returned: float | None

    def __post_init__(self) -> None:
        if self.returned is not None and self.returned < self.called:
            raise ValueError(f"operation {self.action!r} of client {self.client!r} returned before it was called")


class Model(Protocol[State, ActionIn, ResultOut]):
    """The sequential object. States are immutable, hashable values."""

    def initial(self) -> State: ...

    def apply(self, state: State, action: ActionIn) -> tuple[State, ResultOut]:
        """Return the state after `action` and what a client must have been told."""
        ...

    def may_answer(self, state: State, action: ActionIn, result: Any) -> bool:
        """Return False only when no further operations could lead from `state` to this answer; it prunes the search."""
        ...


class Outcome(enum.Enum):
    LINEARIZABLE = "linearizable"
    VIOLATION = "violation"
    UNDECIDED = "undecided"  # the step limit was reached: neither proven nor refuted


@dataclass(frozen=True, slots=True)
class Verdict(Generic[Action, Result]):
    """What the search found.

    `order` is the longest sequential order that explains a part of the history; for a violation, `stuck` is the
    operation whose answer no continuation of any order explained, the first of those to return.
    """

    outcome: Outcome
    order: Sequence[Operation[Action, Result]]
    stuck: Operation[Action, Result] | None
    steps: int

    def __str__(self) -> str:
        if self.stuck is None:
            return f"{self.outcome.value} ({len(self.order)} operations, {self.steps} steps)"
        lines = [f"{self.outcome.value} after {self.steps} steps: nothing explains {self.stuck}", "longest order:"]
        lines += [f"  {operation}" for operation in self.order[-20:]]
        return "\n".join(lines)


class _Event:
    """A call or a return in the doubly linked history of the operations whose answer is known."""

    __slots__ = ("bit", "next", "operation", "previous", "return_event")

    def __init__(self, operation: Operation[Any, Any], bit: int) -> None:
        self.operation = operation
        self.bit = bit  # of a call; 0 for a return
        self.return_event: _Event | None = None  # set on calls
        self.previous: _Event | None = None
        self.next: _Event | None = None

    def unlink(self) -> None:
        assert self.previous is not None, "the head of the history is never taken out"
        self.previous.next = self.next
        if self.next is not None:
            self.next.previous = self.previous

    def relink(self) -> None:
        """Undo the last `unlink`: the neighbours are still remembered."""
        assert self.previous is not None, "the head of the history is never put back"
        self.previous.next = self
        if self.next is not None:
            self.next.previous = self


class _Search:
    """The explored tree. A frame: the candidate taken, the state and the run of unknowns before it, what is left."""

    def __init__(self, model: Model[Any, Any, Any], history: Sequence[Operation[Any, Any]], step_limit: int) -> None:
        self.model = model
        self.step_limit = step_limit
        self.steps = 0
        self.best: list[Operation[Any, Any]] = []
        self.stuck: Operation[Any, Any] | None = None
        self.head = _Event(Operation(None, None, None, 0, None), 0)
        self.unknown = [
            _Event(operation, 1 << number) for number, operation in enumerate(history) if operation.returned is None
        ]
        self.unknown.sort(key=lambda event: event.operation.called)
        self._link(history)

    def _link(self, history: Sequence[Operation[Any, Any]]) -> None:
        """Put the known calls and returns in time order; at one instant calls come before returns."""
        order: list[tuple[float, int, int, _Event]] = []
        for number, operation in enumerate(history):
            if operation.returned is not None:
                call = _Event(operation, 1 << number)
                call.return_event = _Event(operation, 0)
                order.append((operation.called, 0, number, call))
                order.append((operation.returned, 1, number, call.return_event))
        order.sort(key=lambda item: item[:3])
        last = self.head
        for _, _, _, event in order:
            last.next, event.previous = event, last
            last = event

    def _next_return(self) -> _Event | None:
        event = self.head.next
        while event is not None and event.bit:
            event = event.next
        return event

    def _candidates(self, explained: int) -> Iterator[_Event]:
        """Yield what may come next: known calls first, since an unknown one matters only when an answer needs it."""
        event = self.head.next
        while event is not None and event.bit:
            yield event
            event = event.next  # the search has put everything back by the time it asks for the next candidate
        if event is not None:
            returned = event.operation.returned
            assert returned is not None, "only known operations are linked"
            for call in self.unknown:
                if call.operation.called > returned:
                    return
                if not call.bit & explained:
                    yield call

    def run(self, run_limit: int) -> Outcome | None:
        """Search with at most `run_limit` unknown operations in a row; None: only this limit stood in the way."""
        model, limited = self.model, False
        state, explained, run = model.initial(), 0, 0
        seen: set[tuple[int, Hashable, int]] = set()
        path: list[tuple[_Event, Any, int, Iterator[_Event]]] = []
        candidates = self._candidates(explained)
        while (must_return := self._next_return()) is not None:
            found = False
            for call in candidates:
                self.steps += 1
                if self.steps > self.step_limit:
                    return Outcome.UNDECIDED
                operation = call.operation
                after, result = model.apply(state, operation.action)
                if call.return_event is None:
                    # An unknown outcome that changes nothing need not be placed: leaving it out explains as much.
                    if after == state:
                        continue
                    if run == run_limit:
                        limited = True
                        continue
                    next_run = run + 1
                elif result != operation.result:
                    continue
                else:
                    next_run = 0
                blocker = must_return.operation
                if call.return_event is not must_return and not model.may_answer(after, blocker.action, blocker.result):
                    continue
                configuration = (explained | call.bit, after, next_run)
                if configuration in seen:
                    continue
                seen.add(configuration)
                found = True
                break
            if found:
                path.append((call, state, run, candidates))
                state, run = after, next_run
                explained |= call.bit
                if call.return_event is not None:
                    call.unlink()
                    call.return_event.unlink()
                candidates = self._candidates(explained)
                continue
            if self.stuck is None or len(path) > len(self.best):
                self.best = [taken.operation for taken, _, _, _ in path]
                self.stuck = must_return.operation
            if not path:
                return None if limited else Outcome.VIOLATION
            call, state, run, candidates = path.pop()
            explained &= ~call.bit
            if call.return_event is not None:
                call.return_event.relink()
                call.relink()
        self.best = [taken.operation for taken, _, _, _ in path]
        return Outcome.LINEARIZABLE


def check(
    model: Model[State, Action, Result],
    history: Iterable[Operation[Action, Result]],
    step_limit: int = DEFAULT_STEP_LIMIT,
) -> Verdict[Action, Result]:
    """Return whether some sequential order of `history` explains every answer and respects real time."""
    search = _Search(model, list(history), step_limit)
    run_limits = itertools.chain([1, 2, 4], itertools.count(8, 8))
    outcome = next(found for limit in run_limits if (found := search.run(limit)) is not None)
    stuck = search.stuck if outcome is Outcome.VIOLATION else None
    return Verdict(outcome, search.best, stuck, search.steps)


def check_by_part(
    model: Model[State, Action, Result],
    history: Iterable[Operation[Action, Result]],
    part_of: Callable[[Action], Hashable],
    step_limit: int = DEFAULT_STEP_LIMIT,
) -> dict[Hashable, Verdict[Action, Result]]:
    """Check each independent part (a key, a directory) alone: linearizability is local, and the search much smaller."""
    parts: dict[Hashable, list[Operation[Action, Result]]] = {}
    for operation in history:
        parts.setdefault(part_of(operation.action), []).append(operation)
    return {part: check(model, operations, step_limit) for part, operations in parts.items()}


def unknown_share(history: Sequence[Operation[Action, Result]]) -> float:
    """Return the share of operations without a known outcome: a history full of "maybe" proves little."""
    if not history:
        return 0.0
    return sum(operation.returned is None for operation in history) / len(history)
