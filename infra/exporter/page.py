"""The page that Prometheus scrapes. The facts are read at most once a minute, however often it asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from infra.exporter.facts import Sample

__all__ = ["MEANINGS", "Facts", "Source"]

LOG = logging.getLogger(__name__)
KEPT_S = 60.0
MEANINGS = {
    "recsys_exporter_source_up": "Whether the facts of a source can be read",
    "recsys_champion_promoted_timestamp_seconds": "When the champion was promoted",
    "recsys_drift_detected": "Whether the newest measurement of a dataset found drift",
    "recsys_drift_looked_timestamp_seconds": "When drift was measured last",
    "recsys_flow_runs_ended_day": "Runs that ended within the last day, by state",
    "recsys_flow_runs_late": "Runs that are due and still wait",
    "recsys_gpu_spend_month_usd": "What rented GPUs cost in this calendar month (UTC), in USD",
    "recsys_disk_free_ratio": "Free share of the disk of a folder",
    "recsys_certificate_ends_timestamp_seconds": "When the certificate of a host ends",
    "recsys_backup_timestamp_seconds": "When the newest backup was made, or 0 if there is none",
}
"""What each metric says."""


class Source(Protocol):
    """Something that knows facts."""

    def samples(self) -> Iterator[Sample]: ...


class Facts(Collector):
    """Collects the samples of all sources, and says for each source whether it could be read."""

    def __init__(self, sources: Mapping[str, Source], kept_s: float = KEPT_S) -> None:
        self._sources, self._kept_s = sources, kept_s
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._families: list[GaugeMetricFamily] = []

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: otherwise the registry would read every source when it starts."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            if self._read_at is None or time.monotonic() - self._read_at > self._kept_s:
                self._families, self._read_at = self._read(), time.monotonic()
            yield from self._families

    def _read(self) -> list[GaugeMetricFamily]:
        samples: list[Sample] = []
        for name, source in self._sources.items():
            try:
                samples += source.samples()
                read = 1.0
            except Exception as error:  # any fault of a source, such as a server that is away, must not hide the other facts
                LOG.warning("The facts about %s cannot be read: %s", name, error)
                read = 0.0
            samples.append(Sample("recsys_exporter_source_up", read, (("source", name),)))
        families: dict[str, GaugeMetricFamily] = {}
        for sample in samples:
            keys = [key for key, _ in sample.labels]
            family = families.setdefault(
                sample.name, GaugeMetricFamily(sample.name, MEANINGS.get(sample.name, sample.name), labels=keys)
            )
            family.add_metric([value for _, value in sample.labels], sample.value)
        return list(families.values())
