"""Prometheus metrics of a metadata member; every name is in this module."""

from collections.abc import Iterator

from blockyard.metaserver.compaction.runner import Compaction
from blockyard.metaserver.member.applier import Applier
from blockyard.metaserver.member.driver import Driver
from blockyard.metaserver.member.leadership import Leadership
from blockyard.metaserver.namespace.state import INODES
from blockyard.metaserver.raft import Role
from blockyard.metaserver.storage.directory import DataDirectory
from blockyard.metaserver.storage.space import free_bytes
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class MemberMetrics(Collector):
    """Looks at the member when somebody fetches; nothing is counted on the hot path."""

    def __init__(
        self,
        driver: Driver,
        applier: Applier | None,
        leadership: Leadership | None,
        compaction: Compaction | None,
        directory: DataDirectory,
    ) -> None:
        self._driver = driver
        self._applier = applier
        self._leadership = leadership
        self._compaction = compaction
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """Yield the samples of now."""
        core = self._driver.core
        yield _gauge("blockyard_raft_leader", "1 on the member that leads", core.role is Role.LEADER)
        yield _gauge("blockyard_raft_term", "Term", core.term)
        yield _gauge("blockyard_raft_commit_index", "Commit index", core.commit)
        yield _gauge("blockyard_raft_last_index", "Last index of the log", core.log.last_index)
        yield _gauge("blockyard_raft_first_index", "First index of the log", core.log.base.index + 1)
        yield _gauge("blockyard_meta_free_bytes", "Free bytes of the data directory", free_bytes(self._directory.path))
        lag = GaugeMetricFamily("blockyard_raft_lag_entries", "Entries a peer is behind the leader", labels=["member"])
        if core.role is Role.LEADER:
            for member, peer in core.progress.items():
                lag.add_metric([str(int(member))], max(0, core.log.last_index - peer.match))
        yield lag
        if self._applier is not None and self._leadership is not None:
            yield from self._state(self._applier, self._leadership)
        if self._compaction is not None:
            yield from _compaction(self._compaction)

    def _state(self, applier: Applier, leadership: Leadership) -> Iterator[Metric]:
        machine = applier.machine
        yield _gauge("blockyard_raft_applied_index", "Applied index", applier.applied)
        yield _gauge("blockyard_meta_inodes", "Inodes", machine.state.counters.get(INODES) or 0)
        yield _gauge("blockyard_meta_sessions", "Sessions", len(machine.sessions.known))
        yield _gauge("blockyard_meta_waiting_changes", "Changes that wait", len(self._driver.proposals))
        yield _gauge("blockyard_meta_last_failover_ms", "Time without a leader before this member last became one",
                     leadership.leaderless_ms)  # fmt: skip
        failovers = CounterMetricFamily("blockyard_meta_leader_changes", "Times this member became leader")
        failovers.add_metric([], leadership.changes)
        yield failovers


def _compaction(compaction: Compaction) -> Iterator[Metric]:
    counts = compaction.counts
    yield _gauge("blockyard_meta_crowded_chunks", "Chunks marked for compaction", compaction.waiting)
    yield _gauge("blockyard_meta_compactions_running", "Chunks that nodes rewrite now", compaction.running)
    ended = CounterMetricFamily("blockyard_meta_compactions", "Rewritings that ended", labels=["outcome"])
    for outcome, count in (("swapped", counts.swapped), ("refused", counts.refused), ("failed", counts.failed)):
        ended.add_metric([outcome], count)
    yield ended
    rewritten = CounterMetricFamily("blockyard_meta_compaction_bytes", "Bytes that compaction wrote anew")
    rewritten.add_metric([], counts.rewritten_bytes)
    yield rewritten


def _gauge(name: str, help_text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, help_text)
    family.add_metric([], float(value))
    return family
