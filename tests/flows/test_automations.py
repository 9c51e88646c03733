from __future__ import annotations

import pytest
from prefect import flow
from prefect.automations import Automation
from prefect.client.orchestration import get_client

from configs.errors import DeploymentMissingError
from infra.prefect_server import DRIFT_DETECTED
from infra.prefect_server.alerts import retrain_on_drift


@flow(name="stands-in")
def stands_in() -> None:
    """A flow of the server, for its deployment."""


def test_the_automation_is_made_once_and_brought_up_to_date() -> None:
    with pytest.raises(DeploymentMissingError, match="no deployment stands-in/for-drift"):
        retrain_on_drift("ranker-a", "stands-in/for-drift")
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(stands_in), "for-drift")
        first = retrain_on_drift("ranker-a", "stands-in/for-drift", enabled=False)
        assert retrain_on_drift("ranker-a", "stands-in/for-drift", {"seed": 3}).id == first.id
        other = retrain_on_drift("ranker-b", "stands-in/for-drift")
        assert other.id != first.id
        Automation(**{**other.model_dump(exclude={"id"}), "name": "retrain ranker-a on drift"}).create()  # two set-ups at once
        assert retrain_on_drift("ranker-a", "stands-in/for-drift", {"seed": 4}).id is not None
        kept = client.read_automations_by_name("retrain ranker-a on drift")
    assert len(kept) == 1 and kept[0].enabled
    assert kept[0].trigger.expect == {DRIFT_DETECTED}  # type: ignore[union-attr]
    assert kept[0].trigger.match.model_dump() == {"prefect.resource.id": "recsys.model.ranker-a"}  # type: ignore[union-attr]
    action = kept[0].actions[0].model_dump()
    assert action["deployment_id"] == deployment and action["parameters"] == {"seed": 4}
