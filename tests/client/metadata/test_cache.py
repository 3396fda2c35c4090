"""The namespace cache: never older than an own change, never older than its age, never larger than its limit."""

from blockyard.client.metadata.cache import ABSENT, NamespaceCache
from blockyard.proto.metadata_pb2 import Attributes
from hypothesis import given
from hypothesis import strategies as st

NAME = b"name"


def test_a_read_that_was_under_way_during_an_own_change_does_not_hide_it() -> None:
    cache = NamespaceCache(1.0)
    ticket = cache.ticket()
    cache.set_name(1, NAME, 5, 0.0)
    cache.saw_name(1, NAME, ABSENT, ticket, 0.1)
    assert cache.child(1, NAME, 0.2) == 5
    cache.saw_name(1, NAME, 6, cache.ticket(), 0.1)
    assert cache.child(1, NAME, 0.2) == 6


def test_an_older_version_never_follows_a_newer_one() -> None:
    cache = NamespaceCache(1.0)
    cache.saw(Attributes(inode=5, version=3, size=30), 0.0)
    cache.saw(Attributes(inode=5, version=2, size=20), 0.5)
    known = cache.attributes(5, 0.6)
    assert known is not None
    assert known.size == 30
    cache.forget(5)
    assert cache.attributes(5, 0.6) is None
    cache.saw(Attributes(inode=5, version=2, size=20), 0.7)
    assert cache.attributes(5, 0.8) is None


def test_nothing_is_believed_for_longer_than_its_age() -> None:
    cache = NamespaceCache(1.0)
    cache.saw(Attributes(inode=5, version=1), 0.0)
    cache.set_name(1, NAME, ABSENT, 0.0)
    assert cache.attributes(5, 0.99) is not None
    assert cache.child(1, NAME, 0.99) == ABSENT
    assert cache.attributes(5, 1.0) is None
    assert cache.child(1, NAME, 1.0) is None


def test_with_age_zero_nothing_is_remembered() -> None:
    cache = NamespaceCache(0.0)
    cache.saw(Attributes(inode=5, version=1), 0.0)
    assert cache.attributes(5, 0.0) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 5)), max_size=80))
def test_a_bounded_cache_forgets_and_is_never_wrong(plan: list[tuple[bool, int, int]]) -> None:
    """Reads return what the names were when they began, at worst; a ticket that is too old to judge is not used."""
    cache = NamespaceCache(10.0, limit=4)
    truth: dict[bytes, int] = {}
    begun: list[tuple[bytes, int, int]] = []
    for own_change, number, inode in plan:
        name = bytes([number])
        if own_change:
            truth[name] = inode
            cache.set_name(1, name, inode, 0.0)
        else:
            begun.append((name, truth.get(name, ABSENT), cache.ticket()))
            if inode % 2:
                read, seen, ticket = begun.pop(0)
                cache.saw_name(1, read, seen, ticket, 0.0)
        for each in range(10):
            known = cache.child(1, bytes([each]), 0.0)
            assert known is None or known == truth.get(bytes([each]), ABSENT)
