"""The metrics of `GET /metrics`, and the alerts that use them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics import MetricWrapperBase

from infra.exporter.page import MEANINGS
from serving.metrics import PROCESS, Metrics
from website.reference.markdown import code, prose, table

__all__ = ["alert_rules", "metric_names", "page"]

RULES = Path(__file__).parents[2] / "infra" / "compose" / "rules.yaml"
INTRODUCTION = """# Metrics

`GET /metrics` of `recsys serve` answers in the text format of Prometheus. The metrics of all workers of a server are added up. A
version appears as its role (`champion`, `beside` or `former`), and `recsys_model_info` says which version has which role, so that no
label grows with time.
"""
EXPORTER = """## Of the exporter

`python -m infra.exporter` serves what no server knows about itself. All of these are gauges.
"""


def page() -> str:
    """Return the page of metrics."""
    alerts = alert_rules()
    rows = []
    for metric in _metrics():
        rows.append(
            [
                code(_full_name(metric)),
                str(metric._type),
                ", ".join(map(code, metric._labelnames)),
                prose(metric._documentation) + ".",
                _links(metric._name, alerts),
            ]
        )
    rows += [
        [
            code(name + ("_total" if name.endswith("cpu_seconds") else "")),
            "gauge",
            "",
            "Of the process, by Prometheus' own collector.",
            "",
        ]
        for name in PROCESS
    ]
    others = [[code(name), prose(meaning) + ".", _links(name, alerts)] for name, meaning in MEANINGS.items()]
    return (
        f"{INTRODUCTION}\n{table(['metric', 'type', 'labels', 'meaning', 'alerts'], rows)}\n\n"
        f"{EXPORTER}\n{table(['metric', 'meaning', 'alerts'], others)}\n"
    )


def metric_names() -> list[str]:
    """Return the names of all metrics, as /metrics writes them."""
    return [_full_name(metric) for metric in _metrics()]


def alert_rules() -> list[dict[str, Any]]:
    """Return the alert rules that the project ships for Prometheus."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def _links(name: str, alerts: list[dict[str, Any]]) -> str:
    """Return links to the alerts that use a metric."""
    using = [rule["alert"] for rule in alerts if re.search(rf"\b{name}(_total|_bucket)?\b", rule["expr"])]
    return ", ".join(f"[{alert}](../operations/runbook.md#{alert.lower()})" for alert in using)


def _metrics() -> list[MetricWrapperBase]:
    return [value for value in vars(Metrics()).values() if isinstance(value, MetricWrapperBase)]


def _full_name(metric: MetricWrapperBase) -> str:
    name: str = metric._name
    return name + ("_total" if metric._type == "counter" else "")
