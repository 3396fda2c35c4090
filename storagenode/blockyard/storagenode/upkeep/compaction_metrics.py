"""What a node has rewritten for compaction, for Prometheus."""

from collections.abc import Iterator

from blockyard.storagenode.upkeep.compaction import Compactor
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class CompactionMetrics(Collector):
    """Looks at the compactor when somebody fetches."""

    def __init__(self, compactor: Compactor) -> None:
        self._compactor = compactor

    def collect(self) -> Iterator[Metric]:
        """Yield the samples of now."""
        chunks = CounterMetricFamily("blockyard_compaction_chunks", "Chunks whose visible bytes were written anew")
        chunks.add_metric([], self._compactor.chunks)
        yield chunks
        written = CounterMetricFamily("blockyard_compaction_bytes", "Bytes of the blocks written for that")
        written.add_metric([], self._compactor.written_bytes)
        yield written
