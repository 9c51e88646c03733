"""Prometheus with the rules that ship, Alertmanager as compose starts it, and a webhook that it tells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from infra.local_stack.services import ROOT
from tests.doubles.live_prefect import Webhook, wait_until, webhook
from tests.ports import reserved_port

__all__ = ["COMPOSE", "START", "Alerting", "alerting", "program"]

COMPOSE = ROOT / "infra" / "compose"
START = COMPOSE / "alertmanager" / "start"
PATIENCE_S = 600


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(f"prometheus-{name}")
    assert found, "apt-get install -y --no-install-recommends prometheus prometheus-alertmanager"
    return found


@dataclass
class Alerting:
    """Running alerts."""

    folder: Path
    prometheus: str  # its address
    told: Webhook

    def targets(self) -> dict[str, str]:
        """Return the health of each target, `up`, `down` or `unknown`, by its address."""
        found = httpx.get(f"{self.prometheus}/api/v1/targets", timeout=60).raise_for_status().json()["data"]["activeTargets"]
        return {each["labels"]["instance"]: each["health"] for each in found}

    def arrived(self, status: str, wanted: Callable[[dict[str, Any]], bool] = lambda alert: True) -> dict[str, Any]:
        """Return the first alert with this status that arrives."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            for body in self.told.messages:
                for alert in body.get("alerts", ()):
                    if alert["status"] == status and wanted(alert):
                        found: dict[str, Any] = alert
                        return found
            time.sleep(0.2)
        raise AssertionError(f"no alert arrived that is {status}: {(self.folder / 'log').read_text()[-2000:]}")


@contextmanager
def alerting(folder: Path, ports: Mapping[str, int], jobs: Sequence[str], secrets: Path | None = None) -> Iterator[Alerting]:
    """Watch the services at `ports` of this machine. Alerts fire after a second.

    Args:
        folder: For everything that is written.
        ports: The place of a service in compose, such as `exporter:9400`, and its port here.
        jobs: Jobs of Prometheus that are wanted. The others' services do not run.
        secrets: Folder of the secrets.
    """
    own = {"alertmanager:9093": reserved_port(), "127.0.0.1:9090": reserved_port()}
    rules = re.sub(r"(?m)^( +for: ).*$", r"\g<1>1s", (COMPOSE / "rules.yaml").read_text())
    (folder / "rules.yaml").write_text(rules)
    config: dict[str, Any] = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in jobs]
    written = yaml.safe_dump(config).replace("/run/secrets", str(secrets))
    for name, port in {**ports, **own}.items():
        written = written.replace(name, f"127.0.0.1:{port}")
    (folder / "prometheus.yaml").write_text(written)
    with ExitStack() as stack:
        told = stack.enter_context(webhook())
        (folder / "receiver").write_text(told.url)
        alertmanager = [program("alertmanager"), f"--config.file={folder}/alertmanager.yaml", f"--storage.path={folder}/am"]
        alertmanager += [f"--web.listen-address=127.0.0.1:{own['alertmanager:9093']}", "--cluster.listen-address="]
        start = ["sh", str(START), str(folder / "receiver"), str(folder / "alertmanager.yaml"), *alertmanager]
        stack.enter_context(_running(start, folder, ALERT_GROUP_WAIT="1s", ALERT_GROUP_INTERVAL="2s"))
        address = f"127.0.0.1:{own['127.0.0.1:9090']}"
        prometheus = [program("prometheus"), f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
        stack.enter_context(_running([*prometheus, f"--web.listen-address={address}"], folder))
        wait_until(lambda: _ready(address), PATIENCE_S, "Prometheus")
        yield Alerting(folder, f"http://{address}", told)


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready", timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def _running(command: list[str], folder: Path, **environment: str) -> Iterator[None]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=os.environ | environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)
