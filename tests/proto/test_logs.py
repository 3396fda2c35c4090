"""Logs are entries with fields, ours and our dependencies' alike, and never show payload or secrets."""

import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from blockyard.proto import logs
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import NotFound


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("blockyard")
    before = root.level, ours.level, root.handlers[:]
    yield
    root.setLevel(before[0])
    ours.setLevel(before[1])
    root.handlers[:] = before[2]
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def out() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("metaserver", form="json", stream=stream, ids={"member": "m1"})
    return stream


def entries(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_entry_has_its_event_its_fields_and_the_process(out: io.StringIO) -> None:
    logs.get("blockyard.raft", term=3).warning("leader_lost", name="m2", process_count=4)
    (entry,) = entries(out)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "leader_lost",
        "level": "warning",
        "logger": "blockyard.raft",
        "process": "metaserver",
        "pid": os.getpid(),
        "member": "m1",
        "term": 3,
        "name": "m2",
        "process_count": 4,
    }


def test_structlogs_own_loggers_come_out_in_the_same_form(out: io.StringIO) -> None:
    structlog.get_logger("blockyard.x").info("seen", name="m2")
    (entry,) = entries(out)
    assert (entry["event"], entry["logger"], entry["name"]) == ("seen", "blockyard.x", "m2")


def test_bound_loggers_and_context_carry_their_fields(out: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(request="r1"):
        logs.get("blockyard.x").bind(node="n3").info("seen")
    (entry,) = entries(out)
    assert (entry["request"], entry["node"]) == ("r1", "n3")


def test_the_standard_library_comes_out_in_the_same_form(out: io.StringIO) -> None:
    logging.getLogger("some.dependency").info("connected to %s", "h", extra={"port": 7})
    (entry,) = entries(out)
    assert (entry["event"], entry["logger"], entry["process"]) == ("connected to h", "some.dependency", "metaserver")


def test_warnings_come_out_as_entries(out: io.StringIO) -> None:
    warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    (entry,) = entries(out)
    assert "old thing" in entry["event"]


def test_entries_below_the_level_are_left_out(out: io.StringIO) -> None:
    logs.get("blockyard.x").debug("detail")
    assert entries(out) == []


def test_debug_is_for_our_own_entries_only() -> None:
    out = io.StringIO()
    logs.configure("client", level="debug", form="json", stream=out)
    logs.get("blockyard.x").debug("ours")
    logging.getLogger("kubernetes.client.rest").debug("response body: secret")
    assert [entry["event"] for entry in entries(out)] == ["ours"]


def test_a_later_configuration_replaces_the_earlier(out: io.StringIO) -> None:
    log = logs.get("blockyard.x")
    log.info("first")
    later = io.StringIO()
    logs.configure("metaserver", level="error", form="json", stream=later)
    log.info("second")
    log.error("third")
    assert [entry["event"] for entry in entries(out)] == ["first"]
    assert [entry["event"] for entry in entries(later)] == ["third"]


def test_handlers_of_the_surrounding_program_stay() -> None:
    theirs = logging.NullHandler()
    logging.getLogger().addHandler(theirs)
    logs.configure("client", stream=io.StringIO())
    assert theirs in logging.getLogger().handlers


def test_without_configuration_entries_reach_the_programs_own_logging(caplog: pytest.LogCaptureFixture) -> None:
    logs.get("blockyard.client").warning("cache_full", bytes=3)
    assert caplog.messages == ["cache_full"]


class TestWhatNeverComesOut:
    def test_payload_is_replaced_by_its_size(self, out: io.StringIO) -> None:
        logs.get("blockyard.x").info("got", data=b"payload", view=memoryview(b"12"), request=Caller(uid=7, gid=8))
        (entry,) = entries(out)
        assert entry["data"] == "[7 bytes]"
        assert entry["view"] == "[2 bytes]"
        assert entry["request"] == "[Caller of 4 bytes]"

    @pytest.mark.parametrize("key", ["password", "api_token", "client_secret", "Authorization"])
    def test_secrets_are_hidden_at_any_depth(self, out: io.StringIO, key: str) -> None:
        logs.get("blockyard.x").info("got", **{key: "hunter2"}, settings={"s3": [{key: "hunter2"}]})
        assert "hunter2" not in out.getvalue()
        assert entries(out)[0][key] == "[hidden]"

    def test_long_texts_are_cut(self, out: io.StringIO) -> None:
        logs.get("blockyard.x").info("got", text="x" * 100_000)
        assert len(out.getvalue()) < 10_000

    @pytest.mark.parametrize("form", ["json", "console"])
    def test_tracebacks_show_no_local_variables(self, form: logs.Format) -> None:
        out = io.StringIO()
        logs.configure("client", form=form, stream=out)

        def fail() -> None:
            hunter = "hunter" + str(1 + 1)
            raise KeyError(len(hunter))

        try:
            fail()
        except KeyError:
            logs.get("blockyard.x").exception("failed")
        assert "in fail" in out.getvalue()
        assert "KeyError: 7" in out.getvalue()
        assert "hunter2" not in out.getvalue()


def test_errors_in_fields_show_their_class(out: io.StringIO) -> None:
    logs.get("blockyard.x").info("refused", error=NotFound(subject="/a"))
    assert entries(out)[0]["error"] == "NotFound: [Errno 2] No such file or directory: '/a'"


@pytest.mark.parametrize("form", ["json", "console"])
def test_file_names_that_are_not_utf8_can_be_logged(form: logs.Format) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    logs.configure("client", form=form, stream=stream)
    logs.get("blockyard.x").info("opened", path=os.fsdecode(b"caf\xe9"))
    stream.flush()
    assert b"udce9" in raw.getvalue()


def test_console_lines_are_for_people() -> None:
    out = io.StringIO()
    logs.configure("client", form="console", stream=out)
    logs.get("blockyard.x").info("opened", path="/a")
    assert "opened" in out.getvalue()
    assert "path=/a" in out.getvalue()
