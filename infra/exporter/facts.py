"""The facts, each as a function that yields its samples. A source that does not answer costs only its own facts."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from infra.registry import ModelRegistry
from infra.storage import Store
from prefect_runpod import PodCost

__all__ = ["Certificate", "Champion", "Disks", "Drift", "Kept", "Runs", "Sample"]

COSTS = "gpu-cost-%"  # keys of the artifacts with a pod's cost record
PAGE = 200
LATE_S = 15 * 60
WINDOW = timedelta(hours=24)


@dataclass(frozen=True)
class Sample:
    """One figure."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Champion:
    """When the champion was promoted."""

    store: Store
    model_name: str

    def samples(self) -> Iterator[Sample]:
        newest = ModelRegistry(self.store).newest(self.model_name)
        if newest is not None:
            promoted = datetime.fromisoformat(newest.when).timestamp()
            yield Sample("recsys_champion_promoted_timestamp_seconds", promoted, (("model", self.model_name),))


@dataclass(frozen=True)
class Drift:
    """Whether the newest look at each dataset found drift, and when it was."""

    store: Store

    def samples(self) -> Iterator[Sample]:
        newest: dict[str, str] = {}
        for key in self.store.list("drift/"):
            if key.endswith(".json"):
                dataset, stamp = key.split("/")[1], key.rpartition("/")[2]
                if stamp > newest.get(dataset, "").rpartition("/")[2]:
                    newest[dataset] = key
        datasets = {key: dataset for dataset, key in newest.items()}
        for key, content in self.store.listed(datasets):
            dataset, verdict = datasets[key], json.loads(content).get("verdict")
            when = datetime.strptime(key.rpartition("/")[2], "%Y%m%dT%H%M%S%fZ.json").replace(tzinfo=UTC)
            yield Sample("recsys_drift_detected", float(verdict == "drifted"), (("dataset", dataset),))
            yield Sample("recsys_drift_looked_timestamp_seconds", when.timestamp(), (("dataset", dataset),))


@dataclass(frozen=True)
class Runs:
    """What the Prefect server knows about runs and the pods that they rented."""

    client: httpx.Client

    def samples(self) -> Iterator[Sample]:
        now = datetime.now(UTC)
        for kind in ("FAILED", "CRASHED", "COMPLETED"):
            ended = {"state": {"type": {"any_": [kind]}}, "end_time": {"after_": _iso(now - WINDOW)}}
            yield Sample("recsys_flow_runs_ended_day", self._count(ended), (("state", kind.lower()),))
        due = {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "expected_start_time": {"before_": _iso(now - timedelta(seconds=LATE_S))},
        }
        yield Sample("recsys_flow_runs_late", self._count(due))
        month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        yield Sample("recsys_gpu_spend_month_usd", self._spent_since(month))

    def _count(self, runs: dict[str, Any]) -> float:
        return float(self._ask("flow_runs/count", {"flow_runs": runs}))

    def _spent_since(self, when: datetime) -> float:
        spent: dict[str, float] = {}
        offset = 0
        while True:
            wanted = {"artifacts": {"key": {"like_": COSTS}}, "sort": "CREATED_DESC", "limit": PAGE, "offset": offset}
            page = self._ask("artifacts/filter", wanted)
            for artifact in page:
                data = artifact["data"]
                for row in json.loads(data) if isinstance(data, str) else data or ():
                    cost = PodCost.read(row)
                    if cost is not None and cost.ended >= when:
                        spent[cost.pod] = max(spent.get(cost.pod, 0.0), cost.usd)
            offset += PAGE
            if len(page) < PAGE or datetime.fromisoformat(page[-1]["created"]) < when:
                return sum(spent.values())

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        return self.client.post(path, json=body).raise_for_status().json()


@dataclass(frozen=True)
class Disks:
    """How full the disks of some folders are."""

    folders: tuple[Path, ...]

    def samples(self) -> Iterator[Sample]:
        for folder in self.folders:
            usage = shutil.disk_usage(folder)
            yield Sample("recsys_disk_free_ratio", usage.free / usage.total, (("folder", str(folder)),))


@dataclass(frozen=True)
class Certificate:
    """When the certificate of a server ends. It need not be signed by an authority that this machine knows."""

    host: str
    port: int = 443

    def samples(self) -> Iterator[Sample]:
        from cryptography import x509

        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((self.host, self.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=self.host) as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        ends = x509.load_der_x509_certificate(shown).not_valid_after_utc
        yield Sample("recsys_certificate_ends_timestamp_seconds", ends.timestamp(), (("host", self.host),))


@dataclass(frozen=True)
class Kept:
    """When each kind of backup was last made (`python -m infra.backup`)."""

    backups: Store

    def samples(self) -> Iterator[Sample]:
        for kind in ("store", "database", "redis"):
            newest = max((key.rpartition("/")[2] for key in self.backups.list(f"{kind}/done/")), default=None)
            when = 0.0  # 1970, so that what was never backed up counts as old
            if newest is not None:
                when = datetime.strptime(newest, "%Y%m%dT%H%M%S%fZ.json").replace(tzinfo=UTC).timestamp()
            yield Sample("recsys_backup_timestamp_seconds", when, (("kind", kind),))


def _iso(when: datetime) -> str:
    return when.isoformat()
