"""The daily housekeeping pings the address of a dead man's switch: a real Prefect server, from the run to the outside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.doubles.live_prefect import prefect_server, recsys, wait_until, webhook
from tests.full.prefect_server.prefect_process import ROOT, run

pytestmark = pytest.mark.full


def test_a_run_of_the_housekeeping_arrives_at_the_switch_and_as_a_message(tmp_path: Path) -> None:
    with prefect_server(tmp_path / "prefect") as server, webhook() as switch:
        server |= {"DEAD_MANS_SWITCH_URL": switch.url, "PYTHONPATH": str(ROOT)}
        done = recsys(["setup", "--set", "schedules=false"], server)
        assert done.returncode == 0 and "webhook/recsys-dead-mans-switch" in done.stdout, done.stderr
        code = (
            "from flows.upkeep import housekeeping; from configs.settings import ExportSettings, StoreSettings; "
            f"housekeeping(store=StoreSettings(url='file:{tmp_path}/store'), export=ExportSettings(to='{tmp_path}/exports'))"
        )
        ran = run([sys.executable, "-c", code], server, tmp_path)
        assert ran.returncode == 0, ran.stderr
        (ping,) = wait_until(lambda: switch.messages, 600, "the ping")
        assert "Schedules, worker, server and messages work" in str(ping)
        refused = recsys(["setup"], {**server, "DEAD_MANS_SWITCH_URL": "monitor.example.org"})
        assert refused.returncode == 1 and "DEAD_MANS_SWITCH_URL is not an address" in refused.stderr
