"""Which address of a member counts: the one it told, or the one in the settings."""

from pathlib import Path

from blockyard.metaserver.member import address_book
from blockyard.metaserver.member.address_book import parse_member


def ports(directory: Path, *settings: str) -> list[int]:
    return [each.address.lane_port for each in address_book.load(directory, map(parse_member, settings))]


def test_what_a_member_told_counts_over_settings_that_did_not_change(tmp_path: Path) -> None:
    assert ports(tmp_path, "1@a:10", "2@b:20") == [10, 20]
    address_book.save(tmp_path, [parse_member("1@a:10"), parse_member("2@b:21"), parse_member("3@c:30")])
    assert ports(tmp_path, "1@a:10", "2@b:20") == [10, 21, 30]


def test_an_address_changed_in_the_settings_counts_over_what_was_told(tmp_path: Path) -> None:
    ports(tmp_path, "1@a:10", "2@b:20")
    address_book.save(tmp_path, [parse_member("1@a:11"), parse_member("2@b:21")])
    assert ports(tmp_path, "1@a:10", "2@b:22") == [11, 22]


def test_a_changed_setting_counts_once_and_then_the_member_is_believed_again(tmp_path: Path) -> None:
    ports(tmp_path, "2@b:20")
    assert ports(tmp_path, "2@b:22") == [22]
    address_book.save(tmp_path, [parse_member("2@b:23")])
    assert ports(tmp_path, "2@b:22") == [23]
