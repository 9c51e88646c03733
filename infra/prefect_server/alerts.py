"""Automations of the Prefect server: which events are reported to whom, and which runs count as dead.

They run on the server. They can therefore report a run whose process has died, and a failing webhook does not affect any run.
An existing automation of the same name is updated, but it stays switched off if people have switched it off.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from infra.prefect_server.automations import DRIFT_DETECTED
from infra.prefect_server.environment import AlertSettings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

__all__ = ["ALERTS", "apply_automation", "remove_automation", "wanted_automations"]

WATCHED: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.tag.watched", "prefect.resource.role": "tag"}
RUN = "{{ flow.name }} {{ flow_run.name }}"
LINK = "{{ flow_run|ui_url }}"
FAILED, LATE, ZOMBIE, DECIDED, DRIFTED = (
    "recsys: a run failed",
    "recsys: a run is late",
    "recsys: a run without heartbeats is crashed",
    "recsys: a decision on a version",
    "recsys: drift",
)
ALERTS = (FAILED, LATE, ZOMBIE, DECIDED, DRIFTED)


def wanted_automations(alerts: AlertSettings, blocks: Sequence[UUID]) -> list[AutomationCore]:
    """Return the automations that the server must have. Without a notification block, those that notify people are left out."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState, SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    window = alerts.heartbeat_s * alerts.missed_heartbeats
    zombie = AutomationCore(
        name=ZOMBIE,
        description=f"A run whose last heartbeat is {window} s old has lost its process or machine.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=window),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                force=False,
                state=StateType.CRASHED,
                message=f"No heartbeat for {window} s: the process or the machine is gone.",
            )
        ],
    )
    if not blocks:
        return [zombie]

    def told(name: str, description: str, expect: set[str], subject: str, body: str, *, watched: bool = False) -> AutomationCore:
        return AutomationCore(
            name=name,
            description=description,
            trigger=EventTrigger(
                expect=expect,
                match_related=ResourceSpecification(WATCHED if watched else {}),
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[SendNotification(block_document_id=block, subject=subject, body=body) for block in blocks],
        )

    return [
        zombie,
        told(
            FAILED,
            "A run failed, timed out or crashed. The parent run reports its subflows.",
            {"prefect.flow-run.Failed", "prefect.flow-run.TimedOut", "prefect.flow-run.Crashed"},
            f"{RUN} {{{{ flow_run.state.name|lower }}}}",
            f"{{{{ (flow_run.state.message or '')|truncate(1200) }}}}\nThe run's page shows the log. If the run failed, the "
            f"artifact `failure` explains what to do. Retry on that page runs it again.\n{LINK}",
            watched=True,
        ),
        told(
            LATE,
            "A run is due, but no worker has taken it.",
            {"prefect.flow-run.Late"},
            f"{RUN} is late",
            "It was due at {{ flow_run.expected_start_time }} and still waits. Is a worker of the work pool {{ work_pool.name }} "
            f"up, and does it have a free slot?\n{LINK}",
            watched=True,
        ),
        told(
            DECIDED,
            "A version was promoted, held, forced or rolled back, or it is waiting for approval.",
            {"recsys.gate.*", "recsys.champion.*"},
            "{{ event.payload.subject }}",
            f"{{{{ event.payload.body }}}}\n{LINK}",
        ),
        told(
            DRIFTED,
            "The newest events have drifted away from the data that the champion was trained on.",
            {DRIFT_DETECTED},
            "{{ event.resource.name }}: {{ event.payload.dataset }} has drifted",
            "{{ event.payload.reasons|join(' ')|truncate(1200) }}\n{{ event.payload.rows }} events, compared with the champion "
            f"{{{{ event.payload.champion or 'none' }}}}.\n{LINK}",
        ),
    ]


def apply_automation(client: SyncPrefectClient, wanted: AutomationCore) -> str:
    """Create or update the server's automation of that name. Returns `created`, `updated` or `unchanged`."""
    found = client.read_automations_by_name(name=wanted.name)
    if not found:
        client.create_automation(wanted)
        return "created"
    current = found[0]
    kept = wanted.model_copy(update={"enabled": current.enabled})
    if current.model_dump(exclude={"id"}) == kept.model_dump():
        return "unchanged"
    client.update_automation(current.id, kept)
    return "updated"


def remove_automation(client: SyncPrefectClient, name: str) -> bool:
    """Remove the automation of that name. Returns whether there was one."""
    found = client.read_automations_by_name(name=name)
    for automation in found:
        client.delete_automation(automation.id)
    return bool(found)
