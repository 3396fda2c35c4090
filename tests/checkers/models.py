"""Sequential objects that histories are checked against: register, compare-and-set, set, append-only list.

Each is one object; a history over many keys is split with `linearizability.check_by_part`. Actions are small frozen
records, results are plain values, states are hashable. The namespace of a directory is in `namespace_model`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Read:
    """Ask for the whole value; the key only serves to split a history."""

    key: Hashable = None


@dataclass(frozen=True, slots=True)
class Write:
    value: Hashable
    key: Hashable = None


@dataclass(frozen=True, slots=True)
class CompareAndSet:
    expected: Hashable
    value: Hashable
    key: Hashable = None


@dataclass(frozen=True, slots=True)
class Add:
    value: Hashable
    key: Hashable = None


@dataclass(frozen=True, slots=True)
class Remove:
    value: Hashable
    key: Hashable = None


@dataclass(frozen=True, slots=True)
class Append:
    value: Hashable
    key: Hashable = None


class RegisterModel:
    """One cell: `Write` answers None, `CompareAndSet` whether it took place, `Read` the value (None at first)."""

    def initial(self) -> Hashable:
        return None

    def apply(self, state: Hashable, action: Read | Write | CompareAndSet) -> tuple[Hashable, Hashable]:
        match action:
            case Read():
                return state, state
            case Write():
                return action.value, None
            case CompareAndSet():
                return (action.value, True) if state == action.expected else (state, False)

    def may_answer(self, state: Hashable, action: object, result: object) -> bool:
        return True


class SetModel:
    """`Add` and `Remove` answer whether they changed anything, `Read` the members as a frozenset."""

    def initial(self) -> frozenset[Hashable]:
        return frozenset()

    def apply(
        self, state: frozenset[Hashable], action: Read | Add | Remove
    ) -> tuple[frozenset[Hashable], bool | frozenset[Hashable]]:
        match action:
            case Read():
                return state, state
            case Add():
                return state | {action.value}, action.value not in state
            case Remove():
                return state - {action.value}, action.value in state

    def may_answer(self, state: frozenset[Hashable], action: object, result: object) -> bool:
        return True


class AppendModel:
    """`Append` answers the position (from 0) that the value got, `Read` all values in order.

    A value that is lost, repeated or moved by a retry or a failover has no explanation.
    """

    def initial(self) -> tuple[Hashable, ...]:
        return ()

    def apply(
        self, state: tuple[Hashable, ...], action: Read | Append
    ) -> tuple[tuple[Hashable, ...], int | tuple[Hashable, ...]]:
        match action:
            case Read():
                return state, state
            case Append():
                return (*state, action.value), len(state)

    def may_answer(self, state: tuple[Hashable, ...], action: Read | Append, result: object) -> bool:
        """What was appended stays: a list that is not a beginning of the answer can never become it."""
        if isinstance(result, tuple):
            return result[: len(state)] == state
        return isinstance(result, int) and len(state) <= result
