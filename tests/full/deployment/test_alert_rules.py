"""Each alert fires when it must, resolves afterwards and stays silent otherwise, as Prometheus itself evaluates it. Each leads to its
section of the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local_stack.services import ROOT

pytestmark = pytest.mark.full

RULES = ROOT / "infra" / "compose" / "rules.yaml"
WELL = {
    'up{job="api", instance="a"}': "1x180",
    'up{job="prefect", instance="p"}': "1x180",
    'recsys_requests_total{instance="a", route="/", status="200"}': "0+100x180",
    'recsys_request_seconds_bucket{instance="a", le="0.01"}': "0+100x180",
    'recsys_request_seconds_bucket{instance="a", le="1.0"}': "0+100x180",
    'recsys_request_seconds_bucket{instance="a", le="+Inf"}': "0+100x180",
    'recsys_redis_up{instance="a"}': "1x180",
    'recsys_refused_versions{instance="a"}': "0x180",
    'recsys_promotion{instance="a"}': "3x180",
    'recsys_promotion_log_read_timestamp_seconds{instance="a"}': "0+60x180",
    'recsys_promotion_looks_failed_total{instance="a"}': "0x180",
    'recsys_store_denied{instance="a"}': "0x180",
    'recsys_settings_file_refused{instance="a", file="rules"}': "0x180",
    'recsys_background_failures_total{instance="a", thread="exposures"}': "0x180",
    'recsys_background_failures_total{instance="a", thread="following"}': "0+1x180",
    'recsys_lost_users_total{instance="a"}': "0x180",
    'recsys_exposures_dropped_total{instance="a"}': "0x180",
    'up{job="exporter", instance="e"}': "1x180",
    'recsys_exporter_source_up{source="runs"}': "1x180",
    'recsys_champion_promoted_timestamp_seconds{model="m"}': "0x180",
    'recsys_drift_detected{dataset="d"}': "0x180",
    'recsys_drift_looked_timestamp_seconds{dataset="d"}': "0x180",
    'recsys_flow_runs_ended_day{state="failed"}': "1x180",
    'recsys_flow_runs_ended_day{state="crashed"}': "0x180",
    'recsys_flow_runs_ended_day{state="completed"}': "5x180",
    "recsys_flow_runs_late": "0x180",
    "recsys_gpu_spend_month_usd": "20x180",
    'recsys_disk_free_ratio{folder="f"}': "0.5x180",
    'recsys_certificate_ends_timestamp_seconds{host="h"}': f"{90 * 86_400}x180",
    'recsys_backup_timestamp_seconds{kind="redis"}': "0x180",
}
DAY = 86_400
FIRES = {
    "ApiDown": {'up{job="api", instance="a"}': "0x60 1x120"},
    "PrefectDown": {'up{job="prefect", instance="p"}': "0x60 1x120"},
    "ApiErrors": {'recsys_requests_total{instance="a", route="/", status="503"}': "0+5x60 300x120"},
    "ApiSlow": {'recsys_request_seconds_bucket{instance="a", le="0.01"}': "0+50x60 3050+100x120"},
    "RedisDown": {'recsys_redis_up{instance="a"}': "0x60 1x120"},
    "VersionRefused": {'recsys_refused_versions{instance="a"}': "1x60 0x120"},
    "ReplicasDiffer": {'recsys_promotion{instance="b"}': "2x60 3x120"},
    "PromotionLogUnread": {'recsys_promotion_log_read_timestamp_seconds{instance="a"}': "60x60 3660+60x120"},
    "StoreDenied": {'recsys_store_denied{instance="a"}': "1x60 0x120"},
    "VersionUnread": {'recsys_promotion_looks_failed_total{instance="a"}': "0+2x60 120x120"},
    "SettingsFileRefused": {'recsys_settings_file_refused{instance="a", file="rules"}': "1x60 0x120"},
    "ThreadFails": {'recsys_background_failures_total{instance="a", thread="exposures"}': "0+2x60 120x120"},
    "EventsLost": {'recsys_lost_users_total{instance="a"}': "0x25 7x155"},
    "ExposuresLost": {'recsys_exposures_dropped_total{instance="a"}': "0x25 7x155"},
    "ExporterDown": {'up{job="exporter", instance="e"}': "0x60 1x120"},
    "SourceUnread": {'recsys_exporter_source_up{source="runs"}': "0x60 1x120"},
    "ChampionStale": {'recsys_champion_promoted_timestamp_seconds{model="m"}': f"{-31 * DAY}x60 3600x120"},
    "DriftDetected": {'recsys_drift_detected{dataset="d"}': "1x60 0x120"},
    "DriftUnwatched": {'recsys_drift_looked_timestamp_seconds{dataset="d"}': f"{-4 * DAY}x60 3600x120"},
    "FlowsFail": {'recsys_flow_runs_ended_day{state="crashed"}': "6x60 0x120"},
    "RunsLate": {"recsys_flow_runs_late": "2x60 0x120"},
    "GpuSpend": {"recsys_gpu_spend_month_usd": "120x60 0x120"},
    "DiskFull": {'recsys_disk_free_ratio{folder="f"}': "0.05x60 0.5x120"},
    "CertificateEnds": {'recsys_certificate_ends_timestamp_seconds{host="h"}': f"{9 * DAY}x60 {90 * DAY}x120"},
    "BackupOld": {'recsys_backup_timestamp_seconds{kind="redis"}': f"{-3 * DAY}x60 3600x120"},
}
"""For each alert, series of an hour in which it must fire, and two hours in which all is well again."""


def case(name: str, series: dict[str, str], fires: str | None) -> dict[str, Any]:
    expected = [{"alertname": alert, "eval_time": "30m", "exp_alerts": []} for alert in FIRES if alert != fires]
    expected += [{"alertname": alert, "eval_time": "2h50m", "exp_alerts": []} for alert in FIRES]
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": expected,
    }


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    assert found, "apt-get install -y --no-install-recommends prometheus"
    return subprocess.run([found, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_the_rules_are_valid_and_every_alert_is_tested() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in rules if "alert" in rule} == set(FIRES)


def test_every_alert_leads_to_its_section_of_the_runbook() -> None:
    sections = set(re.findall(r"(?m)^### (\w+)$", (ROOT / "docs" / "operations" / "runbook.md").read_text()))
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in (rule for rule in group["rules"] if "alert" in rule):
            assert rule["alert"] in sections, f"the runbook has no section {rule['alert']}"
            assert rule["annotations"]["runbook_url"] == f"docs/operations/runbook.md#{rule['alert'].lower()}"


def test_no_alert_fires_while_all_is_well(tmp_path: Path) -> None:
    path = tmp_path / "well.json"
    path.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [case("well", WELL, None)]}))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", FIRES)
def test_an_alert_fires_and_resolves_and_no_other_alert_does(alert: str, tmp_path: Path) -> None:
    path = tmp_path / "ill.json"
    given = case(alert, WELL | FIRES[alert], alert)
    path.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [given]}))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, f"another alert fires, or it does not resolve: {done.stdout}{done.stderr}"
    given["alert_rule_test"] = [{"alertname": alert, "eval_time": "30m", "exp_alerts": []}]
    path.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [given]}))
    done = promtool("test", "rules", str(path))
    assert done.returncode != 0 and f'alertname="{alert}"' in done.stdout + done.stderr, "it does not fire"
