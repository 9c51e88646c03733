"""Automations for what nobody looks at: a run that is lost, a run whose worker is lost before it starts, and a server that has fallen
silent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from infra.prefect_server.environment import CPU_POOL

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

__all__ = [
    "ALIVE",
    "NOT_STARTED",
    "NO_HEARTBEAT",
    "PINGED",
    "SILENT",
    "UNSTARTED",
    "ZOMBIE",
    "lost_runs",
    "ping_daily",
    "start_in_time",
]

ALIVE = "recsys.alive"
"""The daily housekeeping has run. Its message shows that people would be told, and its absence alarms whoever waits for it."""
NOT_STARTED = "Not started within"
"""How the message of a run begins that was crashed because no process has begun to execute it."""
NO_HEARTBEAT = "No heartbeat for"
"""How the message of a run begins that was crashed because its heartbeats stopped. Its process may live: the server may have been
away, or the clock of the run's machine, which dates the heartbeats, may be slow."""
ZOMBIE, SILENT, UNSTARTED, PINGED = (
    "recsys: a run without heartbeats is crashed",
    "recsys: a run that never sends a heartbeat is crashed",
    "recsys: a run that does not start is crashed",
    "recsys: the dead man's switch",
)
OF_CPU_POOL: dict[str, str | list[str]] = {"prefect.resource.role": "work-pool", "prefect.resource.name": CPU_POOL}


def lost_runs(window_s: int) -> list[AutomationCore]:
    """Return the automations that have a run crashed whose process or machine is lost.

    The first watches every run that has sent a heartbeat. The second watches runs that may be lost before their first one arrives: the
    server itself notes that they run. It looks only at runs of the CPU pool, to which setup gives heartbeats; others need not send any.

    Args:
        window_s: Seconds without a heartbeat after which a run counts as lost.
    """
    message = f"{NO_HEARTBEAT} {window_s} s: the process or the machine is gone."
    lost = f"A run whose last heartbeat is {window_s} s old has lost its process or machine."
    silent = f"A run that began {window_s} s ago and has sent no heartbeat was lost at once."
    return [
        _crash_unless_heard(ZOMBIE, lost, {"prefect.flow-run.heartbeat"}, {}, window_s, message),
        _crash_unless_heard(SILENT, silent, {"prefect.flow-run.Running"}, OF_CPU_POOL, window_s, message),
    ]


def start_in_time(start_s: int) -> AutomationCore:
    """Return the automation that has a run crashed whose worker has died between taking it and starting it.

    Such a run stays Pending. Prefect never looks at it again, and it counts against the limits of its queue and pool for ever. The GPU
    pool is left out: its worker watches its own pods, whose start may wait for a free machine.
    """
    description = f"A run that a worker took {start_s} s ago and that has not started has lost its worker."
    message = f"{NOT_STARTED} {start_s} s: the worker that took the run is gone."
    after = {"prefect.flow-run.Pending", "prefect.flow-run.Submitting"}
    return _crash_unless_heard(UNSTARTED, description, after, OF_CPU_POOL, start_s, message)


def _crash_unless_heard(
    name: str, description: str, after: set[str], related: dict[str, str | list[str]], within_s: int, message: str
) -> AutomationCore:
    """Return an automation that has a run crashed if one of some events of it is followed by no other in time."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(
            after=after,
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(related),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=within_s),
        ),
        actions=[ChangeFlowRunState(name=None, force=False, state=StateType.CRASHED, message=message)],
    )


def ping_daily(switch: UUID) -> AutomationCore:
    """Return the automation that pings the address of a dead man's switch when the daily housekeeping has run.

    Args:
        switch: The block with the address. Whoever is behind it raises an alarm if no ping comes for a day.
    """
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=PINGED,
        description="Pings an outside monitor each day. If the ping stays away, the monitor alarms people.",
        trigger=EventTrigger(expect={ALIVE}, posture=Posture.Reactive, threshold=1, within=timedelta(0)),
        actions=[CallWebhook(block_document_id=switch, payload='{"text": {{ event.payload.body|tojson }}}')],
    )
