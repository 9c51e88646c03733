"""Prometheus metrics. Several workers each write files to `PROMETHEUS_MULTIPROC_DIR`, and any of them can report the totals.

Gauges have `live` modes: what a worker reported about itself goes with the worker, however it ended. No label grows with time: a
version appears as its role, and `recsys_model_info` tells which version has which role now.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest, multiprocess
from prometheus_client.metrics_core import Metric

__all__ = ["Metrics"]

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
AGES = (1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
INFO = "recsys_model_info"
PROCESS = ("process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds")
Labelled = TypeVar("Labelled", Counter, Histogram)
FORMER = "former"  # role of a version that answered a request and was unloaded before the request was counted


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self._roles: dict[str, str] = {}
        self._counted: dict[Counter, float] = {}
        self._labelled: dict[tuple[Any, ...], Any] = {}
        self.requests = Counter("recsys_requests", "Requests by route and status", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "recsys_request_seconds", "Server time of a request", ["route", "role"], buckets=SECONDS, registry=own
        )
        self.answers = Counter("recsys_answers", "Rankings by the version's role and by source", ["role", "source"], registry=own)
        self.events = Counter("recsys_events", "Events by outcome", ["outcome"], registry=own)
        self.outcomes = Counter("recsys_outcomes", "Accepted outcomes by kind, repeated ones included", ["kind"], registry=own)
        self.state_age = Histogram(
            "recsys_state_age_seconds", "Seconds from a user's last event to the request", buckets=AGES, registry=own
        )
        self.cache = Counter("recsys_cache", "Rankings by whether they were found in the cache", ["found"], registry=own)
        self.cache_bytes = Gauge(
            "recsys_cache_bytes", "Estimated memory of the cached responses", registry=own, multiprocess_mode="livesum"
        )
        self.connections = Gauge("recsys_connections", "Open connections", registry=own, multiprocess_mode="livesum")
        self.closed = Counter(
            "recsys_connections_closed", "Connections that the server closed, by reason", ["reason"], registry=own
        )
        self.held_bytes = Gauge(
            "recsys_held_body_bytes", "Bytes of request bodies above 4 KiB in memory", registry=own, multiprocess_mode="livesum"
        )
        self.batch = Histogram("recsys_batch_jobs", "Requests computed in one batch", buckets=SIZES, registry=own)
        self.model = Gauge(
            INFO, "1 for each version served", ["version", "kind", "role"], registry=own, multiprocess_mode="livemax"
        )
        self.promotion = Gauge(
            "recsys_promotion", "Number of the promotion that is served", registry=own, multiprocess_mode="livemin"
        )
        self.refused = Gauge("recsys_refused_versions", "Versions that were refused", registry=own, multiprocess_mode="livemax")
        self.swaps = Counter("recsys_swaps", "Number of times that another version became the champion", registry=own)
        self.log_read = Gauge(
            "recsys_promotion_log_read_timestamp_seconds",
            "When the promotion log was last read, in seconds since 1970",
            registry=own,
            multiprocess_mode="livemin",
        )
        self.looks_failed = Counter(
            "recsys_promotion_looks_failed", "Looks at the promotion log or its versions that failed", registry=own
        )
        self.store_denied = Gauge(
            "recsys_store_denied", "1 if the store refuses the credentials", registry=own, multiprocess_mode="livemax"
        )
        self.file_refused = Gauge(
            "recsys_settings_file_refused",
            "1 if the file of rules, experiments or keys is refused and its previous content is active",
            ["file"],
            registry=own,
            multiprocess_mode="livemax",
        )
        self.redis_up = Gauge("recsys_redis_up", "1 if Redis answers", registry=own, multiprocess_mode="livemin")
        self.outages = Counter("recsys_redis_outages", "Number of times that Redis stopped answering", registry=own)
        self.redis_faults = Counter(
            "recsys_redis_faults", "Values in Redis that could not be used; the log names their keys", registry=own
        )
        self.unsent = Gauge(
            "recsys_unsent_users", "Users whose events are waiting for Redis", registry=own, multiprocess_mode="livesum"
        )
        self.histories = Gauge(
            "recsys_histories_users", "Users whose events in the dataset are known", registry=own, multiprocess_mode="livemin"
        )
        self.lost = Counter("recsys_lost_users", "Users whose events were dropped while waiting for Redis", registry=own)
        self.exposures_dropped = Counter("recsys_exposures_dropped", "Exposures that could not be written", registry=own)
        self.log_lines_dropped = Counter(
            "recsys_log_lines_dropped", "Lines of the request log that were not written", registry=own
        )
        self.failures = Counter("recsys_background_failures", "Failed steps of a background thread", ["thread"], registry=own)

    def labelled(self, metric: Labelled, *labels: str) -> Labelled:
        """Return a metric with labels, for the metrics of every request: the library takes several times as long to find it."""
        key = (metric, *labels)
        found: Labelled | None = self._labelled.get(key)
        if found is None:
            found = self._labelled[key] = metric.labels(*labels)
        return found

    def count(self, counter: Counter, total: float) -> None:
        """Bring a counter up to a total that another part of this process keeps."""
        counter.inc(max(total - self._counted.get(counter, 0.0), 0.0))
        self._counted[counter] = total

    def failed(self, thread: str) -> None:
        """Count a failed step of a background thread."""
        self.failures.labels(thread).inc()

    def role_of(self, version: str) -> str:
        """Return the role of a served version, as a label. It is empty for the empty version."""
        return self._roles.get(version, FORMER if version else "")

    def show_models(self, served: Sequence[tuple[str, str, str]]) -> None:
        """Show the versions that are served now: version, kind and role of each."""
        now = {version: role for version, _, role in served}
        for metric in self.model.collect():
            for sample in metric.samples:
                if now.get(sample.labels["version"]) != sample.labels["role"]:
                    self.model.labels(**sample.labels).set(0)
        for each in served:
            self.model.labels(*each).set(1)
        self._roles = now

    def render(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(_Current(self._registry, {os.getpid()}))
        folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        return generate_latest(_Current(_Together(folder), living_workers(folder)))


class _Together:
    """The metrics that all workers have written to a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        # A worker that is just starting, or was killed while it did, has an empty file. The library cannot read one.
        files = [str(path) for path in self._folder.glob("*.db") if _size_of(path)]
        found: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return found


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another worker has removed the gauges of a dead one
        return 0


class _Current(CollectorRegistry):
    """The metrics of a source, without the versions that are no longer served, and those of the workers' processes."""

    def __init__(self, source: Any, workers: set[int]) -> None:
        super().__init__()
        self._source, self._workers = source, workers

    def collect(self) -> Iterator[Metric]:
        metrics: Iterable[Metric] = self._source.collect()
        for metric in metrics:
            if metric.name == INFO:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric
        yield from self._processes()

    def _processes(self) -> Iterator[Metric]:
        """Yield memory, processor time and open files of all workers together."""
        sums: dict[str, Metric] = {}
        for pid in sorted(self._workers):
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                if metric.name in PROCESS:
                    before = sums[metric.name].samples[0].value if metric.name in sums else 0.0
                    metric.samples = [sample._replace(value=sample.value + before) for sample in metric.samples]
                    sums[metric.name] = metric
        yield from sums.values()


def living_workers(folder: Path) -> set[int]:
    """Return the workers that are alive, and remove the gauges of the others. A killed worker cannot do this itself."""
    workers = {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*.db")}
    alive = {pid for pid in workers if _is_alive(pid)}
    for pid in workers - alive:
        with suppress(FileNotFoundError):  # another worker is doing the same
            multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
    return alive


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a process that has ended keeps its number until its parent asks for it
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True
