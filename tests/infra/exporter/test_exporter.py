"""The exporter tells Prometheus the facts, and goes on when one of its sources fails."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, generate_latest

from infra.backup.kinds import Backup
from infra.backup.sealed import Seal
from infra.exporter.facts import Certificate, Disks, Drift, Kept, Runs, Sample
from infra.exporter.page import Facts
from infra.storage.local import LocalStore


def values(samples: Iterator[Sample]) -> dict[tuple[str, ...], float]:
    return {(sample.name, *(value for _, value in sample.labels)): sample.value for sample in samples}


def test_the_newest_look_at_each_data_set_counts(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for key, verdict in {
        "drift/shop/v9/20260101T000000000000Z.json": "drifted",
        "drift/shop/v1/20260301T000000000000Z.json": "stable",
        "drift/films/v1/20260101T000000000000Z.json": "drifted",
    }.items():
        store.put_new(key, json.dumps({"verdict": verdict}).encode())
        store.put_new(key.replace(".json", ".html"), b"")
    found = values(Drift(store).samples())
    assert found["recsys_drift_detected", "shop"] == 0 and found["recsys_drift_detected", "films"] == 1
    assert found["recsys_drift_looked_timestamp_seconds", "shop"] == datetime(2026, 3, 1, tzinfo=UTC).timestamp()


def test_what_pods_cost_this_month_is_counted_once_for_each_pod_over_all_pages() -> None:
    now = datetime.now(UTC)

    def artifact(pod: str, usd: float, created: datetime) -> dict[str, Any]:
        row = {
            "pod": pod,
            "gpu": "g",
            "usd_per_hour": 1.0,
            "created": created.isoformat(),
            "seconds": 60.0,
            "usd": usd,
            "closed": True,
        }
        return {"data": json.dumps([{**row, "note": ""}]), "created": created.isoformat()}

    pages = [artifact(f"p{number}", 0.5, now) for number in range(200)] + [
        artifact("p0", 0.25, now),
        artifact("last-month", 99.0, now - timedelta(days=40)),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if request.url.path.endswith("count"):
            return httpx.Response(200, json=2 if "expected_start_time" in body["flow_runs"] else 7)
        return httpx.Response(200, json=pages[body["offset"] : body["offset"] + body["limit"]])

    client = httpx.Client(base_url="http://prefect/api/", transport=httpx.MockTransport(answer))
    found = values(Runs(client).samples())
    assert found["recsys_gpu_spend_month_usd",] == 100.0
    assert found["recsys_flow_runs_late",] == 2 and found["recsys_flow_runs_ended_day", "crashed"] == 7


def test_a_backup_is_as_old_as_its_newest_complete_one(tmp_path: Path) -> None:
    backup = Backup(LocalStore(tmp_path), Seal())
    backup.done("redis", "20260101T000000000000Z", "{}")
    backup.done("redis", "20260102T000000000000Z", "{}")
    backup.place.put_new("database/20260105T000000000000Z", b"broke off")
    found = values(Kept(backup.place).samples())
    assert found["recsys_backup_timestamp_seconds", "redis"] == datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    assert found["recsys_backup_timestamp_seconds", "database"] == 0, "what was never backed up must count as old"


def test_the_end_of_a_certificate_is_read_from_the_server_itself(tmp_path: Path) -> None:
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run([*made, "-days", "9", "-keyout", "key", "-out", "crt"], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            accepted, _ = listening.accept()
            context.wrap_socket(accepted, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        found = values(Certificate("127.0.0.1", listening.getsockname()[1]).samples())
        thread.join()
    left = found["recsys_certificate_ends_timestamp_seconds", "127.0.0.1"] - datetime.now(UTC).timestamp()
    assert 8.9 * 86_400 < left <= 9 * 86_400


def test_a_source_that_fails_hides_no_other_fact_and_is_named(tmp_path: Path) -> None:
    class Broken:
        def samples(self) -> Iterator[Sample]:
            yield Sample("recsys_never_told", 1.0)
            raise OSError("away")

    registry = CollectorRegistry()
    registry.register(Facts({"broken": Broken(), "disks": Disks((tmp_path,))}))
    text = generate_latest(registry).decode()
    assert 'recsys_exporter_source_up{source="broken"} 0.0' in text and 'recsys_exporter_source_up{source="disks"} 1.0' in text
    assert f'recsys_disk_free_ratio{{folder="{tmp_path}"}}' in text


def test_sources_are_asked_no_oftener_than_told_however_often_prometheus_asks(tmp_path: Path) -> None:
    asked = []

    class Counted:
        def samples(self) -> Iterator[Sample]:
            asked.append(1)
            yield Sample("recsys_disk_free_ratio", 1.0)

    registry = CollectorRegistry()
    registry.register(Facts({"counted": Counted()}))
    assert not asked, "starting must not wait for the sources"
    for _ in range(3):
        generate_latest(registry)
    assert len(asked) == 1
