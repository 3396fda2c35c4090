"""A second opinion on what clients saw: the linearizability search, which knows nothing of logs and indexes."""

from __future__ import annotations

import pytest

from tests.checkers.linearizability import Operation, Outcome, check_by_part
from tests.checkers.models import AppendModel, Read, RegisterModel
from tests.simulator.run import Run
from tests.simulator.test_planted_bugs import PAUSED_LEADERS, serves_reads_without_asking_anybody


def outcomes(run: Run) -> set[Outcome]:
    history = [*run.cluster.history, *(o for client in run.cluster.clients for o in client.under_way())]
    registers = [o for o in history if o.action.key >= 0]
    lists = [o for o in history if o.action.key < 0]
    verdicts = [
        *check_by_part(RegisterModel(), registers, lambda action: action.key).values(),
        *check_by_part(AppendModel(), lists, lambda action: action.key).values(),
    ]
    return {verdict.outcome for verdict in verdicts}


@pytest.mark.parametrize("seed", range(40))
def test_what_clients_saw_is_linearizable(seed: int) -> None:
    run = Run(seed)
    run.suffer(2_000)
    run.recover()
    assert run.cluster.history
    assert outcomes(run) == {Outcome.LINEARIZABLE}


def test_the_search_finds_the_stale_reads_of_a_mutant_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    serves_reads_without_asking_anybody(monkeypatch)
    monkeypatch.setattr("tests.simulator.trace_check.TraceChecker.read_answered", lambda *_: None)
    for seed in range(60):
        run = Run(seed, plan=PAUSED_LEADERS)
        run.suffer(3_000)
        if Outcome.VIOLATION in outcomes(run):
            return
    raise AssertionError("60 seeds did not find it")


def test_an_answer_changed_afterwards_is_found() -> None:
    run = Run(3)
    run.suffer(2_000)
    assert outcomes(run) == {Outcome.LINEARIZABLE}
    history = run.cluster.history
    at = max(i for i, o in enumerate(history) if isinstance(o.action, Read))
    read = history[at]
    history[at] = Operation(read.client, read.action, -5, read.called, read.returned)
    assert Outcome.VIOLATION in outcomes(run)
