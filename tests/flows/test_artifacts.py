from __future__ import annotations

import pytest
from prefect import flow, task

from tasks.datasets import DatasetRef
from tasks.stages import data_artifacts as artifacts

UNDATED = DatasetRef("small", "abc", "datasets/small/abc", "file:x", 1, 1, 1, 10**15, 10**15)  # beyond the year 9999


def test_what_cannot_be_shown_is_told_in_the_runs_log_and_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    @task
    def stage() -> str:
        artifacts.publish_dataset_artifact(UNDATED)
        return "done"

    @flow
    def run() -> str:
        return stage()

    assert run() == "done"
    told = [
        record
        for record in caplog.records
        if "The artifact of publish_dataset_artifact could not be drawn" in record.getMessage()
    ]
    assert [record.name for record in told] == ["prefect.task_runs"] and told[0].exc_info
