"""An alert arrives, and so does its end: the exporter, Prometheus with the shipped rules, Alertmanager as compose starts it, a webhook."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from infra.backup.kinds import STAMP, Backup
from infra.backup.sealed import Seal
from infra.exporter.facts import Kept
from infra.exporter.page import Facts
from infra.local_stack.services import ROOT
from infra.storage.local import LocalStore
from tests.doubles.live_prefect import webhook
from tests.ports import reserved_port

pytestmark = pytest.mark.full
COMPOSE = ROOT / "infra" / "compose"
START = COMPOSE / "alertmanager" / "start"


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(f"prometheus-{name}")
    assert found, "apt-get install -y --no-install-recommends prometheus prometheus-alertmanager"
    return found


@contextmanager
def running(command: list[str], folder: Path, **environment: str) -> Iterator[None]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=os.environ | environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        ("https://discord.com/api/webhooks/1/planted", "discord_configs"),
        ("https://hooks.slack.com/services/T/B/planted", "slack_configs"),
        ("https://alerts.example.org/it's", "webhook_configs"),
        ("smtp=smtp.example.org:587\nfrom=a@example.org\nto=o@example.org\nuser=u\npassword=p\"it's: #\n", "email_configs"),
        ("", None),
    ],
)
def test_one_secret_chooses_the_receiver(secret: str, kind: str | None, tmp_path: Path) -> None:
    (tmp_path / "receiver").write_text(secret)
    written = tmp_path / "alertmanager.yaml"
    done = subprocess.run(
        ["sh", str(START), str(tmp_path / "receiver"), str(written), program("amtool"), "check-config", str(written)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planted" not in done.stdout + done.stderr and written.stat().st_mode & 0o077 == 0
    (receiver,) = yaml.safe_load(written.read_text())["receivers"]
    assert set(receiver) == {"name"} | ({kind} if kind else set())
    if kind == "email_configs":
        assert receiver[kind][0]["auth_password"] == "p\"it's: #"


def test_a_secret_that_is_no_receiver_is_refused_with_what_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "receiver").write_text("ops@example.org")
    done = subprocess.run(
        ["sh", str(START), str(tmp_path / "receiver"), str(tmp_path / "out"), "true"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "neither an address" in done.stderr


def test_an_alert_about_an_old_backup_arrives_and_its_end_arrives_too(tmp_path: Path) -> None:
    backup = Backup(LocalStore(tmp_path / "backups"), Seal())
    backup.done("redis", f"{datetime.now(UTC) - timedelta(days=5):{STAMP}}", "{}")
    for kind in ("store", "database"):
        backup.done(kind, f"{datetime.now(UTC):{STAMP}}", "{}")
    registry = CollectorRegistry()
    registry.register(Facts({"backups": Kept(backup.place)}, kept_s=0))
    exporter, thread = start_http_server(reserved_port(), "127.0.0.1", registry)
    ports = {"exporter:9400": exporter.server_port, "alertmanager:9093": reserved_port()}
    text = re.sub(r"(?m)^( +for: ).*$", r"\g<1>1s", (COMPOSE / "rules.yaml").read_text())
    (tmp_path / "rules.yaml").write_text(text)
    config: dict[str, Any] = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] == "exporter"]
    written = yaml.safe_dump(config)
    for name, port in ports.items():
        written = written.replace(name, f"127.0.0.1:{port}")
    (tmp_path / "prometheus.yaml").write_text(written)
    with ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(exporter.shutdown)
        told = stack.enter_context(webhook())
        (tmp_path / "receiver").write_text(told.url)
        alertmanager = [program("alertmanager"), f"--config.file={tmp_path}/alertmanager.yaml", f"--storage.path={tmp_path}/am"]
        alertmanager += [f"--web.listen-address=127.0.0.1:{ports['alertmanager:9093']}", "--cluster.listen-address="]
        start = ["sh", str(START), str(tmp_path / "receiver"), str(tmp_path / "alertmanager.yaml"), *alertmanager]
        stack.enter_context(running(start, tmp_path, ALERT_GROUP_WAIT="1s", ALERT_GROUP_INTERVAL="2s"))
        prometheus = [program("prometheus"), f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/data"]
        prometheus.append(f"--web.listen-address=127.0.0.1:{reserved_port()}")
        stack.enter_context(running(prometheus, tmp_path))

        firing = arrived(told, "firing", tmp_path)
        assert firing["labels"]["alertname"] == "BackupOld" and firing["labels"]["kind"] == "redis"
        assert firing["annotations"]["summary"].startswith("the last backup of the redis was made 5d")
        assert firing["annotations"]["runbook_url"].endswith("runbook.md#backupold")
        backup.done("redis", f"{datetime.now(UTC):{STAMP}}", "{}")
        assert arrived(told, "resolved", tmp_path)["labels"] == firing["labels"]


def arrived(told: Any, status: str, folder: Path) -> dict[str, Any]:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for body in told.messages:
            for alert in body.get("alerts", ()):
                if alert["status"] == status:
                    found: dict[str, Any] = alert
                    return found
        time.sleep(0.2)
    raise AssertionError(f"no alert arrived that is {status}: {(folder / 'log').read_text()[-2000:]}")
