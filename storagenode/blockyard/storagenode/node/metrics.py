"""Prometheus metrics of a storage node; every name is in this module."""

from collections.abc import Iterator

from blockyard.storagenode.node.condition import Condition
from blockyard.storagenode.node.membership import Heartbeats
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class NodeMetrics(Collector):
    """Looks at the node when somebody fetches; nothing is counted on the hot path."""

    def __init__(self, condition: Condition, heartbeats: Heartbeats) -> None:
        self._condition = condition
        self._heartbeats = heartbeats

    def collect(self) -> Iterator[Metric]:
        """Yield the samples of now."""
        usage, disk = self._condition.store.usage(), self._condition.disk
        progress, view = self._condition.services.progress(), self._condition.known.view
        yield _gauge("blockyard_node_map_epoch", "Epoch of the map known", view.epoch)
        yield _gauge("blockyard_node_full", "1 while no new blocks are taken for want of space", usage.read_only)
        yield _gauge("blockyard_node_disk_hung", "1 while the disk does not answer", disk.hung)
        yield _gauge("blockyard_node_disk_probe_seconds", "Last write and sync of an idle disk", disk.probe_us / 1e6)
        yield _gauge("blockyard_node_sync_seconds", "Median sync of the store", usage.sync_us / 1e6)
        yield _gauge("blockyard_node_used_bytes", "Bytes in use on the disk", usage.used_bytes)
        yield _gauge("blockyard_node_free_bytes", "Bytes free on the disk", usage.free_bytes)
        yield _gauge("blockyard_node_live_bytes", "Bytes of sealed blocks", usage.live_bytes)
        yield _gauge("blockyard_node_blocks", "Sealed blocks", usage.blocks)
        yield _gauge("blockyard_node_quarantined_blocks", "Replicas found bad", usage.quarantined)
        yield _gauge("blockyard_node_calls_under_way", "Calls that have begun and not ended", self._condition.calls())
        yield _gauge("blockyard_node_repair_blocks", "Blocks still to be fetched", progress.repair_blocks)
        yield _gauge("blockyard_node_repair_left_bytes", "Bytes still to be fetched", progress.repair_bytes)
        yield _gauge("blockyard_node_repair_bytes_per_second", "Repair lately", progress.repair_bytes_per_second)
        yield _gauge("blockyard_node_complete_groups", "Placement groups complete", len(progress.complete_groups))
        yield _counter("blockyard_node_puts", "Small blocks put", usage.puts)
        yield _counter("blockyard_node_syncs", "Syncs of the store", usage.syncs)
        yield _counter("blockyard_node_disk_probes", "Times the idle disk was tried", disk.probes)
        yield _counter("blockyard_node_heartbeats", "Heartbeats answered", self._heartbeats.sent)
        yield _counter("blockyard_node_heartbeats_failed", "Heartbeats that nobody answered", self._heartbeats.failed)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, help_text)
    family.add_metric([], float(value))
    return family


def _counter(name: str, help_text: str, value: float) -> Metric:
    family = CounterMetricFamily(name, help_text)
    family.add_metric([], float(value))
    return family
