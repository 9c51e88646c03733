"""Which runs the automation resumes, as Prefect's own server decides it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
import yaml
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from infra.prefect_server.alerts import RESUMED, resume_once, wanted_automations
from infra.prefect_server.deployments import PREFECT_FILE
from infra.prefect_server.environment import AlertSettings


def covered(event: str = "Crashed", run_count: str = "1", tag: str = "resumes") -> bool:
    trigger = EventTrigger.model_validate(resume_once().trigger.model_dump())
    run = uuid4()
    return trigger.covers(
        ReceivedEvent.model_validate(
            {
                "id": uuid4(),
                "occurred": datetime.now(UTC),
                "event": f"prefect.flow-run.{event}",
                "resource": {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.run-count": run_count},
                "related": [
                    {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"},
                    {"prefect.resource.id": "prefect.tag.recsys", "prefect.resource.role": "tag"},
                ],
            }
        )
    )


def test_only_the_first_crash_of_a_run_that_may_resume_counts() -> None:
    assert covered()
    assert not covered(run_count="2") and not covered(run_count="0"), "it would go on for ever"
    assert not covered(tag="watched") and not covered("Failed") and not covered("Cancelled")


def test_the_same_attempt_continues_and_a_crash_that_is_reported_twice_starts_it_once() -> None:
    automation = resume_once()
    (action,) = [each.model_dump(mode="json") for each in automation.actions]
    assert (action["type"], action["state"], action["name"]) == ("change-flow-run-state", "SCHEDULED", "AwaitingRetry")
    assert not action["force"] and automation.trigger.within.total_seconds() == 600  # type: ignore[union-attr]


@pytest.mark.parametrize("on", [True, False])
def test_it_can_be_switched_off(on: bool) -> None:
    names = [each.name for each in wanted_automations(AlertSettings(resume_crashed=on), [uuid4()])]
    assert (RESUMED in names) is on


def test_what_trains_resumes_and_nothing_that_decides_or_rents_does() -> None:
    entries = yaml.safe_load(PREFECT_FILE.read_text())["deployments"]
    assert {entry["name"] for entry in entries if "resumes" in entry["tags"]} == {
        "retrain",
        "train",
        "search",
        "compare",
        "replay",
    }
