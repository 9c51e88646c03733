"""An alert arrives, and so does its end: the exporter, Prometheus with the shipped rules, Alertmanager as compose starts it, a webhook."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from infra.backup.kinds import STAMP, Backup
from infra.backup.sealed import Seal
from infra.exporter.facts import Kept
from infra.exporter.page import Facts
from infra.storage.local import LocalStore
from tests.full.deployment.alerting import START, alerting, program
from tests.ports import reserved_port

pytestmark = pytest.mark.full


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
    with ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(exporter.shutdown)
        alerts = stack.enter_context(alerting(tmp_path, {"exporter:9400": exporter.server_port}, ["exporter"]))
        firing = alerts.arrived("firing")
        assert firing["labels"]["alertname"] == "BackupOld" and firing["labels"]["kind"] == "redis"
        assert firing["annotations"]["summary"].startswith("the last backup of the redis was made 5d")
        assert firing["annotations"]["runbook_url"].endswith("runbook.md#backupold")
        backup.done("redis", f"{datetime.now(UTC):{STAMP}}", "{}")
        assert alerts.arrived("resolved")["labels"] == firing["labels"]
