from __future__ import annotations

import json
from pathlib import Path

from benchmarks.pipeline.replay import render
from tasks.replay import replay_results
from tests.tasks.replayed import ended, small_plan, small_settings


def test_the_table_shows_policies_differences_and_whether_the_time_was_met(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    ended(plan)
    found = json.loads(json.dumps(replay_results(plan, small_settings(tmp_path)).to_dict()))
    measured = {"wall_s": 480.0, "cpu_s": 300.0, "hardware": {"load_1_min": 2.0}}
    said = render(found | measured)
    assert "| policy, 4 weeks, 1,200 live requests |" in said
    assert "| monthly: each month |" in said and "| 1: 1, 0 | 36 s, 0.010 USD |" in said and "| 1: 0, 1 |" in said
    assert "| monthly less never | +0." in said and "| on-drift less never | +0.0000 (+0.0000 to +0.0000) | 1.0000 | no |" in said
    assert "took 8.0 min (to be below 10: met) and 5.0 min of CPU, begun at a load of 2.0" in said
    assert "to be below 10: **missed**" in render(found | measured | {"wall_s": 601.0})


def test_the_study_of_warm_starts_compares_quality_seconds_and_events_with_the_first_policy(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    ended(plan)
    found = json.loads(json.dumps(replay_results(plan, small_settings(tmp_path)).to_dict()))
    for policy, seconds, learnt, quality in zip(
        found["policies"], (40.0, 6.0, 4.0), (1000, 100, 50), (0.2, 0.198, 0.1), strict=True
    ):
        policy["trainings"] = [{"outcome": "promoted", "challenger_s": seconds / 2, "learnt": learnt // 2}] * 2
        policy["ndcg"]["mean"] = quality
    said = render(found | {"study": "warm", "wall_s": 480.0, "cpu_s": 300.0, "hardware": {"load_1_min": 2.0}})
    first = found["policies"][0]["name"]
    assert "| 40.0 s, 1,000 |" in said and "to be below" not in said
    assert f"| 6.0 s, 100: 15% and 10% of {first}'s, for 99.0% of its NDCG@10 |" in said and "for 50.0% of its NDCG@10" in said
