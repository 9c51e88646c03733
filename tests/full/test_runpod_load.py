"""Many runs at once on one worker of type runpod."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from infra.runpod.provision import CATALOGUE_S
from tests.full.rented import a_world, wait_until

pytestmark = pytest.mark.full
RUNS, LOOK_EVERY_S = 20, 1.0


def test_twenty_runs_at_once_end_right_within_the_rate_limit(tmp_path: Path) -> None:
    # RunPod's 60 requests a minute, five times as fast: less than the 40 creates and deletions need at once.
    with a_world(tmp_path, policy=(("minute", 20, 5), ("hour", 3000, 3600))) as world:
        world.start_worker(RECSYS_RUNPOD_LOOK_EVERY_S=str(LOOK_EVERY_S), RECSYS_RUNPOD_REQUESTS_PER_MINUTE="200")
        runs = [world.submit(seconds=1) for _ in range(RUNS)]
        for run in runs:
            world.wait_for(run, "COMPLETED", "FAILED", "CRASHED", "CANCELLED", seconds=180)
        wait_until(lambda: not world.double.alive, 60, "the end of all pods")
        for run in runs:
            world.settle(run, "COMPLETED", executions=1)
            assert world.run(run)["labels"]["prefect.worker.name"] == "first"
        asked = world.double.requests
        looks = [r.at for r in asked if (r.method, r.path) == ("GET", "/v2/pods")]
        pauses = [later - earlier for earlier, later in pairwise(looks)]
        assert min(pauses) > LOOK_EVERY_S * 0.95, "at most one list in an interval"
        assert 429 not in world.double.statuses()
        assert world.double.count("POST", "/v2/pods") <= RUNS + 1, "one create each, and the first to learn the description"
        creates = [r.at for r in asked if (r.method, r.path) == ("POST", "/v2/pods")]
        answers = (creates[-1] - asked[0].at) / CATALOGUE_S + 1
        assert world.double.count("GET", "/v2/catalog/gpus") <= answers, "runs share the catalogue"
