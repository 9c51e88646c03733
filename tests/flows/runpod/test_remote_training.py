"""Training by a deployment: the run that asks for it starts, watches and cancels it, and records its cost."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import WorkPool
from prefect.runtime import flow_run
from prefect.states import Completed, Crashed, Failed, Running, State

from configs.errors import SettingsError, TrainingError
from configs.kinds import registry
from configs.settings import RetrainSettings, StoreSettings
from infra.prefect_server import NO_HEARTBEAT
from infra.registry import file_digests
from infra.storage import open_store
from models.recommender import EpochReport
from prefect_runpod import PodCost
from prefect_runpod.prefect_runs import PrefectRuns
from runpod_double.prefect_client import a_run, with_client
from tasks.datasets import DatasetRef
from tasks.stages import RemoteTraining, Trained, deployment_runs, download_trained, settle_cost, train_by_deployment
from tasks.tracking import abandon_tracking
from tasks.training import Candidate, Machine, upload_candidates

FORMER_FORMS = Path(__file__).parents[2] / "data" / "forms_with_former_names.json"
DATASET = DatasetRef("ml-100k", "v1", "datasets/ml-100k/v1", "file:x", 1, 1, 1, 0, 1)


@pytest.fixture(autouse=True)
def pods_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pods reach a store in a folder, as those of the double do."""
    monkeypatch.setenv("RUNPOD_API_BASE_URL", "http://127.0.0.1:9")


def deployed(states: list[State[Any]], pool: WorkPool, name: str, form: dict[str, Any] | None = None) -> threading.Thread:
    """Create a deployment train/NAME, whose runs get these states one after the other as soon as they are created.

    The server checks their parameters against `form`, if it is given.
    """

    @flow(name="train")
    def train(settings: dict[str, Any], dataset: str, hand_over: bool) -> None: ...

    async def make(client: PrefectClient) -> UUID:
        return await client.create_deployment(
            await client.create_flow(train),
            name,
            work_pool_name=pool.name,
            parameter_openapi_schema=form,
            enforce_parameter_schema=form is not None,
        )

    deployment = with_client(make)

    def act() -> None:
        with get_client(sync_client=True) as client:
            done: set[UUID] = set()
            end = time.monotonic() + 600
            while len(done) < len(states) and time.monotonic() < end:
                for run in client.read_flow_runs():
                    if run.deployment_id == deployment and run.id not in done and len(done) < len(states):
                        client.set_flow_run_state(run.id, states[len(done)], force=True)
                        done.add(run.id)
                time.sleep(0.1)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def asked(name: str, tmp_path: Path, **training: Any) -> RetrainSettings:
    place = {"where": "deployment", "deployment": f"train/{name}", "poll_s": 0.1, **training}
    return RetrainSettings.model_validate({"training": place, "work_dir": str(tmp_path), "store": {"url": f"file:{tmp_path}/s"}})


@flow(name="asks-for-training")
def ask_for(settings: RetrainSettings) -> tuple[str, ...]:
    return train_by_deployment(DATASET, settings)


@pytest.mark.full
def test_a_run_that_crashes_is_tried_again_and_one_that_fails_is_not(pool: WorkPool, tmp_path: Path) -> None:
    states = [Crashed(message="host lost"), Completed()]
    thread = deployed(states, pool, "crashing")
    runs = ask_for(asked("crashing", tmp_path))
    thread.join()
    assert len(runs) == 2
    sent = with_client(lambda client: client.read_flow_run(UUID(runs[1]))).parameters
    assert sent["hand_over"] is True and sent["dataset"] == "ml-100k/v1" and sent["settings"]["training"]["where"] == "inline"
    assert sent["settings"]["tracking"]["mode"] == "off"
    assert sent["settings"]["work_dir"] == ".recsys/work/deployment", "the run names a folder that does not exist in a pod"
    deployed([Failed(message="the loss is not finite")], pool, "failing")
    with pytest.raises(TrainingError, match=r"ended as Failed: the loss is not finite"):
        ask_for(asked("failing", tmp_path))
    deployed([Crashed(message="again")], pool, "hopeless")
    with pytest.raises(TrainingError, match="ended as Crashed: again"):
        ask_for(asked("hopeless", tmp_path, attempts=1))


def handed_over(folder: Path, run: str, settings: RetrainSettings) -> dict[str, dict[str, str]]:
    """Put candidates into the store as a run does that has trained, and return the digests of their files."""
    found = []
    for kind in settings.kinds:
        place = folder / run / kind
        place.mkdir(parents=True)
        (place / "model.safetensors").write_bytes(f"{run} {kind}".encode())
        epochs = [EpochReport(1, 3, 0.5, {"ndcg@10": 0.1}, 1, 2.0)]
        found.append(Candidate(kind, str(place), epochs, 1, None, 10, "cuda", 12.5, file_digests(place), threads=3))
    upload_candidates(open_store(settings.store), run, found)
    return {candidate.kind: candidate.files for candidate in found}


def test_a_training_that_was_wrongly_taken_for_dead_and_goes_on_cannot_hand_over_its_models(
    pool: WorkPool, tmp_path: Path
) -> None:
    thread = deployed(
        [Crashed(message=f"{NO_HEARTBEAT} 540 s: the process or the machine is gone."), Completed()], pool, "doubted"
    )
    settings = asked("doubted", tmp_path)
    settings = settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"mode": "off"})})

    @flow(name="takes-over")
    def take_over() -> tuple[Trained, dict[str, dict[str, str]]]:
        runs = train_by_deployment(DATASET, settings)
        second = handed_over(tmp_path, runs[1], settings)
        handed_over(tmp_path, runs[0], settings)  # later than the run that replaced it
        trained = download_trained(DATASET, runs, settings)
        abandon_tracking(str(flow_run.id))  # no later stage ends what this one has begun to track
        return trained, second

    trained, second = take_over()
    thread.join()
    assert {candidate.kind: candidate.files for candidate in trained.candidates} == second


def test_a_deployment_whose_form_has_former_names_is_started_with_these_names(pool: WorkPool, tmp_path: Path) -> None:
    thread = deployed([Completed()], pool, "set-up-before", json.loads(FORMER_FORMS.read_text())["train/gpu"])
    settings = RetrainSettings.model_validate(
        asked("set-up-before", tmp_path).model_dump()
        | {"business_value": {"currency": "EUR"}, "promotion": {"bootstrap_seed": 5}}
    )
    (run,) = ask_for(settings)
    thread.join()
    sent = with_client(lambda client: client.read_flow_run(UUID(run))).parameters
    assert sent["settings"]["value"]["currency"] == "EUR" and "business_value" not in sent["settings"]
    assert sent["settings"]["promotion"]["seed"] == 5 and sent["settings"]["seed"] == settings.seed
    read = RetrainSettings.model_validate(sent["settings"])
    assert (read.business_value, read.promotion) == (settings.business_value, settings.promotion)


def test_a_missing_deployment_and_a_secret_that_would_be_shown_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"train/none-such.*training\.where to inline"):
        ask_for(asked("none-such", tmp_path))
    store = {"url": "s3://b/p", "access_key_id": "a", "secret_access_key": "wJalr-secret"}
    settings = asked("gpu", tmp_path).model_copy(update={"store": type(RetrainSettings().store).model_validate(store)})
    with pytest.raises(SettingsError, match="readable by everyone") as raised:
        ask_for(settings)
    assert "wJalr-secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ({"url": "file:.recsys/store"}, "store.url is file:.recsys/store, which a pod cannot reach"),
        (
            {"url": "s3://b/p", "endpoint_url": "http://minio:9000"},
            "store.endpoint_url is http://minio:9000, which a pod cannot use",
        ),
        ({"url": "s3://b/p", "endpoint_url": "http://s3.example.org"}, "unencrypted"),
    ],
)
def test_a_store_that_a_pod_cannot_reach_is_refused_before_anything_is_rented(
    pool: WorkPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: dict[str, str], said: str
) -> None:
    monkeypatch.delenv("RUNPOD_API_BASE_URL")
    deployed([], pool, "far-away")
    settings = asked("far-away", tmp_path).model_copy(update={"store": StoreSettings.model_validate(store)})
    with pytest.raises(SettingsError, match=said):
        ask_for(settings)


def test_a_plugin_that_nobody_installed_in_the_image_is_refused_before_anything_is_rented(
    pool: WorkPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_named", {})
    deployed([], pool, "with-plugin")
    given = asked("with-plugin", tmp_path).model_dump()
    settings = RetrainSettings.model_validate(
        given | {"challenger": "lately", "models": {"plugins": ["tests.plugins.lately:SPEC"]}, "store": {"url": "s3://b/p"}}
    )
    with pytest.raises(
        SettingsError, match=r"its image contains tests\.plugins\.lately:SPEC \(lately\)\. Install the packages in the im"
    ):
        ask_for(settings)


def test_a_run_that_is_stopped_cancels_the_training_that_it_asked_for(
    pool: WorkPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = deployed([Running()], pool, "long")

    def sleep(seconds: float) -> None:
        time.sleep(0.1)
        if not thread.is_alive():  # the training is running by now
            raise KeyboardInterrupt

    class Clock:
        monotonic = staticmethod(time.monotonic)

    Clock.sleep = staticmethod(sleep)  # type: ignore[attr-defined]
    monkeypatch.setattr(deployment_runs, "time", Clock)
    with pytest.raises(BaseException):  # noqa: B017 - Prefect has its own words for an interrupt
        ask_for(asked("long", tmp_path))

    async def states(client: PrefectClient) -> set[str]:
        runs = await client.read_flow_runs()
        return {str(run.state_name) for run in runs if run.parameters.get("hand_over") and run.work_pool_name == pool.name}

    assert with_client(states) == {"Cancelling"}


MACHINE = Machine(git_commit=None, python="3.12", packages={}, hardware={})


@flow(name="settles")
def settle(training: RemoteTraining, settings: RetrainSettings) -> float | None:
    return settle_cost(training, settings.training).cost


def test_the_cost_includes_all_pods_of_all_runs(pool: WorkPool, tmp_path: Path) -> None:
    async def runs(client: PrefectClient) -> tuple[str, str, str]:
        port = PrefectRuns(lambda: client, pool.id, pool.name)
        found = [await a_run(client, state, pool) for state in (Crashed(), Completed(), Completed())]
        cost = PodCost("a", "1 x L4", 1.0, "2026-11-01T12:00:00+00:00", 3600.0, 1.0, True)
        await port.account(found[0].id, cost)
        await port.account(found[1].id, replace(cost, pod="b", usd=0.25))
        await port.account(found[2].id, replace(cost, pod="c", usd=0.5, closed=False))
        return tuple(str(run.id) for run in found)  # type: ignore[return-value]

    crashed, completed, still_open = with_client(runs)
    settings = asked("gpu", tmp_path, cost_wait_s=0.3)
    assert settle(RemoteTraining((crashed, completed), MACHINE), settings) == 1.25
    assert settle(RemoteTraining((still_open,), MACHINE), settings) == 0.5, "an open account gives its latest figures"
    assert settle(RemoteTraining((str(uuid4()),), MACHINE), settings) is None, "a pool that rents nothing has no accounts"
