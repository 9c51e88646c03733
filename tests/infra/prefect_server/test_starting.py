"""Which runs count as crashed because they do not start, by the code of Prefect's own server."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from infra.prefect_server.upkeep import start_in_time


def event(name: str, pool: str) -> ReceivedEvent:
    return ReceivedEvent.model_validate(
        {
            "id": uuid4(),
            "occurred": datetime.now(UTC),
            "event": f"prefect.flow-run.{name}",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{uuid4()}"},
            "related": [
                {
                    "prefect.resource.id": f"prefect.work-pool.{uuid4()}",
                    "prefect.resource.role": "work-pool",
                    "prefect.resource.name": pool,
                },
                {"prefect.resource.id": "prefect.tag.recsys", "prefect.resource.role": "tag"},
            ],
        }
    )


@pytest.mark.parametrize("state", ["Pending", "Submitting"])
def test_a_run_that_a_worker_took_must_go_on(state: str) -> None:
    trigger = EventTrigger.model_validate(start_in_time(1800).trigger.model_dump())
    assert trigger.starts_after(f"prefect.flow-run.{state}") and trigger.covers(event(state, "recsys"))
    assert trigger.within.total_seconds() == 1800
    for later in ("Running", "Crashed", "Cancelled", "Completed"):
        assert trigger.expects(f"prefect.flow-run.{later}") and not trigger.starts_after(f"prefect.flow-run.{later}")


def test_a_pod_may_wait_longer_for_a_free_machine() -> None:
    trigger = EventTrigger.model_validate(start_in_time(1800).trigger.model_dump())
    assert not trigger.covers(event("Pending", "recsys-gpu"))
