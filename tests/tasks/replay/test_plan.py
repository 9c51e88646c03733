from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ReplayError, RunInProgressError
from configs.settings import RetrainSettings
from configs.studies import ReplaySettings
from infra.locks import run_lock
from infra.pages import page_link
from tasks.replay import ReplayLog, plan_replay, run_settings, trainings_due
from tests import synthetic
from tests.tasks.replayed import ended, record, small_plan, small_settings, training


def settings(folder: Path, **given: Any) -> ReplaySettings:
    path = folder / "data" / "ratings.csv"
    if not path.exists():
        synthetic.write_csv(folder / "data", synthetic.interactions(20, 40, 15))
    places = {"data": {"local_path": str(path)}, "store": {"url": f"file:{folder}/store"}, "work_dir": folder / "work"}
    return ReplaySettings.model_validate({**places, "slices": "day", "base_slices": 2, **given})


def test_the_same_settings_find_the_same_replay_and_others_begin_another(tmp_path: Path) -> None:
    first = plan_replay(settings(tmp_path))
    assert first == plan_replay(settings(tmp_path))
    assert first == plan_replay(settings(tmp_path, hourly_price=3.0, resamples=5000, alpha=0.1))  # these change the report only
    others = [
        plan_replay(settings(tmp_path, **given)).id for given in ({"seed": 1}, {"live_requests": 5}, {"policies": {"a": {}}})
    ]
    assert len({first.id, *others}) == 4
    assert first.store.url == f"file:{tmp_path}/store/replays/{first.id}"
    assert len(list(first.feed.glob("events-*.csv"))) == sum(part.rows > 0 for part in first.slices)
    elsewhere = plan_replay(settings(tmp_path, work_dir=tmp_path / "elsewhere"))
    assert elsewhere.id == first.id and list(elsewhere.feed.glob("events-*.csv"))


def test_the_pages_of_a_replay_are_found_below_those_of_the_store_that_it_is_in(tmp_path: Path) -> None:
    served = settings(tmp_path, id="mine", store={"url": f"file:{tmp_path}/store", "pages_url": "http://127.0.0.1:8000/pages"})
    plan = plan_replay(served)
    page = ReplayLog.of(plan).store.uri("replay/report.html")
    link = "http://127.0.0.1:8000/pages/replays/mine/replay/report.html"
    assert page_link(page, plan.store) == page_link(page, served.store) == link


def test_a_replay_with_an_id_goes_on_only_with_the_settings_that_it_began_with(tmp_path: Path) -> None:
    plan_replay(settings(tmp_path, id="mine"))
    plan_replay(settings(tmp_path, id="mine", hourly_price=3.0))
    with pytest.raises(ReplayError, match="The replay mine was started with other settings; seed, live_requests differ"):
        plan_replay(settings(tmp_path, id="mine", seed=1, live_requests=5))
    synthetic.write_csv(tmp_path / "data", synthetic.interactions(20, 40, 15, seed=1))
    with pytest.raises(ReplayError, match="the source's files differ"):
        plan_replay(settings(tmp_path, id="mine"))


def test_a_replay_that_was_begun_with_former_names_of_settings_goes_on(tmp_path: Path) -> None:
    scenario = {"name": "feed-outage", "from_slice": 2}
    plan = plan_replay(settings(tmp_path, id="mine", scenario=scenario))
    store = ReplayLog.of(plan).store
    kept = json.loads(store.get("replay/plan.json"))
    promotion = kept["settings"]["promotion"]
    promotion["races"], promotion["seed"] = promotion.pop("max_retries_on_conflict"), promotion.pop("bootstrap_seed")
    kept["settings"]["value"] = kept["settings"].pop("business_value")
    kept["settings"]["scenario"]["name"] = "feed outage"
    store.put("replay/plan.json", json.dumps(kept).encode())
    assert plan_replay(settings(tmp_path, id="mine", scenario=scenario)).id == "mine"
    with pytest.raises(ReplayError, match="started with other settings; promotion differ"):
        plan_replay(settings(tmp_path, id="mine", scenario=scenario, promotion={"seed": 3}))
    with pytest.raises(ReplayError, match="started with other settings; policies differ"):  # the first one is the yardstick
        policies = dict(reversed(ReplaySettings().policies.items()))
        plan_replay(settings(tmp_path, id="mine", scenario=scenario, policies=policies))


def test_a_replay_whose_slices_were_cut_differently_does_not_go_on(tmp_path: Path) -> None:
    plan = plan_replay(settings(tmp_path, id="mine"))
    store = ReplayLog.of(plan).store
    kept = json.loads(store.get("replay/plan.json"))
    kept["slices"][-1]["end"] += 1  # as an older version cut it: the same rows come in
    store.put("replay/plan.json", json.dumps(kept).encode())
    assert plan_replay(settings(tmp_path, id="mine")).slices[-1].end == plan.slices[-1].end + 1
    kept["slices"][1]["rows"] += 1
    store.put("replay/plan.json", json.dumps(kept).encode())
    with pytest.raises(ReplayError, match="The replay mine was started with other settings; the slices differ"):
        plan_replay(settings(tmp_path, id="mine"))


def test_the_feed_of_a_replay_under_way_is_not_overwritten(tmp_path: Path) -> None:
    plan = plan_replay(settings(tmp_path, id="mine"))
    before = {path.name: path.read_bytes() for path in plan.feed.iterdir()}
    other = settings(tmp_path, id="mine", base_slices=3, store={"url": f"file:{tmp_path}/other"})
    with run_lock(tmp_path / "work", "replay-mine"), pytest.raises(RunInProgressError, match="replay-mine is under way"):
        plan_replay(other)
    assert {path.name: path.read_bytes() for path in plan.feed.iterdir()} == before
    plan_replay(other)
    assert {path.name: path.read_bytes() for path in plan.feed.iterdir()} != before


def test_secrets_are_not_stored_with_the_plan(tmp_path: Path) -> None:
    secret = {"url": f"file:{tmp_path}/store", "access_key_id": "k3y-1d", "secret_access_key": "s3cr3t"}
    plan = plan_replay(settings(tmp_path, store=secret))
    store = ReplayLog.of(plan).store
    assert all(b"s3cr3t" not in store.get(key) and b"k3y-1d" not in store.get(key) for key in store.list())
    assert plan.store.secret_access_key is not None


def test_each_policy_has_its_own_model_and_all_share_the_rest(tmp_path: Path) -> None:
    given = settings(tmp_path)
    plan = plan_replay(given)
    shared, never = run_settings(plan, given), run_settings(plan, given, "never")
    assert type(shared) is RetrainSettings and (shared.model_name, never.model_name) == ("replay", "replay-never")
    assert shared == never.model_copy(update={"model_name": "replay"})
    assert shared.data.landing == str(plan.zone) and shared.store == plan.store and shared.models == given.models


def test_the_trainings_due_follow_from_the_records_alone(tmp_path: Path) -> None:
    plan, given = small_plan(tmp_path), small_settings(tmp_path)
    log = ReplayLog.of(plan)
    log.keep_slice(record(0), None)
    base = log.slice(0)
    assert base is not None
    assert trainings_due(plan, plan.slices[0], base, given) == dict.fromkeys(given.policies, "base")
    log.keep_training(training("monthly", 0))
    assert list(trainings_due(plan, plan.slices[0], base, given)) == ["never", "on-drift"]
    for policy in ("never", "on-drift"):
        log.keep_training(training(policy, 0))
    assert trainings_due(plan, plan.slices[0], base, given) == {}
    assert trainings_due(plan, plan.slices[1], record(1, ("genre",)), given) == {"on-drift": "drift"}
    assert trainings_due(plan, plan.slices[2], record(2), given) == {"monthly": "a new month"}  # October begins in it
    log.keep_slice(record(2), None)
    log.keep_training(training("monthly", 2, "held"))
    assert trainings_due(plan, plan.slices[3], record(3), given) == {}  # a held training counts as well


def test_an_alarm_that_training_cannot_help_with_makes_no_training_due(tmp_path: Path) -> None:
    plan, given = small_plan(tmp_path), small_settings(tmp_path)
    log = ReplayLog.of(plan)
    log.keep_slice(record(0), None)
    for policy in given.policies:
        log.keep_training(training(policy, 0))
    refused = record(1, ("quarantine",))
    watched = {name: replace(watch, causes=[]) for name, watch in refused.policies.items()}
    assert trainings_due(plan, plan.slices[1], replace(refused, policies=watched), given) == {}
    watched = {name: replace(watch, causes=["genre"]) for name, watch in refused.policies.items()}
    assert trainings_due(plan, plan.slices[1], replace(refused, policies=watched), given) == {"on-drift": "drift"}


def test_after_the_last_slice_no_policy_retrains(tmp_path: Path) -> None:
    plan, given = small_plan(tmp_path), small_settings(tmp_path)
    log = ReplayLog.of(plan)
    log.keep_slice(record(0), None)
    for policy in given.policies:
        log.keep_training(training(policy, 0))
    drifted = {number: trainings_due(plan, plan.slices[number], record(number, ("genre",)), given) for number in (3, 4)}
    assert list(drifted[3]) == ["monthly", "on-drift"] and drifted[4] == {}


def test_a_replay_that_has_ended_has_no_training_due(tmp_path: Path) -> None:
    plan, given = small_plan(tmp_path), small_settings(tmp_path)
    log = ended(plan, drifted=None)
    for part in plan.slices:
        kept = log.slice(part.number)
        assert kept is not None and trainings_due(plan, part, kept, given) == {}
