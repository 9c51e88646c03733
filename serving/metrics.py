"""Prometheus metrics. Several workers each write files to `PROMETHEUS_MULTIPROC_DIR`, and any of them can report the totals."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

__all__ = ["Metrics"]

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
AGES = (1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter("recsys_requests", "Requests by route and status", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "recsys_request_seconds", "Server time of a request", ["route", "version"], buckets=SECONDS, registry=own
        )
        self.answers = Counter("recsys_answers", "Rankings by version and source", ["version", "source"], registry=own)
        self.events = Counter("recsys_events", "Events by outcome", ["outcome"], registry=own)
        self.state_age = Histogram(
            "recsys_state_age_seconds", "Seconds from a user's last event to the request", buckets=AGES, registry=own
        )
        self.cache = Counter("recsys_cache", "Rankings by whether they were found in the cache", ["found"], registry=own)
        self.batch = Histogram("recsys_batch_jobs", "Requests computed in one batch", buckets=SIZES, registry=own)
        self.model = Gauge(
            "recsys_model_info", "1 for each version served", ["version", "kind", "role"], registry=own, multiprocess_mode="max"
        )
        self.promotion = Gauge(
            "recsys_promotion", "Number of the promotion that is served", registry=own, multiprocess_mode="min"
        )
        self.refused = Gauge("recsys_refused_versions", "Versions that were refused", registry=own, multiprocess_mode="max")
        self.swaps = Counter("recsys_swaps", "Number of times that another version became the champion", registry=own)
        self.redis_up = Gauge("recsys_redis_up", "1 if Redis answers", registry=own, multiprocess_mode="min")
        self.outages = Counter("recsys_redis_outages", "Number of times that Redis stopped answering", registry=own)
        self.redis_faults = Counter(
            "recsys_redis_faults", "Values in Redis that could not be used; the log names their keys", registry=own
        )
        self.unsent = Gauge(
            "recsys_unsent_users", "Users whose events are waiting for Redis", registry=own, multiprocess_mode="sum"
        )
        self.lost = Gauge(
            "recsys_lost_users", "Users whose events were dropped while waiting for Redis", registry=own, multiprocess_mode="sum"
        )
        self.exposures_dropped = Gauge(
            "recsys_exposures_dropped", "Exposures that could not be written", registry=own, multiprocess_mode="sum"
        )

    def render(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
