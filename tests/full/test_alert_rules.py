"""Each alert fires when it must and stays silent otherwise, as Prometheus itself evaluates it."""

from __future__ import annotations

import json
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
    'up{job="api", instance="a"}': "1x60",
    'up{job="prefect", instance="p"}': "1x60",
    'recsys_requests_total{instance="a", route="/", status="200"}': "0+100x60",
    'recsys_request_seconds_bucket{instance="a", le="0.01"}': "0+100x60",
    'recsys_request_seconds_bucket{instance="a", le="1.0"}': "0+100x60",
    'recsys_request_seconds_bucket{instance="a", le="+Inf"}': "0+100x60",
    'recsys_redis_up{instance="a"}': "1x60",
    'recsys_refused_versions{instance="a"}': "0x60",
    'recsys_promotion{instance="a"}': "3x60",
    'recsys_promotion_log_read_timestamp_seconds{instance="a"}': "0+60x60",
    'recsys_promotion_looks_failed_total{instance="a"}': "0x60",
    'recsys_store_denied{instance="a"}': "0x60",
    'recsys_settings_file_refused{instance="a", file="rules"}': "0x60",
    'recsys_background_failures_total{instance="a", thread="exposures"}': "0x60",
    'recsys_background_failures_total{instance="a", thread="following"}': "0+1x60",
    'recsys_lost_users_total{instance="a"}': "0x60",
    'recsys_exposures_dropped_total{instance="a"}': "0x60",
}
FIRES = {
    "ApiDown": {'up{job="api", instance="a"}': "0x60"},
    "PrefectDown": {'up{job="prefect", instance="p"}': "0x60"},
    "ApiErrors": {'recsys_requests_total{instance="a", route="/", status="503"}': "0+5x60"},
    "ApiSlow": {'recsys_request_seconds_bucket{instance="a", le="0.01"}': "0+50x60"},
    "RedisDown": {'recsys_redis_up{instance="a"}': "0x60"},
    "VersionRefused": {'recsys_refused_versions{instance="a"}': "1x60"},
    "ReplicasDiffer": {'recsys_promotion{instance="b"}': "2x60"},
    "PromotionLogUnread": {'recsys_promotion_log_read_timestamp_seconds{instance="a"}': "60x60"},
    "StoreDenied": {'recsys_store_denied{instance="a"}': "1x60"},
    "VersionUnread": {'recsys_promotion_looks_failed_total{instance="a"}': "0+2x60"},
    "SettingsFileRefused": {'recsys_settings_file_refused{instance="a", file="rules"}': "1x60"},
    "ThreadFails": {'recsys_background_failures_total{instance="a", thread="exposures"}': "0+2x60"},
    "EventsLost": {'recsys_lost_users_total{instance="a"}': "0x25 7x40"},
    "ExposuresLost": {'recsys_exposures_dropped_total{instance="a"}': "0x25 7x40"},
}


def case(name: str, series: dict[str, str], fires: str | None) -> dict[str, Any]:
    expected = [{"alertname": alert, "eval_time": "30m", "exp_alerts": []} for alert in FIRES if alert != fires]
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


def test_no_alert_fires_while_all_is_well(tmp_path: Path) -> None:
    path = tmp_path / "well.json"
    path.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [case("well", WELL, None)]}))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", FIRES)
def test_an_alert_fires_and_no_other_alert_does(alert: str, tmp_path: Path) -> None:
    path = tmp_path / "ill.json"
    given = case(alert, WELL | FIRES[alert], alert)
    path.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [given]}))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, f"another alert fires: {done.stdout}{done.stderr}"
    given["alert_rule_test"] = [{"alertname": alert, "eval_time": "30m", "exp_alerts": []}]
    path.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [given]}))
    done = promtool("test", "rules", str(path))
    assert done.returncode != 0 and f'alertname="{alert}"' in done.stdout + done.stderr, "it does not fire"
