"""Many runs at once on one worker of type runpod."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from prefect_runpod.pods.provision import CATALOGUE_S
from tests.full.runpod.rented import a_world, wait_until

pytestmark = [pytest.mark.full, pytest.mark.nightly]  # test_faults.py has runs side by side by day
RUNS, LOOK_EVERY_S = 20, 1.0


def test_twenty_runs_at_once_end_correctly_within_the_rate_limit(tmp_path: Path) -> None:
    # RunPod's 60 requests a minute, four times as fast: fewer than the 40 creates and deletions need at once.
    with a_world(tmp_path, policy=(("minute", 20, 5), ("hour", 3000, 3600))) as world:
        world.start_worker(RECSYS_RUNPOD_LOOK_EVERY_S=str(LOOK_EVERY_S), RECSYS_RUNPOD_REQUESTS_PER_MINUTE="200")
        runs = [world.submit(seconds=1) for _ in range(RUNS)]
        for run in runs:
            world.wait_for(run, "COMPLETED", "FAILED", "CRASHED", "CANCELLED", seconds=900)
        wait_until(lambda: not world.double.alive, 300, "the end of all pods")
        for run in runs:
            world.settle(run, "COMPLETED", executions=1)
            assert world.run(run)["labels"]["prefect.worker.name"] == "first"
        asked = list(world.double.requests)
        looks = [r.at for r in asked if (r.method, r.path) == ("GET", "/v2/pods")]
        pauses = [later - earlier for earlier, later in pairwise(looks)]
        assert min(pauses) > LOOK_EVERY_S * 0.95, "there was more than one list in an interval"
        # The worker keeps the limit by the times at which it sends. On a machine that stalls, more may arrive in one window.
        assert world.double.statuses()[429] <= len(asked) // 4, "the worker does not pace its requests"
        heard = [r for r in asked if r.status != 429]  # requests refused for their rate are repeated
        creates = [r.at for r in heard if (r.method, r.path) == ("POST", "/v2/pods")]
        assert len(creates) <= RUNS + 1, "there was more than one create for each run, and one to learn the description"
        answers = (creates[-1] - asked[0].at) / CATALOGUE_S + 1
        assert sum(r.path == "/v2/catalog/gpus" for r in heard) <= answers, "runs do not share the catalogue"
