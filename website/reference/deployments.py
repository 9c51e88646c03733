"""What `recsys setup` makes on a Prefect server: deployments, queues, automations and events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from infra.prefect_server.alerts import (
    ALERTS,
    CHAMPION_AGES,
    DRIFT_DETECTED,
    DRIFT_WITHOUT_DATA,
    RETRAINING_DUE,
    wanted_automations,
)
from infra.prefect_server.environment import AlertSettings
from website.reference.markdown import code, prose, table

__all__ = ["deployment_names", "page"]

FILE = Path(__file__).parents[2] / "prefect.yaml"
INTRODUCTION = """# Deployments

`recsys setup` creates these deployments on a Prefect server, with their work pools, queues, schedules and automations. `crons` changes
a schedule or adds one ([settings](settings.md#setup:crons)). Times are those of `timezone`, and UTC by default.
"""


def page() -> str:
    """Return the page of deployments."""
    rows = [
        [
            code(_name(one)),
            prose(one["description"]),
            ", ".join(code(schedule["cron"]) for schedule in one.get("schedules", ())) or "by hand",
            "/".join(filter(None, [one["work_pool"]["name"], one["work_pool"].get("work_queue_name")])),
            ", ".join(tag for tag in one["tags"] if tag != "recsys"),
        ]
        for one in _deployments()
    ]
    from uuid import UUID

    nobody = UUID(int=0)
    automations = [
        [prose(one.name), prose(one.description)] for one in wanted_automations(AlertSettings(), [nobody], nobody, nobody)
    ]
    events = [
        [code("recsys.gate.*"), "A version was held, or it waits for approval."],
        [code("recsys.champion.*"), "A version was promoted, forced or rolled back."],
        [code("recsys.rollout.*"), "A rollout advanced, completed or returned, or it waits for approval."],
        [code(DRIFT_DETECTED), "Drift that training again can help with. It tells people."],
        [code(DRIFT_WITHOUT_DATA), "Drift that training again cannot help with. It tells people."],
        [code(RETRAINING_DUE), "Monitoring's answer that the model should be trained again. It starts `retrain/retrain`."],
        [code(CHAMPION_AGES), "Less than a tenth of the champion's promised age is left."],
    ]
    return (
        f"{INTRODUCTION}\n{table(['deployment', 'what it does', 'schedule', 'pool/queue', 'tags'], rows)}\n\n"
        "A `watched` run is reported if it fails, crashes or is late. A run that `resumes` is started again after a crash, once; a\n"
        "training goes on from its last epoch. A `rented` deployment needs a RunPod key on the server.\n\n"
        f"## Automations\n\n{table(['automation', 'what it reports or does'], automations)}\n\n"
        f"## Events\n\n{table(['event', 'when'], events)}\n"
    )


def deployment_names() -> list[str]:
    """Return the names of all deployments, as flow/name."""
    return [_name(one) for one in _deployments()]


def automation_names() -> tuple[str, ...]:
    """Return the names of the automations that setup makes."""
    return ALERTS


def _deployments() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["deployments"]
    return found


def _name(deployment: dict[str, Any]) -> str:
    flow = deployment["entrypoint"].replace(".py:", ":").rsplit(":", 1)[-1].rsplit(".", 1)[-1]
    return f"{flow.replace('_', '-')}/{deployment['name']}"
