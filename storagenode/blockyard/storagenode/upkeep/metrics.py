"""Prometheus metrics of upkeep; every name is in this module."""

from collections.abc import Iterator
from typing import Final

from blockyard.storagenode.upkeep.upkeep import Upkeep
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

NO_ETA: Final = -1.0


class UpkeepMetrics(Collector):
    """Looks at upkeep when somebody fetches."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep

    def collect(self) -> Iterator[Metric]:
        """Yield the samples of now."""
        upkeep = self._upkeep
        repair, left, rate = upkeep.repair.totals, upkeep.repair.left(), upkeep.repair.rate()
        eta_s = 0.0 if not left.bytes else left.bytes / rate if rate >= 1 else NO_ETA
        yield _gauge("blockyard_repair_left_blocks", "Blocks still to be fetched", left.blocks)
        yield _gauge("blockyard_repair_left_bytes", "Bytes still to be fetched", left.bytes)
        yield _gauge("blockyard_repair_incomplete_groups", "Groups not known to be complete here", left.groups)
        yield _gauge("blockyard_repair_bytes_per_second", "Bytes fetched per second lately", rate)
        yield _gauge("blockyard_repair_eta_seconds", "Seconds until all is fetched at this rate; -1: unknown", eta_s)
        unobtainable = sum(list(repair.unobtainable.values()))
        yield _gauge("blockyard_repair_unobtainable_blocks", "Blocks that no holder could deliver", unobtainable)
        yield _counter("blockyard_repair_blocks", "Blocks fetched", repair.blocks)
        yield _counter("blockyard_repair_bytes", "Bytes fetched", repair.bytes)
        yield _counter(
            "blockyard_repair_throttled_bytes", "Bytes let through by the throttle", upkeep.throttle.passed_bytes
        )
        yield _counter("blockyard_repair_refused_blocks", "Blocks that a holder could not deliver", repair.refused)
        yield _counter("blockyard_repair_surveys", "Groups compared with their other holders", repair.surveys)
        yield _gauge("blockyard_leaving_groups", "Groups it holds no longer, with blocks", upkeep.leaving.kept_groups)
        yield _counter("blockyard_leaving_dropped_blocks", "Such blocks dropped", upkeep.leaving.dropped_blocks)
        yield _counter("blockyard_reclaimed_blocks", "Dead blocks dropped", upkeep.reclaimer.dropped_blocks)
        yield _counter(
            "blockyard_orphans_dropped", "Blocks dropped that nothing referred to", upkeep.collector.dropped_blocks
        )
        examined, scrub = upkeep.examiner.examined, upkeep.scrub_progress()
        yield _counter("blockyard_verified_blocks", "Replicas read in full, by scrub or on suspicion", examined.blocks)
        yield _counter("blockyard_verified_bytes", "Their bytes", examined.bytes)
        yield _counter("blockyard_bad_replicas", "Replicas found bad", examined.bad)
        yield _gauge("blockyard_scrub_pass_share", "Share of the scrub pass under way; 1 without one", scrub.share)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, help_text)
    family.add_metric([], float(value))
    return family


def _counter(name: str, help_text: str, value: float) -> Metric:
    family = CounterMetricFamily(name, help_text)
    family.add_metric([], float(value))
    return family
