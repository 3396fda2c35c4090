"""Each promise of the trace checker, broken on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.simulator.state_machine import DIGEST, Answer, Command, CommandKind, StateMachine, decode, encode
from tests.simulator.trace_check import LoggedEntry, TraceChecker
from tests.simulator.world import Violation

FIRST = 2


@dataclass(frozen=True)
class FakeEntry:
    index: int
    term: int
    kind: int
    data: bytes


def command_of(entry: LoggedEntry) -> Command | None:
    return decode(entry.data) if entry.data else None


def write(client: int, sequence: int, value: int) -> Command:
    return Command(client, sequence, CommandKind.WRITE, 0, value)


def entry(index: int, term: int, command: Command | None = None) -> FakeEntry:
    return FakeEntry(index, term, 1, encode(command) if command else b"")


@pytest.fixture
def checker() -> TraceChecker:
    """Entry 2 writes 7 and entry 3 writes 8, both of term 2."""
    checker = TraceChecker(FIRST, command_of)
    checker.entries_committed(1, [entry(2, 2, write(1, 1, 7)), entry(3, 2, write(1, 2, 8))], 2)
    return checker


def always(_: int, __: int) -> bool:
    return True


def never(_: int, __: int) -> bool:
    return False


def test_a_term_has_one_leader(checker: TraceChecker) -> None:
    checker.became_leader(1, 3, always)
    checker.became_leader(1, 3, always)
    with pytest.raises(Violation, match="both lead term 3"):
        checker.became_leader(2, 3, always)


def test_a_disk_votes_once_in_a_term(checker: TraceChecker) -> None:
    checker.voted(1, 3, 2)
    checker.voted(1, 3, 2)
    checker.voted(1, 4, 1)
    with pytest.raises(Violation, match="voted in term 3"):
        checker.voted(1, 3, 1)


def test_a_leader_holds_every_committed_entry(checker: TraceChecker) -> None:
    checker.became_leader(2, 2, never)  # the leader of that term itself may commit later
    with pytest.raises(Violation, match="without committed entry 3"):
        checker.became_leader(2, 3, never)


def test_what_a_later_leader_commits_may_be_unknown_to_an_earlier_one(checker: TraceChecker) -> None:
    checker.became_leader(2, 3, lambda index, term: index <= 3)
    checker.became_leader(1, 4, always)
    checker.entries_committed(1, [entry(4, 2, write(1, 3, 9))], 4)  # of term 2, committed in term 4
    checker.leader_holds_commits(2, 3, lambda index, term: index <= 3)
    with pytest.raises(Violation, match="without committed entry 4"):
        checker.became_leader(3, 5, lambda index, term: index <= 3)


def test_logs_match(checker: TraceChecker) -> None:
    checker.entries_stored(1, 1, [entry(2, 2), entry(3, 2)])
    checker.entries_stored(2, 1, [entry(2, 2)])
    checker.entries_stored(2, 2, [entry(3, 2)])
    with pytest.raises(Violation, match="logs differ"):
        checker.entries_stored(3, 1, [entry(3, 2)])  # the same entry after another one


def test_an_index_and_a_term_name_one_entry(checker: TraceChecker) -> None:
    checker.entries_stored(1, 1, [entry(4, 2, write(1, 3, 1))])
    with pytest.raises(Violation, match="logs differ"):
        checker.entries_stored(2, 1, [entry(4, 2, write(1, 3, 2))])


def test_commit_never_goes_back(checker: TraceChecker) -> None:
    checker.commit_moved(1, 5)
    checker.restarted(1, 2)
    checker.commit_moved(1, 3)
    with pytest.raises(Violation, match="went back from 3 to 2"):
        checker.commit_moved(1, 2)


def test_one_entry_is_committed_at_an_index(checker: TraceChecker) -> None:
    with pytest.raises(Violation, match="was committed there"):
        checker.entries_committed(2, [entry(2, 3, write(1, 1, 9))], 2)


def test_entries_are_committed_without_gaps(checker: TraceChecker) -> None:
    with pytest.raises(Violation, match="before those before it"):
        checker.entries_committed(2, [entry(9, 3)], 2)


@pytest.mark.parametrize(("holders", "kept"), [((1, 2), True), ((1,), False), ((1, 9), False)])
def test_a_commit_is_on_a_majority_of_disks(checker: TraceChecker, holders: tuple[int, ...], kept: bool) -> None:
    if kept:
        checker.durable_on(entry(4, 2), holders, [(1, 2, 3)])
    else:
        with pytest.raises(Violation, match="but only on"):
            checker.durable_on(entry(4, 2), holders, [(1, 2, 3)])


def digests() -> list[int]:
    machine = StateMachine(StateMachine.empty(FIRST - 1))
    return [int(machine.apply(2, write(1, 1, 7))[0][DIGEST]), int(machine.apply(3, write(1, 2, 8))[0][DIGEST])]


def test_entries_are_applied_in_order_and_once(checker: TraceChecker) -> None:
    checker.entry_applied(1, 2, digests()[0])
    with pytest.raises(Violation, match="applied entry 2 after 2"):
        checker.entry_applied(1, 2, digests()[0])


def test_no_entry_is_left_out(checker: TraceChecker) -> None:
    with pytest.raises(Violation, match="applied entry 3 after 1"):
        checker.entry_applied(1, 3, digests()[1])


def test_equal_index_means_equal_state(checker: TraceChecker) -> None:
    with pytest.raises(Violation, match="differs from the others'"):
        checker.entry_applied(1, 2, digests()[0] + 1)


def test_a_snapshot_does_not_go_back(checker: TraceChecker) -> None:
    checker.restarted(1, 3)
    with pytest.raises(Violation, match="went back"):
        checker.snapshot_installed(1, 2, digests()[0])


def test_nobody_has_a_state_that_nobody_committed(checker: TraceChecker) -> None:
    with pytest.raises(Violation, match="nobody committed"):
        checker.snapshot_installed(2, 9, 0)


def test_an_acknowledged_write_was_committed(checker: TraceChecker) -> None:
    checker.write_acknowledged(write(1, 1, 7), Answer(2, 0))
    with pytest.raises(Violation, match="nobody committed it"):
        checker.write_acknowledged(write(2, 1, 7), Answer(2, 0))


def test_a_retry_gets_the_first_answer(checker: TraceChecker) -> None:
    checker.entries_committed(1, [entry(4, 2, write(1, 2, 8))], 2)  # the retry of entry 3: no effect
    with pytest.raises(Violation, match="its effect says"):
        checker.write_acknowledged(write(1, 2, 8), Answer(4, 0))


def test_a_read_is_not_older_than_what_was_answered_before_it(checker: TraceChecker) -> None:
    checker.write_acknowledged(write(1, 2, 8), Answer(3, 0))
    checker.read_answered(0, 8, 3, checker.seen_index)
    with pytest.raises(Violation, match="stale read"):
        checker.read_answered(0, 7, 2, checker.seen_index)


def test_a_read_shows_the_value_of_its_index(checker: TraceChecker) -> None:
    checker.read_answered(0, 7, 2, 0)
    checker.read_answered(5, 0, 2, 0)
    with pytest.raises(Violation, match="read as 8 at entry 2"):
        checker.read_answered(0, 8, 2, 0)


def test_acknowledged_writes_survive(checker: TraceChecker) -> None:
    checker.write_acknowledged(write(1, 2, 8), Answer(3, 0))
    checker.acknowledged_survive(1, 3, digests()[1])
    with pytest.raises(Violation, match="before acknowledged entry 3"):
        checker.acknowledged_survive(2, 2, digests()[0])


def test_a_run_counts_when_something_was_at_risk(checker: TraceChecker) -> None:
    assert checker.nothing_was_at_risk(faults=1)
    checker.write_acknowledged(write(1, 1, 7), Answer(2, 0))
    assert checker.nothing_was_at_risk(faults=0)
    assert not checker.nothing_was_at_risk(faults=1)


@pytest.mark.parametrize(
    ("commands", "outcomes"),
    [
        ([write(1, 1, 5), Command(1, 2, CommandKind.COMPARE_AND_SET, 0, 6, 5)], [0, 1]),
        ([write(1, 1, 5), Command(1, 2, CommandKind.COMPARE_AND_SET, 0, 6, 4)], [0, 0]),
        ([Command(1, 1, CommandKind.APPEND, 0, 6), Command(2, 1, CommandKind.APPEND, 0, 7)], [0, 1]),
        ([Command(1, 1, CommandKind.APPEND, 0, 6), Command(1, 1, CommandKind.APPEND, 0, 6)], [0, 0]),
        ([Command(1, 2, CommandKind.APPEND, 0, 6), Command(1, 1, CommandKind.APPEND, 0, 6)], [0, None]),
    ],
)
def test_the_state_machine(commands: list[Command], outcomes: list[int | None]) -> None:
    machine = StateMachine(StateMachine.empty(1))
    answers = [machine.apply(index, command)[1] for index, command in enumerate(commands, start=2)]
    assert [answer.outcome if answer else None for answer in answers] == outcomes


def test_the_state_machine_refuses_a_gap_and_a_repeat() -> None:
    for index in (1, 3):
        with pytest.raises(AssertionError, match="applied on top of 1"):
            StateMachine(StateMachine.empty(1)).apply(index, None)


def test_the_rows_changed_are_enough_to_rebuild_the_state() -> None:
    machine = StateMachine(StateMachine.empty(1))
    rebuilt = dict(machine.rows)
    for index in range(2, 60):
        changes, _ = machine.apply(index, Command(1, index, index % 3, index % 4, index))
        rebuilt.update(changes)
    assert rebuilt == machine.rows
