"""Settings come from a file and the environment, and everything that is wrong is said at once and by name."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blockyard.proto import settings
from blockyard.proto.settings import ClientSettings, MetaserverSettings, SettingsError, StorageNodeSettings, load

GOOD = """
[cluster]
metaservers = ["a.example:7701", "[::1]:7701"]

[metaserver]
member = 1
group = ["1@a.example:7701", "2@[::1]:7701"]
data_dir = "/var/lib/blockyard"

[storagenode]
name = "disk-1"
data_dir = "/disk1"

[listen]
advertise_host = "a.example"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "blockyard.toml"
    path.write_text(GOOD)
    return path


def problems(kind: Any, path: Path | None, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as failed:
        load(kind, path, environ)
    assert str(failed.value).splitlines() == list(failed.value.problems)
    return list(failed.value.problems)


@pytest.mark.parametrize("kind", settings.KINDS, ids=lambda kind: kind.__name__)
def test_one_file_serves_every_kind_of_process(kind: type[Any], file: Path) -> None:
    record = load(kind, file, {})
    assert record.cluster.metaservers == ("a.example:7701", "[::1]:7701")
    assert set(settings.as_builtins(record)) == {each.name for each in msgspec.structs.fields(kind)}


def test_what_is_not_set_has_its_default(file: Path) -> None:
    record = load(MetaserverSettings, file, {})
    assert (record.raft.suspect_after_ms, record.placement.out_after_s, record.placement.write_min) == (300, 600, 2)


def test_the_environment_overrides_the_file(file: Path) -> None:
    environ = {
        "BLOCKYARD_STORAGENODE__NAME": "disk-2",
        "BLOCKYARD_CLUSTER__METASERVERS": "b:1, c:2",
        "BLOCKYARD_DOOR__REFLECTION": "false",
        "BLOCKYARD_LISTEN__LANE_PORT": "9000",
        "BLOCKYARD_HOME": "no setting",
        "PATH": "/bin",
    }
    record = load(StorageNodeSettings, file, environ)
    assert record.storagenode.name == "disk-2"
    assert record.cluster.metaservers == ("b:1", "c:2")
    assert record.door.reflection is False
    assert record.listen.lane_port == 9000


def test_the_environment_alone_is_enough() -> None:
    record = load(ClientSettings, None, {"BLOCKYARD_CLUSTER__METASERVERS": "a:1"})
    assert record.cluster.metaservers == ("a:1",)


def test_the_environment_repairs_what_the_file_has_wrong(file: Path) -> None:
    file.write_text(GOOD + "[raft]\nheartbeat_ms = 'often'\n")
    with pytest.raises(SettingsError):
        load(MetaserverSettings, file, {})
    file.write_text(GOOD + "[raft]\nelection_timeout_ms = 1\n")
    record = load(MetaserverSettings, file, {"BLOCKYARD_RAFT__ELECTION_TIMEOUT_MS": "600"})
    assert record.raft.election_timeout_ms == 600


def test_records_cannot_be_changed(file: Path) -> None:
    record = load(ClientSettings, file, {})
    with pytest.raises(AttributeError):
        record.client.zone = "north"  # type: ignore[misc]


class TestAMessage:
    def test_names_the_file_the_key_what_was_found_and_what_is_allowed(self, file: Path) -> None:
        file.write_text(GOOD + '[raft]\nheartbeat_ms = "fast"\n')
        assert problems(MetaserverSettings, file) == [
            f'{file}: raft.heartbeat_ms: found "fast"; allowed: a whole number from 1 to 3600000'
        ]

    def test_names_the_variable(self, file: Path) -> None:
        assert problems(MetaserverSettings, file, BLOCKYARD_LOGS__LEVEL="loud") == [
            'environment variable BLOCKYARD_LOGS__LEVEL: logs.level: found "loud"; '
            'allowed: one of "debug", "error", "info", "warning"'
        ]

    @pytest.mark.parametrize(
        ("section", "line", "said"),
        [
            ("lane", "connect_timeout_ms = 0", "found 0; allowed: a whole number from 1 to 3600000"),
            ("lane", "connect_timeout_ms = true", "found true; allowed: a whole number"),
            ("lane", "connect_timeout_ms = 1.5", "found 1.5; allowed: a whole number"),
            ("door", "reflection = 1", "found 1; allowed: true or false"),
            ("client", "zone = 3", "found 3; allowed: text"),
            ("placement", "placement_groups = 1000", "found 1000; allowed: a power of two"),
            ("placement", "write_min = 4", "found 4; allowed: at most placement.replicas (3)"),
            ("placement", "scatter_width = 1", "found 1; allowed: at least placement.replicas - 1 (2)"),
            ("placement", "down_after_ms = 1000", "allowed: at least 2 × placement.heartbeat_ms (2000)"),
            ("raft", "heartbeat_ms = 101", "election_timeout_ms: found 500; allowed: at least 5 × raft.heartbeat_ms"),
            ("raft", "witness_election_timeout_ms = 900", "at least 2 × raft.election_timeout_ms (1000)"),
            ("metrics", "port = 7701", "found 7701; allowed: another port than listen.lane_port"),
        ],
    )
    def test_says_what_is_allowed(self, file: Path, section: str, line: str, said: str) -> None:
        file.write_text(GOOD + f"[{section}]\n{line}\n")
        if section == "client":
            assert said in "\n".join(problems(ClientSettings, file))
        else:
            assert said in "\n".join(problems(MetaserverSettings, file))

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("[raft]\nheartbeet_ms = 3", "unknown; did you mean raft.heartbeat_ms?"),
            ("[rafts]\nheartbeat_ms = 3", "unknown; did you mean raft.heartbeat_ms?"),
            ("[raft]\nwrite_min = 3", "unknown; did you mean placement.write_min?"),
            ("[logs]\nzzzzzzzz = 3", "unknown; known in [logs]: level, format"),
            ("[zzzzz]\nqqqqqqq = 3", "unknown; known sections: client, cluster"),
        ],
    )
    def test_says_what_an_unknown_key_may_have_meant(self, file: Path, text: str, meant: str) -> None:
        file.write_text(GOOD + text)
        (problem,) = problems(MetaserverSettings, file)
        assert meant in problem

    def test_counts_every_problem_at_once(self, file: Path) -> None:
        file.write_text("[raft]\nheartbeat_ms = 400\nticks = 1\n[logs]\nlevel = 1\n")
        said = problems(MetaserverSettings, file, BLOCKYARD_LANE__IN_FLIGHT_LIMIT="-1")
        keys = [re.findall(r"(\w+\.\w+): (?:found|unknown)", line)[0] for line in said]
        assert sorted(keys) == [
            "cluster.metaservers",
            "lane.in_flight_limit",
            "listen.advertise_host",
            "logs.level",
            "metaserver.data_dir",
            "metaserver.group",
            "metaserver.member",
            "raft.election_timeout_ms",
            "raft.suspect_after_ms",
            "raft.ticks",
        ]


@pytest.mark.parametrize("bad", ["a", "a:", ":1", "a b:1", "::1:80", "http://a:1"])
def test_addresses_are_host_and_port(bad: str) -> None:
    (problem,) = problems(ClientSettings, None, BLOCKYARD_CLUSTER__METASERVERS=bad)
    assert "allowed: a list of host:port texts" in problem


@pytest.mark.parametrize("bad", ["a:0", "a:65536"])
def test_ports_of_addresses_are_in_range(bad: str) -> None:
    (problem,) = problems(ClientSettings, None, BLOCKYARD_CLUSTER__METASERVERS=bad)
    assert "ports from 1 to 65535" in problem


def test_a_file_that_is_missing_is_said_with_its_path(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    assert problems(MetaserverSettings, missing) == [f"{missing}: cannot be read: No such file or directory"]


def test_a_file_that_is_not_toml_is_said_with_its_line(file: Path) -> None:
    file.write_text("[raft]\nheartbeat_ms = \n")
    assert re.search(r"is not TOML: .*line 2", problems(MetaserverSettings, file)[0])


def test_a_value_outside_a_section_is_a_problem(file: Path) -> None:
    file.write_text("level = 3\n" + GOOD)
    assert problems(MetaserverSettings, file) == [f"{file}: level: found 3; allowed: a table [level] of keys"]


def test_sections_of_other_processes_are_checked_too(file: Path) -> None:
    assert "storagenode.scrub_period_s" in problems(ClientSettings, file, BLOCKYARD_STORAGENODE__SCRUB_PERIOD_S="x")[0]


def test_every_key_with_a_quantity_ends_in_its_unit() -> None:
    units = ("_bytes", "_ms", "_s", "_days", "_percent", "_per_second", "_entries", "_limit", "port", "_groups")
    bare = {"replicas", "write_min", "scatter_width", "member"}
    for name, section in settings.SECTIONS.items():
        for each in msgspec.structs.fields(section):
            info = msgspec.inspect.type_info(each.type)
            if isinstance(info, msgspec.inspect.IntType):
                assert each.name in bare or each.name.endswith(units), f"{name}.{each.name}"
