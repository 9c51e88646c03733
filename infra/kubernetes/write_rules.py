"""Write components/monitoring/rules.yaml from infra/compose/rules.yaml. Run by `make kubernetes-rules`."""

from __future__ import annotations

from pathlib import Path

import yaml

COMPOSE = Path(__file__).parents[1] / "compose" / "rules.yaml"
WRITTEN = Path(__file__).parent / "components" / "monitoring" / "rules.yaml"
HEAD = "# infra/compose/rules.yaml as a PrometheusRule: `make kubernetes-rules` writes this file.\n"


def as_prometheus_rule(rules: str) -> str:
    """Return a file of rules for Prometheus as a resource of the Prometheus Operator."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "recsys"},
        "spec": yaml.safe_load(rules),
    }
    return HEAD + str(yaml.safe_dump(resource, sort_keys=False, width=10_000, allow_unicode=True))


if __name__ == "__main__":
    WRITTEN.write_text(as_prometheus_rule(COMPOSE.read_text(encoding="utf-8")), encoding="utf-8")
