"""Ids are read from exactly the text they print, and refuse everything else by name."""

from typing import Any

import pytest
from blockyard.proto import ids
from blockyard.proto.ids import (
    BLOCK,
    EPOCH,
    GROUP,
    INCARNATION,
    INODE,
    LOG_INDEX,
    MEMBER,
    NODE,
    SESSION,
    TERM,
    BlockId,
    InodeId,
    NodeId,
    PlacementGroup,
    SessionId,
    Slot,
)
from hypothesis import given
from hypothesis import strategies as st

UPPERS = st.integers(0, 65535)
SEQUENCES = st.integers(1, 2**48 - 1)
COUNTERS: list[ids.Counter[Any]] = [NODE, MEMBER, GROUP, EPOCH, TERM, LOG_INDEX]
FORMS = [*COUNTERS, SESSION, INCARNATION, INODE, BLOCK]


@given(UPPERS, SEQUENCES)
def test_inodes_and_blocks_split_into_what_they_were_joined_from(upper: int, sequence: int) -> None:
    inode = INODE.join(Slot(upper), sequence)
    assert INODE.split(inode) == (upper, sequence)
    assert INODE.upper(inode) == upper
    assert INODE.check(inode) == inode
    assert INODE.parse(INODE.text(inode)) == inode
    block = BLOCK.join(PlacementGroup(upper), sequence)
    assert BLOCK.split(block) == (upper, sequence)
    assert BLOCK.parse(BLOCK.text(block)) == block


@given(UPPERS, SEQUENCES, UPPERS, SEQUENCES)
def test_ids_are_ordered_by_upper_part_and_then_sequence(a: int, b: int, c: int, d: int) -> None:
    assert ((a, b) < (c, d)) == (INODE.join(Slot(a), b) < INODE.join(Slot(c), d))


@pytest.mark.parametrize("form", COUNTERS, ids=lambda form: form.noun)
@given(data=st.data())
def test_counters_are_read_from_what_they_print(form: ids.Counter[int], data: st.DataObject) -> None:
    value = form.check(data.draw(st.integers(form.first, form.limit - 1)))
    assert form.parse(form.text(value)) == value


@pytest.mark.parametrize("form", [SESSION, INCARNATION], ids=lambda form: form.noun)
@given(value=st.integers(1, 2**64 - 1))
def test_random_ids_are_read_from_what_they_print(form: ids.Hexadecimal[int], value: int) -> None:
    assert form.parse(form.text(form.check(value))) == value


@given(st.binary(min_size=16, max_size=16))
def test_cluster_ids_are_read_from_what_they_print(bits: bytes) -> None:
    assert ids.parse_cluster_id(ids.cluster_id(bits)) == ids.cluster_id(bits)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.noun)
@given(text=st.text(alphabet="ibnmgetlsxc0123456789abcdef.-+_ ٣", max_size=18))
def test_text_is_refused_unless_it_is_what_would_be_printed(form: ids.Counter[int], text: str) -> None:
    try:
        value = form.parse(text)
    except ValueError:
        return
    assert form.text(value) == text


def test_no_two_kinds_of_id_share_a_letter() -> None:
    letters = [form.text(form.check(1))[0] for form in COUNTERS]
    letters += [SESSION.letter, INCARNATION.letter, INODE.letter, BLOCK.letter]
    assert len(set(letters)) == len(letters)


def test_the_text_forms_are_these() -> None:
    assert INODE.text(ids.ROOT_INODE) == "i0.1"
    assert BLOCK.text(BlockId(17 << 48 | 42)) == "b17.42"
    assert NODE.text(NodeId(3)) == "n3"
    assert SESSION.text(SessionId(0xC0FFEE)) == "s0000000000c0ffee"


@pytest.mark.parametrize(
    "text", ["", "i", "i1", "i1.", "i.1", "i0.0", "i00.1", "i65536.1", "i0.281474976710656", "b0.1"]
)
def test_bad_inodes_are_refused_with_what_was_found(text: str) -> None:
    with pytest.raises(ValueError, match="inode"):
        INODE.parse(text)


@pytest.mark.parametrize("value", [0, -1, 2**64, 5 << 48])
def test_integers_that_name_no_inode_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match="inode"):
        INODE.check(value)


@pytest.mark.parametrize("text", ["n0", "n03", "n-1", "n+1", "n1_0", "n٣", "3", "N3", "n4294967296", "n" + "9" * 5000])
def test_bad_nodes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="node"):
        NODE.parse(text)


@pytest.mark.parametrize("text", ["s0000000000000000", "s00C0FFEE00C0FFEE", "s1", "sx0c0ffee00c0ffee"])
def test_bad_sessions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="session"):
        SESSION.parse(text)


@pytest.mark.parametrize("text", ["", "c", "c" + "0" * 31, "C" + "0" * 32, "c" + "G" * 32])
def test_bad_cluster_ids_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cluster"):
        ids.parse_cluster_id(text)


def test_cluster_ids_need_sixteen_random_bytes() -> None:
    with pytest.raises(ValueError, match="found 15"):
        ids.cluster_id(bytes(15))


def test_the_root_is_the_first_inode_of_the_first_slot() -> None:
    assert InodeId(1) == ids.ROOT_INODE == INODE.join(Slot(0), 1)
