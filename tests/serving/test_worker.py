"""The parts of a worker together: rules, experiments, exposures, shadows, Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
import yaml
from starlette.testclient import TestClient

from infra.storage.local import LocalStore
from serving.api.app import create_app
from serving.experiments import Exposure
from tests.doubles.faulty_proxy import faulty_proxy
from tests.doubles.redis_server import redis_server
from tests.serving.versions import START, draw, promote_version, publish, settings_of


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("service")
    store = LocalStore(root / "store")
    versions = []
    for seed in (1, 2):
        draw(root / f"v{seed}", seed)
        versions.append(publish(store, root / f"v{seed}").version)
    promote_version(store, versions[0])
    return root, versions


def recommend(client: TestClient, **body: Any) -> Any:
    response = client.post("/v1/recommendations", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def exposures(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield from ({"shadow": False, "arm": None} | json.loads(line) for line in path.read_text().splitlines())


def test_the_rules_of_the_file_shape_the_answers_and_are_named_in_them(world: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, _ = world
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"rules": [{"name": "film of the week", "action": "pin", "items": [123]}]}))
    with TestClient(create_app(settings_of(root, rules=str(rules)))) as client:
        first = recommend(client, user_id=1)["items"][0]
        assert first["item_id"] == 123 and first["rules"] == ["film of the week"]


def test_a_rule_counts_the_events_that_are_no_longer_kept(world: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, _ = world
    rules = tmp_path / "rules.yaml"
    content = {"name": "regulars", "action": "pin", "items": [123], "audience": {"min_history": 7}}
    rules.write_text(yaml.safe_dump({"rules": [content]}))
    with TestClient(create_app(settings_of(root, rules=str(rules), state={"events": 4}))) as client:
        shown = []
        for number in range(7):
            event = {"user_id": 77, "item_id": 101 + number, "time": START + number}
            client.post("/v1/events", json={"events": [event]})
            shown.append(recommend(client, user_id=77)["items"][0]["rules"])
    assert shown == [[]] * 6 + [["regulars"]]


def test_each_arm_answers_its_users_and_shadows_answer_unseen(world: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, versions = world
    experiments = tmp_path / "experiments.yaml"
    arms = [{"name": "control", "version": "champion", "share": 0.5}, {"name": "new", "version": versions[1], "share": 0.5}]
    content = {"experiments": [{"name": "second", "arms": arms}], "shadow": [{"version": versions[1], "share": 1.0}]}
    experiments.write_text(yaml.safe_dump(content))
    folder = tmp_path / "exposures"
    settings = settings_of(root, experiments=str(experiments), exposures={"folder": str(folder)}, batch={"cache_s": 0})
    with TestClient(create_app(settings)) as client:
        served = {model["version"] for model in client.get("/v1/models").json()["served"]}
        assert served == set(versions)
        answers = {user: recommend(client, user_id=user) for user in range(30)}
        again = recommend(client, user_id=3)
        events = [{"user_id": user, "item_id": 105, "time": START} for user in range(30)]
        told = client.post("/v1/events", json={"events": events}).json()["results"]
    by_arm = {"control": versions[0], "new": versions[1]}
    assert {answer["arm"] for answer in answers.values()} == set(by_arm)
    for user, answer in answers.items():
        assert answer["version"] == by_arm[answer["arm"]] == told[user]["version"] and answer["experiment"] == "second"
    assert again["arm"] == answers[3]["arm"]
    kept = list(exposures(folder)) + list(exposures(root / "store" / "exposures"))
    shown = [exposure for exposure in kept if not exposure["shadow"]]
    assert {exposure["user"] for exposure in shown} == set(range(30)) and len({e["request"] for e in shown}) == 31
    assert all(exposure["version"] == by_arm[exposure["arm"]] for exposure in shown)
    unseen = [exposure for exposure in kept if exposure["shadow"]]
    assert unseen and all(e["version"] == versions[1] and e["arm"] is None for e in unseen)


def test_an_answer_for_another_time_is_not_logged_as_an_exposure(world: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, _ = world
    folder = tmp_path / "exposures"
    before = int(time.time())
    with TestClient(create_app(settings_of(root, exposures={"folder": str(folder)}))) as client:
        recommend(client, user_id=901, time=before + 5 * 365 * 86_400)
        recommend(client, user_id=902, time=START)
        recommend(client, user_id=903, time=before - 20)  # a client's clock
        recommend(client, user_id=904)
    shown = list(exposures(folder)) + list(exposures(root / "store" / "exposures"))
    assert [each["user"] for each in shown if each["user"] > 900 and each["time"] >= before] == [903, 904]


def test_a_preview_shows_the_users_own_list_without_an_exposure_and_without_shadow_answers(
    world: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, versions = world
    experiments = tmp_path / "experiments.yaml"
    arms = [{"name": "control"}, {"name": "new", "version": versions[1]}]
    content = {"experiments": [{"name": "seen", "arms": arms}], "shadow": [{"version": versions[1]}]}
    experiments.write_text(yaml.safe_dump(content))
    sink = Sink()
    settings = settings_of(root, experiments=str(experiments), batch={"cache_s": 0})
    with TestClient(create_app(settings, sink)) as client:
        previews = [recommend(client, user_id=user, preview=True) for user in range(20)]
        assert {each["arm"] for each in previews} == {"control", "new"}
        # Shadows answer when there is time, in order: the last user's shadow answer comes after those of all previews.
        shown = recommend(client, user_id=19)
        while not any(each.shadow for each in sink.written):
            time.sleep(0.02)
        described = client.get("/openapi.json").json()["components"]["schemas"]["RecommendationRequest"]["properties"]["preview"]
        refused = client.post("/v1/recommendations", json={"user_id": 1, "preview": "yes"})
    same = ("version", "arm", "experiment", "items")
    assert [previews[19][name] for name in same] == [shown[name] for name in same]
    assert [(each.user, each.shadow) for each in sink.written] == [(19, False), (19, True)]
    assert described["default"] is False and "not logged as an exposure" in described["description"]
    assert refused.status_code == 422


class Sink:
    """A sink of exposures that keeps them in memory."""

    dropped = 3

    def __init__(self) -> None:
        self.written: list[Exposure] = []
        self.closed = False

    def write(self, exposure: Exposure) -> None:
        self.written.append(exposure)

    def close(self) -> None:
        self.closed = True


def test_exposures_go_to_another_sink_if_one_is_given(world: tuple[Path, list[str]]) -> None:
    root, versions = world
    sink = Sink()
    with TestClient(create_app(settings_of(root), sink)) as client:
        items = [item["item_id"] for item in recommend(client, user_id=905)["items"]]
        while "recsys_exposures_dropped_total 3.0" not in client.get("/metrics").text:  # updated between batches
            time.sleep(0.05)
    assert [(each.user, each.version, each.items) for each in sink.written] == [(905, versions[0], items)] and sink.closed


def test_a_worker_goes_on_when_redis_is_killed_and_reports_it(world: tuple[Path, list[str]]) -> None:
    root, _ = world
    with redis_server() as redis:
        settings = settings_of(root, redis={"url": redis.url, "timeout_s": 30, "retry_s": 0.1}, batch={"cache_s": 0})
        with TestClient(create_app(settings)) as client:

            def tell(number: int) -> str:
                event = {"user_id": 1, "item_id": 100 + number, "time": START + number}
                response = client.post("/v1/events", json={"events": [event]})
                return str(response.json()["results"][0]["outcome"])

            assert tell(0) == "applied" and "recsys_redis_up 1.0" in client.get("/metrics").text
            redis.kill()
            assert tell(1) == "applied" and recommend(client, user_id=1)["events"] == 2
            metrics = client.get("/metrics").text
            assert "recsys_redis_up 0.0" in metrics and "recsys_redis_outages_total 1.0" in metrics
            redis.start()
            while "recsys_redis_up 0.0" in client.get("/metrics").text:  # it comes back by itself, between requests
                time.sleep(0.05)
            assert recommend(client, user_id=1)["events"] == 2 and tell(1) == "duplicate"
        with TestClient(create_app(settings)) as other:  # a new worker, with nothing in memory
            assert recommend(other, user_id=1)["events"] == 2


def metric(client: TestClient, name: str) -> float:
    return float(next(line.split()[1] for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name} ")))


def test_a_worker_serves_from_memory_while_redis_drips_and_refuses_events_only_when_no_more_fit(
    world: tuple[Path, list[str]],
) -> None:
    root, _ = world
    with redis_server() as redis, faulty_proxy(f"http://127.0.0.1:{redis.port}") as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        settings = settings_of(
            root, redis={"url": url, "timeout_s": 5, "retry_s": 0.1}, state={"unsent_users": 2}, batch={"cache_s": 0}
        )
        with TestClient(create_app(settings)) as client:

            def tell(user: int, number: int) -> Any:
                return client.post(
                    "/v1/events", json={"events": [{"user_id": user, "item_id": 100 + number, "time": START + number}]}
                )

            assert tell(1, 0).json()["results"][0]["outcome"] == "applied" and metric(client, "recsys_redis_up") == 1
            proxy.drip_s = 0.5  # an answer of a hundred bytes takes fifty seconds
            assert tell(1, 1).json()["results"][0]["outcome"] == "applied" and recommend(client, user_id=1)["events"] == 2
            assert metric(client, "recsys_redis_up") == 0 and metric(client, "recsys_redis_outages_total") == 1
            assert tell(2, 0).json()["results"][0]["outcome"] == "applied"
            refused = tell(3, 0)
            assert (
                refused.status_code == 503 and refused.headers["Retry-After"] and "state.unsent_users" in refused.json()["detail"]
            )
            assert recommend(client, user_id=3)["events"] == 0
            proxy.drip_s = None
            while not metric(client, "recsys_redis_up"):
                time.sleep(0.05)
            assert (
                tell(3, 0).json()["results"][0]["outcome"] == "applied"
                and tell(1, 1).json()["results"][0]["outcome"] == "duplicate"
            )
        with TestClient(create_app(settings)) as other:
            assert [recommend(other, user_id=user)["events"] for user in (1, 2, 3)] == [2, 1, 1]


def test_a_value_of_another_type_in_redis_harms_only_its_user_and_is_counted(world: tuple[Path, list[str]]) -> None:
    root, _ = world
    with redis_server() as redis, redis_client.Redis(port=redis.port) as damage:
        settings = settings_of(root, redis={"url": redis.url, "timeout_s": 30}, batch={"cache_s": 0})
        with TestClient(create_app(settings)) as client:
            events = [{"user_id": user, "item_id": 105, "time": START} for user in (1, 2)]
            client.post("/v1/events", json={"events": events})
        damage.delete("recsys:{1}:events")
        damage.rpush("recsys:{1}:events", "what")
        with TestClient(create_app(settings)) as client:
            assert [recommend(client, user_id=user)["events"] for user in (1, 2)] == [0, 1]
            assert metric(client, "recsys_redis_faults_total") == 1 and metric(client, "recsys_redis_outages_total") == 0
            assert client.post("/v1/events", json={"events": events}).json()["results"][0]["outcome"] == "applied"
            assert recommend(client, user_id=1)["events"] == 1 and metric(client, "recsys_redis_up") == 1
