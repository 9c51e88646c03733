"""Which runs the automation resumes, by the code of Prefect's own server."""

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


def covered(event: str = "Crashed", tag: str = "resumes") -> bool:
    trigger = EventTrigger.model_validate(resume_once(uuid4(), 180).trigger.model_dump())
    happened = {
        "id": uuid4(),
        "occurred": datetime.now(UTC),
        "event": f"prefect.flow-run.{event}",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{uuid4()}", "prefect.run-count": "1"},
        "related": [{"prefect.resource.id": f"prefect.tag.{each}", "prefect.resource.role": "tag"} for each in (tag, "recsys")],
    }
    return trigger.covers(ReceivedEvent.model_validate(happened))


def test_only_the_crash_of_a_run_that_may_resume_counts() -> None:
    assert covered()
    assert not covered(tag="watched") and not covered("Failed") and not covered("Cancelled")


def test_the_flow_learns_which_run_has_crashed() -> None:
    deployment = uuid4()
    automation = resume_once(deployment, 90)
    (action,) = [each.model_dump(mode="json") for each in automation.actions]
    assert (action["type"], action["deployment_id"]) == ("run-deployment", str(deployment))
    assert action["parameters"] == {"run": {"__prefect_kind": "jinja", "template": "{{ flow_run.id }}"}, "heartbeat_s": 90}
    assert automation.trigger.within.total_seconds() == 60, "a crash that is reported twice would start two runs"  # type: ignore[union-attr]


@pytest.mark.parametrize("on", [True, False])
def test_resuming_can_be_switched_off(on: bool) -> None:
    names = [each.name for each in wanted_automations(AlertSettings(resume_crashed=on), [uuid4()], uuid4())]
    assert (RESUMED in names) is on


def test_flows_that_read_or_train_resume_and_flows_that_decide_or_rent_do_not() -> None:
    entries = yaml.safe_load(PREFECT_FILE.read_text())["deployments"]
    assert {entry["name"] for entry in entries if "resumes" in entry["tags"]} == {
        "etl",
        "monitor",
        "housekeeping",
        "retrain",
        "train",
        "search",
        "compare",
        "replay",
    }
