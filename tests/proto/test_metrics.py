"""Metrics come out in Prometheus's form and their endpoint stops cleanly."""

import threading
import urllib.error
import urllib.request

import pytest
from blockyard.proto.errors import NotFound
from blockyard.proto.metrics import (
    LATENCY_BOUNDS_S,
    MethodMetrics,
    ProcessMetrics,
)
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture
def metrics() -> ProcessMetrics:
    metrics = ProcessMetrics()
    metrics.identify("metaserver", member="m1")
    return metrics


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        body: bytes = answer.read()
    return body.decode()


def test_calls_are_counted_by_method_and_outcome(metrics: ProcessMetrics) -> None:
    echo = metrics.transport("lane", "server").method("/blockyard.v1.Probe/Echo")
    echo.done(0.001)
    echo.done(0.002)
    echo.done(0.5, type(NotFound()).__name__)
    labels = {"transport": "lane", "side": "server", "method": "/blockyard.v1.Probe/Echo"}
    value = metrics.registry.get_sample_value
    assert value("blockyard_calls_total", {**labels, "outcome": "OK"}) == 2
    assert value("blockyard_calls_total", {**labels, "outcome": "NotFound"}) == 1
    assert value("blockyard_call_seconds_count", labels) == 3
    assert value("blockyard_call_seconds_sum", labels) == pytest.approx(0.503)
    assert value("blockyard_call_seconds_bucket", {**labels, "le": "0.001"}) == 1


@given(st.lists(st.floats(0, 100)))
def test_every_call_is_in_the_first_bucket_whose_bound_is_not_below_it(durations: list[float]) -> None:
    method = MethodMetrics()
    for duration in durations:
        method.done(duration)
    assert sum(method.buckets) == len(durations)
    for position, bound in enumerate(LATENCY_BOUNDS_S):
        assert sum(method.buckets[: position + 1]) == sum(duration <= bound for duration in durations)


def test_frames_connections_and_bytes_are_counted_by_transport_and_side(metrics: ProcessMetrics) -> None:
    door = metrics.transport("grpc", "server")
    door.refused("too_large")
    door.opened()
    door.opened()
    door.closed()
    door.received_bytes += 10
    metrics.transport("lane", "client").sent_bytes += 7
    labels = {"transport": "grpc", "side": "server"}
    value = metrics.registry.get_sample_value
    assert value("blockyard_refused_frames_total", {**labels, "reason": "too_large"}) == 1
    assert value("blockyard_connections_open", labels) == 1
    assert value("blockyard_connections_total", labels) == 2
    assert value("blockyard_transport_bytes_total", {**labels, "direction": "received"}) == 10
    sent = {"transport": "lane", "side": "client", "direction": "sent"}
    assert value("blockyard_transport_bytes_total", sent) == 7


def test_one_side_of_one_transport_is_one_object(metrics: ProcessMetrics) -> None:
    assert metrics.transport("lane", "server") is metrics.transport("lane", "server")
    assert metrics.transport("lane", "server").method("m") is metrics.transport("lane", "server").method("m")


def test_two_processes_in_one_interpreter_do_not_mix() -> None:
    first, second = ProcessMetrics(), ProcessMetrics()
    first.transport("lane", "server").refused("bad_magic")
    assert "bad_magic" in {*first.transport("lane", "server").refused_frames}
    assert not second.transport("lane", "server").refused_frames


def test_the_endpoint_serves_everything_that_is_registered(metrics: ProcessMetrics) -> None:
    Counter("blockyard_elections", "Elections held", registry=metrics.registry).inc(3)
    metrics.transport("lane", "server").method("/blockyard.v1.Probe/Echo").done(0.1)
    with metrics.serve(0, "127.0.0.1") as endpoint:
        families = {family.name: family for family in text_string_to_metric_families(fetch(endpoint.port))}
    assert families["blockyard_elections"].samples[0].value == 3
    assert families["blockyard_info"].samples[0].labels == {"process": "metaserver", "member": "m1"}
    assert families["blockyard_call_seconds"].type == "histogram"
    assert "process_open_fds" in families


def test_a_stopped_endpoint_leaves_no_thread_and_no_port(metrics: ProcessMetrics) -> None:
    before = set(threading.enumerate())
    endpoint = metrics.serve(0, "127.0.0.1")
    port = endpoint.port
    endpoint.stop()
    assert not set(threading.enumerate()) - before
    with pytest.raises(urllib.error.URLError):
        fetch(port)
    again = metrics.serve(port, "127.0.0.1")
    again.stop()
    again.stop()
