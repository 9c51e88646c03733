"""Prefect tasks that train as a run of a deployment, on a work pool with suitable hardware."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelling

from configs.errors import SettingsError, StoreError, TrainingError
from configs.kinds import place_of
from configs.settings import RetrainSettings
from configs.training_place import TrainingPlaceSettings
from infra.pages import duration, listed, money
from infra.runpod import RunPodSettings
from infra.storage import Store, open_store
from prefect_runpod import POOL_TYPE, PodCost, account_filter, accounts_in
from tasks.datasets import DatasetRef
from tasks.stages.artifacts import happened
from tasks.stages.deployment_runs import started_runs, wait_for_end
from tasks.stages.model_artifacts import publish_training_artifact
from tasks.stages.task_options import NETWORK
from tasks.stages.training import follow_training
from tasks.training import (
    Beginning,
    Candidate,
    Machine,
    Origin,
    challenger_of,
    delete_uploaded,
    download_candidates,
    upload_candidates,
)

__all__ = [
    "RemoteTraining",
    "Trained",
    "download_refit",
    "download_trained",
    "settle_cost",
    "train_by_deployment",
    "upload_trained",
]


@dataclass(frozen=True)
class RemoteTraining:
    """A training by a deployment: the machine that trained, and all flow runs that were started. The last one trained."""

    runs: tuple[str, ...]
    machine: Machine


@dataclass(frozen=True)
class Trained:
    """The candidates of a run, and where they were trained if it was not in the run itself."""

    candidates: list[Candidate]
    remote: RemoteTraining | None = None

    @property
    def challenger(self) -> Candidate:
        """The candidate that becomes a version."""
        return challenger_of(self.candidates)

    def began(self, beginning: Beginning) -> Trained:
        """Return the same, with the reason in the challenger's record if it was trained from scratch although warm starts are on."""
        *others, challenger = self.candidates
        if challenger.warm is not None:
            return self
        why = beginning.why
        if beginning.parent is not None:
            why = f"it could not take over the weights of {beginning.parent}: its kind allows no warm start, or its shape is another one"
        return replace(self, candidates=[*others, replace(challenger, from_scratch=why)])


@task(name="hand over", **NETWORK)
def upload_trained(candidates: list[Candidate], settings: RetrainSettings) -> None:
    """Put the candidates into the store for the run that requested them."""
    store = open_store(settings.store)
    key = upload_candidates(store, str(flow_run.id), candidates)
    publish_training_artifact(candidates)
    get_run_logger().info("candidates handed over at %s", store.uri(key))


@task(name="train by deployment", cache_policy=NO_CACHE)
def train_by_deployment(
    dataset: DatasetRef, settings: RetrainSettings, refit_epochs: int | None = None, parent: str | None = None
) -> tuple[str, ...]:
    """Train the candidates as a run of the deployment, and wait for it.

    Args:
        dataset: Dataset version to train on.
        settings: Settings of the run.
        refit_epochs: Train the challenger only, on all events, for so many epochs.
        parent: Version whose weights the challenger begins with.

    Returns:
        The ids of the flow runs that were started. The last one trained the candidates; the others crashed.

    Raises:
        SettingsError: The deployment does not exist, the settings hold a secret that cannot be passed to it, or a rented pod could
            not reach the store.
        TrainingError: The run does not complete.
    """
    log, place = get_run_logger(), settings.training
    if settings.store.secret_access_key is not None:
        raise SettingsError(
            "store.secret_access_key cannot be passed to a run of a deployment: its parameters are readable by everyone with "
            "access to the Prefect server. Leave it out, and give the workers their credentials in their environment."
        )
    if _is_rented(place.deployment):
        why = RunPodSettings.from_environment(os.environ).why_no_store(settings.store.url, settings.store.endpoint_url)
        if why is not None:
            raise SettingsError(f"{place.deployment} trains in a rented pod, but {why}.")
        _refuse_plugins_that_a_pod_lacks(settings)
        # A folder of this machine means nothing in a pod. The default is below the folder in which the image starts.
        settings = settings.model_copy(update={"work_dir": RetrainSettings.model_fields["work_dir"].default})
    runs: list[str] = []
    for ended in _ended_runs(dataset, settings, refit_epochs, parent):
        runs.append(str(ended.id))
        assert ended.state is not None
        if ended.state.is_completed():
            return tuple(runs)
        said = (
            f"The run {ended.name} of {place.deployment} ended as {ended.state.name}: {ended.state.message or 'no reason given.'}"
        )
        if not ended.state.is_crashed() or len(runs) == place.attempts:
            raise TrainingError(f"{said} See its log in the Prefect UI (flow run {ended.id}).")
        log.warning("%s Trying again.", said)
    raise AssertionError("unreachable")


@task(name="take over", **NETWORK)
def download_trained(dataset: DatasetRef, runs: tuple[str, ...], settings: RetrainSettings) -> Trained:
    """Fetch the candidates that the last run uploaded, and log and track them as if they had been trained here."""
    store = open_store(settings.store)
    folder = settings.work_dir / "candidates" / settings.model_name
    candidates, machine = download_candidates(store, runs[-1], settings.kinds, folder)
    for candidate in candidates:
        follow_training(dataset, candidate, settings)
    _delete_handed_over(store, runs[-1])
    return Trained(candidates, RemoteTraining(runs, machine))


@task(name="take over refit", **NETWORK)
def download_refit(runs: tuple[str, ...], settings: RetrainSettings) -> Candidate:
    """Fetch the challenger that the last run trained on all events."""
    store, folder = open_store(settings.store), settings.work_dir / "refits" / settings.model_name
    (candidate,), _ = download_candidates(store, runs[-1], [settings.challenger], folder)
    _delete_handed_over(store, runs[-1])
    return candidate


@task(name="settle cost", cache_policy=NO_CACHE)
def settle_cost(training: RemoteTraining, place: TrainingPlaceSettings) -> Origin:
    """Wait until the pods of all runs are closed, and return the origin of the candidates with the total cost.

    If that takes longer than `place.cost_wait_s`, the latest figures are used. A pool that does not rent pods has no accounts, so
    the cost stays unknown.
    """
    end, log = time.monotonic() + place.cost_wait_s, get_run_logger()
    while True:
        accounts = [account for run in training.runs for account in _accounts(run)]
        still_open = [account.pod for account in accounts if not account.closed]
        if not still_open or time.monotonic() >= end:
            break
        time.sleep(min(place.poll_s, 1.0))
    if not accounts:
        return Origin(training.machine, None)
    if still_open:
        log.warning("The account of %s is still open; using its latest figures.", ", ".join(still_open))
    usd = round(sum(account.usd for account in accounts), 6)
    happened(f"cost: {money(usd)}")
    log.info("training cost %.4f USD", usd)
    rented = listed(
        [f"pod {each.pod} ({each.gpu}) for {duration(each.seconds)} at {money(each.usd_per_hour)} an hour" for each in accounts]
    )
    return Origin(training.machine, usd, rented)


def _delete_handed_over(store: Store, run: str) -> None:
    try:
        delete_uploaded(store, run)
    except StoreError as error:
        get_run_logger().warning("The candidates handed over by the run %s could not be deleted from the store: %s", run, error)


def _refuse_plugins_that_a_pod_lacks(settings: RetrainSettings) -> None:
    plugins = [f"{place} ({kind})" for kind in settings.kinds if (place := place_of(kind)) is not None]
    if plugins and not settings.training.pods_have_plugins:
        raise SettingsError(
            f"{settings.training.deployment} trains in a rented pod, and nothing says that its image contains {', '.join(plugins)}. "
            "Install the packages in the image (infra/docker/train.Dockerfile), set pools.gpu_image to it, and then set "
            "training.pods_have_plugins to true."
        )


def _is_rented(deployment: str) -> bool:
    """Return whether the deployment runs in rented pods. One that does not exist is reported when it is started."""
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_deployment_by_name(deployment).work_pool_name
            return pool is not None and client.read_work_pool(pool).type == POOL_TYPE
        except ObjectNotFound:
            return False


def _ended_runs(
    dataset: DatasetRef, settings: RetrainSettings, refit_epochs: int | None, parent: str | None
) -> Iterator[FlowRun]:
    """Start runs of the deployment, one after the other, and yield each once it has ended.

    A run that had been started before, and was cancelled because this flow run or the one that it resumes was stopped, is left
    out. If this run is stopped while it waits, the started run is cancelled, because its machine may be rented by the hour.
    """
    handed = settings.model_copy(
        update={
            "training": settings.training.model_copy(update={"where": "inline"}),
            # The run may be on this same machine, where this run already uses its own folder.
            "work_dir": settings.work_dir / "deployment",
            # Its disk is deleted with it. The run that takes over the candidates tracks their epochs and metrics.
            "tracking": settings.tracking.model_copy(update={"mode": "off"}),
        }
    )
    parameters: dict[str, Any] = {"dataset": f"{dataset.name}/{dataset.version}", "hand_over": True}
    asked = {"refit_epochs": refit_epochs, "parent": parent}
    parameters |= {
        name: value for name, value in asked.items() if value is not None
    }  # the form of an earlier setup has none of them
    for started in _started_runs(settings.training.deployment, handed, parameters, "train" if refit_epochs is None else "refit"):
        if started.state is not None and (started.state.is_cancelling() or started.state.is_cancelled()):
            continue
        get_run_logger().info("training runs as %s of %s", started.name, settings.training.deployment)
        try:
            ended = wait_for_end(started, settings.training.poll_s)
        except BaseException:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(started.id, Cancelling(message="The run that requested it has stopped."))
            raise
        yield ended


def _started_runs(deployment: str, settings: RetrainSettings, parameters: Mapping[str, Any], key: str) -> Iterator[FlowRun]:
    try:
        yield from started_runs(deployment, settings, parameters, key)
    except ObjectNotFound as error:
        raise SettingsError(
            f"training.deployment is {deployment}, which does not exist on the Prefect server. Deploy it (`prefect deploy`), or set "
            "training.where to inline."
        ) from error


def _accounts(run: str) -> list[PodCost]:
    with get_client(sync_client=True) as client:
        return accounts_in(client.read_artifacts(artifact_filter=account_filter(UUID(run))))
