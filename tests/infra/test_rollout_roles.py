"""The rights that a rollout needs in the store."""

from __future__ import annotations

from tests.infra.aws.test_policies import may, read_policy


def test_servers_store_what_they_measure_in_a_rollout_and_the_worker_forgets_it() -> None:
    key = "rollouts/movies/00000002/measured/host-1.json"
    right = {
        role: {action for action in ("Get", "Put", "Delete") if may(read_policy(role), f"s3:{action}Object", key)}
        for role in ("worker", "trainer", "api")
    }
    assert right == {"worker": {"Get", "Put", "Delete"}, "trainer": set(), "api": {"Put"}}
    page = "rollouts/movies/00000002/report.html"
    assert may(read_policy("api"), "s3:GetObject", page) and not may(read_policy("api"), "s3:PutObject", page)
