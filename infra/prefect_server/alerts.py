"""Automations of the Prefect server: what is reported to whom, which runs count as dead, which of them resume, and what starts a
retraining.

They run on the server. They can therefore report a run whose process has died, and a failing webhook does not affect any run.
An existing automation of the same name is updated, but setup leaves it switched off if people have switched it off.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from configs.errors import DeploymentMissingError
from infra.prefect_server.environment import AlertSettings
from infra.prefect_server.upkeep import ALIVE, PINGED, SILENT, UNSTARTED, ZOMBIE, lost_runs, ping_daily, start_in_time

if TYPE_CHECKING:
    from prefect.automations import Automation
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

__all__ = [
    "ALERTS",
    "CHAMPION_AGES",
    "DRIFT_DETECTED",
    "DRIFT_WITHOUT_DATA",
    "RESUME",
    "RESUMED",
    "RETRAIN",
    "RETRAINING_DUE",
    "apply_automation",
    "due_automation",
    "model_resource",
    "name_of_old",
    "remove_automation",
    "retrain_when_due",
    "section_of",
    "wanted_automations",
]

DRIFT_DETECTED = "recsys.drift.detected"
DRIFT_WITHOUT_DATA = "recsys.drift.without_data"
"""Drift that training again cannot help with: a refused delivery, a feed that is silent or of another volume, slow drift that the
renewed champions follow, or a dataset that the champion was trained on. It informs people, but starts no retraining."""
RETRAINING_DUE = "recsys.retraining.due"
"""Monitoring's answer that the model should be trained again. An automation starts the retraining."""
CHAMPION_AGES = "recsys.freshness.ends"
"""The champion is about to break the promised maximum age, or has broken it."""
WATCHED: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.tag.watched", "prefect.resource.role": "tag"}
RUN = "{{ flow.name }} {{ flow_run.name }}"
LINK = "{{ flow_run|ui_url }}"
PINGS = ("@everyone", "@here", "@channel", "@all", "<@", "<!", "](")
"""What makes a chat notify people, or hides an address behind a text. Messages quote the text of others, so an invisible character breaks these."""
RESUMED = "recsys: a crashed run resumes once"
RESUMABLE: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.tag.resumes", "prefect.resource.role": "tag"}
ONCE = timedelta(minutes=1)
"""A crash that is reported twice in this time starts the deployment once. A run that proves to be alive may crash soon after."""
RESUME = "resume/resume"
RETRAIN = "retrain/retrain"
FAILED, LATE, DECIDED, DRIFTED, ROLLED, AGES, LIVES = (
    "recsys: a run failed",
    "recsys: a run is late",
    "recsys: a decision on a version",
    "recsys: drift",
    "recsys: a rollout",
    "recsys: a champion gets too old",
    "recsys: the daily message",
)
ALERTS = (FAILED, LATE, ZOMBIE, SILENT, UNSTARTED, DECIDED, DRIFTED, ROLLED, AGES, LIVES, PINGED, RESUMED)


def quoted(expression: str) -> str:
    """Return a template of what the expression gives, in which nothing notifies anybody or hides an address."""
    broken = "".join(f"|replace('{ping}', '{ping[0]}\N{WORD JOINER}{ping[1:]}')" for ping in PINGS)
    return f"{{{{ {expression}{broken} }}}}"


def section_of(alert: str) -> str:
    """Return the section of the runbook that is about an automation, as the address of a page names it."""
    return alert.removeprefix("recsys: ").replace(" ", "-")


def resume_once(deployment: UUID, heartbeat_s: int) -> AutomationCore:
    """Return the automation that has a crashed run started again if its deployment has the tag `resumes`.

    Args:
        deployment: The deployment of the flow `resume`, which starts it once only.
        heartbeat_s: Seconds between two heartbeats of a run.
    """
    from prefect.events.actions import RunDeployment
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    return AutomationCore(
        name=RESUMED,
        description="A run that loses its process or machine is started again; a training goes on from its last epoch. A second crash is final.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(RESUMABLE),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=ONCE,
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=deployment,
                parameters={"run": {"__prefect_kind": "jinja", "template": "{{ flow_run.id }}"}, "heartbeat_s": heartbeat_s},
                job_variables=None,
            )
        ],
    )


def wanted_automations(
    alerts: AlertSettings, blocks: Sequence[UUID], resume: UUID, switch: UUID | None = None
) -> list[AutomationCore]:
    """Return the automations that the server must have.

    Args:
        alerts: Settings of the alerts.
        blocks: Notification blocks. Without any, the automations that notify people are left out.
        resume: The deployment of the flow `resume`.
        switch: The block with the address of a dead man's switch, if there is one.
    """
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    always = [*lost_runs(alerts.heartbeat_s * alerts.missed_heartbeats), start_in_time(alerts.start_s)]
    if alerts.resume_crashed:
        always.append(resume_once(resume, alerts.heartbeat_s))
    if switch is not None:
        always.append(ping_daily(switch))
    if not blocks:
        return always

    def told(name: str, description: str, expect: set[str], subject: str, body: str, *, watched: bool = False) -> AutomationCore:
        said = f"{body}\nWhat to do: {alerts.runbook}#{section_of(name)}"
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
            actions=[SendNotification(block_document_id=block, subject=subject, body=said) for block in blocks],
        )

    message = quoted("(flow_run.state.message or '')|truncate(1200)")
    reasons = quoted("event.payload.reasons|join(' ')|truncate(1200)")
    resumed = (
        " A run of data, monitoring or training that crashed for the first time is started again by itself."
        if alerts.resume_crashed
        else ""
    )
    return [
        *always,
        told(
            FAILED,
            "A run failed, timed out or crashed. The parent run reports its subflows.",
            {"prefect.flow-run.Failed", "prefect.flow-run.TimedOut", "prefect.flow-run.Crashed"},
            f"{RUN} {{{{ flow_run.state.name|lower }}}}",
            f"{message}\nThe run's page shows the log. If the run failed, the "
            f"artifact `failure` explains what to do. Retry on that page runs it again.{resumed}\n{LINK}",
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
            quoted("event.payload.subject"),
            f"{quoted('event.payload.body')}\n{LINK}",
        ),
        told(
            ROLLED,
            "A new champion was returned to the old version, serves more users or all, or waits for approval.",
            {"recsys.rollout.*"},
            quoted("event.payload.subject"),
            f"{quoted('event.payload.body')}\n{LINK}",
        ),
        told(
            DRIFTED,
            "New events have drifted away from the data that the champion was trained on, or the feed needs to be looked at.",
            {DRIFT_DETECTED, DRIFT_WITHOUT_DATA},
            "{{ event.resource.name }}: {{ event.payload.dataset }} has drifted",
            f"{reasons}\n{{{{ event.payload.rows }}}} events, compared with the champion "
            f"{{{{ event.payload.champion or 'none' }}}}.\n{LINK}",
        ),
        told(
            AGES,
            "The champion will soon be older than promised, or is already.",
            {CHAMPION_AGES},
            "{{ event.resource.name }}: the champion gets too old",
            f"{quoted('event.payload.message|truncate(1200)')}\n{LINK}",
        ),
        told(
            LIVES,
            "The daily housekeeping has run, so schedules, worker, server and messages work.",
            {ALIVE},
            quoted("event.payload.subject"),
            f"{quoted('event.payload.body')}\n{LINK}",
        ),
    ]


def apply_automation(client: SyncPrefectClient, wanted: AutomationCore) -> str:
    """Create or update the server's automation of that name. Returns `created`, `updated` or `unchanged`."""
    found = client.read_automations_by_name(name=wanted.name)
    if not found:
        client.create_automation(wanted)
        return "created"
    current, *others = found
    for other in others:  # two concurrent first set-ups have both created it
        client.delete_automation(other.id)
    kept = wanted.model_copy(update={"enabled": current.enabled})
    if current.model_dump(exclude={"id"}) != kept.model_dump():
        client.update_automation(current.id, kept)
        return "updated"
    return "updated: it was there twice" if others else "unchanged"


def remove_automation(client: SyncPrefectClient, name: str) -> bool:
    """Remove the automation of that name. Returns whether there was one."""
    found = client.read_automations_by_name(name=name)
    for automation in found:
        client.delete_automation(automation.id)
    return bool(found)


def model_resource(model_name: str) -> dict[str, str]:
    """Return the Prefect resource that a model's events refer to."""
    return {"prefect.resource.id": f"recsys.model.{model_name}", "prefect.resource.name": model_name}


def due_automation(model_name: str) -> str:
    """Return the name of the automation that retrains a model when it is due."""
    return f"retrain {model_name} when due"


def name_of_old(model_name: str) -> str:
    """Return the name that the automation had when only drift started a retraining."""
    return f"retrain {model_name} on drift"


def retrain_when_due(
    model_name: str, deployment: str = RETRAIN, parameters: dict[str, Any] | None = None, *, enabled: bool = True
) -> Automation:
    """Create or update the automation `retrain <model_name> when due`.

    A RETRAINING_DUE event of the model then starts a run of the deployment. The function is idempotent: calling it again
    changes nothing and never creates a second automation.

    Args:
        model_name: The model whose monitoring starts the run.
        deployment: The deployment to run, as `flow/name`.
        parameters: Parameters of the run.
        enabled: Whether the automation is switched on.

    Raises:
        DeploymentMissingError: The server has no such deployment.
    """
    from prefect.automations import Automation
    from prefect.client.orchestration import get_client
    from prefect.events.actions import RunDeployment
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.exceptions import ObjectNotFound

    name = due_automation(model_name)
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except ObjectNotFound:
            raise DeploymentMissingError(
                f"The Prefect server has no deployment {deployment}, so monitoring of {model_name} cannot start it. "
                "`prefect --no-prompt deploy --all` creates one for each flow."
            ) from None
        known = client.read_automations_by_name(name)
    wanted = Automation(
        name=name,
        description=f"Starts {deployment} when monitoring finds that a retraining of {model_name} is due.",
        enabled=enabled,
        trigger=EventTrigger(
            expect={RETRAINING_DUE},
            match={"prefect.resource.id": model_resource(model_name)["prefect.resource.id"]},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[RunDeployment(source="selected", deployment_id=found.id, parameters=parameters, job_variables=None)],
    )
    if not known:
        wanted.create()
        return wanted
    wanted.id = known[0].id
    if known[0].model_dump(exclude={"id"}) != wanted.model_dump(exclude={"id"}):
        wanted.update()
    for extra in known[1:]:  # two concurrent first set-ups have both created it
        Automation(**extra.model_dump()).delete()
    return wanted
