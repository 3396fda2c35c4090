"""Each sequential object by itself, and one planted violation of each through the search."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest

from tests.checkers.linearizability import Operation, Outcome, check
from tests.checkers.models import Add, Append, AppendModel, Read, Remove, SetModel
from tests.checkers.namespace_model import (
    Action,
    Attributes,
    Create,
    DirectoryModel,
    Link,
    Mkdir,
    Readdir,
    Rename,
    Result,
    Rmdir,
    Stat,
    State,
    Unlink,
    directory_of,
)


def run(*steps: tuple[Action, Result]) -> State:
    """Apply the actions in order to an empty directory and demand each answer."""
    model = DirectoryModel()
    state = model.initial()
    for action, expected in steps:
        before = state
        state, result = model.apply(state, action)
        assert result == expected, action
        if isinstance(result, str):
            assert state == before, f"{action} failed and changed something"
    return state


def sequential(*steps: tuple[Any, Any]) -> list[Operation[Any, Any]]:
    return [Operation(0, action, result, 2 * at, 2 * at + 1) for at, (action, result) in enumerate(steps)]


def test_create_is_exclusive() -> None:
    run(
        (Create("a", 1), None),
        (Create("a", 2), "EEXIST"),
        (Stat("a"), Attributes("file", 1, 1)),
        (Mkdir("a", 3), "EEXIST"),
    )


def test_link_adds_a_name_and_unlink_takes_one_away() -> None:
    run(
        (Create("a", 1), None),
        (Link("a", "b"), None),
        (Stat("b"), Attributes("file", 1, 2)),
        (Unlink("a"), None),
        (Stat("b"), Attributes("file", 1, 1)),
        (Stat("a"), "ENOENT"),
        (Unlink("a"), "ENOENT"),
        (Link("a", "c"), "ENOENT"),
        (Link("b", "b"), "EEXIST"),
    )


def test_directories_refuse_what_files_allow() -> None:
    run(
        (Mkdir("d", 1), None),
        (Create("f", 2), None),
        (Link("d", "e"), "EPERM"),
        (Unlink("d"), "EISDIR"),
        (Rmdir("f"), "ENOTDIR"),
        (Rename("f", "d"), "EISDIR"),
        (Rename("d", "f"), "ENOTDIR"),
        (Stat("d"), Attributes("directory", 1, 2)),
        (Rmdir("d"), None),
        (Readdir(), frozenset({"f"})),
    )


def test_rename_replaces_its_target_at_once() -> None:
    run(
        (Create("a", 1), None),
        (Create("b", 2), None),
        (Rename("a", "b"), None),
        (Readdir(), frozenset({"b"})),
        (Stat("b"), Attributes("file", 1, 1)),
        (Rename("a", "b"), "ENOENT"),
    )


def test_rename_between_two_names_of_one_inode_does_nothing() -> None:
    run((Create("a", 1), None), (Link("a", "b"), None), (Rename("a", "b"), None), (Readdir(), frozenset({"a", "b"})))


def test_rename_of_a_directory_over_a_directory() -> None:
    run(
        (Mkdir("a", 1), None),
        (Mkdir("b", 2), None),
        (Rename("a", "b"), None),
        (Stat("b"), Attributes("directory", 1, 2)),
    )


def test_the_directory_of_an_action_is_where_histories_are_split() -> None:
    assert directory_of(Create("a", 1, "/meters")) == "/meters"


def test_two_creators_of_one_name_cannot_both_succeed() -> None:
    history: list[Operation[Action, Result]] = [
        Operation(1, Create("a", 1), None, 0, 5),
        Operation(2, Create("a", 2), None, 0, 5),
    ]
    assert check(DirectoryModel(), history).outcome is Outcome.VIOLATION


def test_a_rename_never_shows_both_names_or_none() -> None:
    for seen in (frozenset({"a", "b"}), frozenset[str]()):
        history = sequential((Create("a", 1), None))
        history += [Operation(1, Rename("a", "b"), None, 10, 20), Operation(2, Readdir(), seen, 11, 12)]
        assert check(DirectoryModel(), history).outcome is Outcome.VIOLATION


def test_a_rename_of_unknown_outcome_shows_the_old_names_then_the_new() -> None:
    start = sequential((Create("a", 1), None))
    unknown: Operation[Any, Any] = Operation(1, Rename("a", "b"), None, 10, None)
    old = Operation(2, Readdir(), frozenset({"a"}), 11, 12)
    new = Operation(2, Readdir(), frozenset({"b"}), 13, 14)
    old_again = Operation(2, Readdir(), frozenset({"a"}), 15, 16)
    assert check(DirectoryModel(), [*start, unknown, old, new]).outcome is Outcome.LINEARIZABLE
    assert check(DirectoryModel(), [*start, unknown, old, new, old_again]).outcome is Outcome.VIOLATION


@pytest.mark.parametrize(
    ("model", "steps"),
    [
        (SetModel(), [(Add(1), True), (Read(), frozenset())]),  # an acknowledged member is missing
        (SetModel(), [(Read(), frozenset({9}))]),  # a member whose add had failed
        (SetModel(), [(Add(1), True), (Remove(1), True), (Remove(1), True)]),  # removed twice
        (AppendModel(), [(Append("x"), 0), (Append("y"), 0)]),  # one position twice
        (AppendModel(), [(Append("x"), 0), (Read(), ("x", "x"))]),  # a retry with two effects
        (AppendModel(), [(Append("x"), 0), (Append("y"), 1), (Read(), ("y", "x"))]),  # order lost
    ],
)
def test_planted_violations(model: Any, steps: list[tuple[Hashable, Hashable]]) -> None:
    assert check(model, sequential(*steps)).outcome is Outcome.VIOLATION
