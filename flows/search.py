"""search: search for better settings of the challenger on the valid part, and send the best through the gate like any challenger."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from logging import LogRecord
from multiprocessing.queues import Queue
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner

from configs.errors import TrainingError
from configs.redaction import safe_settings
from configs.settings import RetrainSettings
from configs.studies import SearchSettings
from flows.challenge import Clock, GateOutcome, train_and_gate
from flows.forms import with_form
from infra.leases import leased
from infra.lifeline import end_with_parent
from infra.locks import run_lock
from infra.pages import escaped
from infra.prefect_server import hearing_workers, send_records
from infra.storage import open_store
from tasks.datasets import DatasetRef, chosen_dataset, last_delivery
from tasks.outcome import headline_figures
from tasks.search import SearchRecord, StudyRef, best_settings
from tasks.stages import begin_search, check_gate, conclude_search, publish_failure_artifact, search_trials
from tasks.stages.endings import begin_summary, dated, ended, fails_with_a_sentence, summarise, summarise_retraining

__all__ = ["SearchSummary", "search"]


@dataclass(frozen=True)
class SearchSummary:
    """The result of a search. `recsys study search --json FILE` writes it to a file."""

    flow_run: str
    dataset: DatasetRef
    record: SearchRecord
    settings: RetrainSettings  # with the best trial's parameters
    challenge: GateOutcome | None  # None if the best settings did not enter the gate
    durations_s: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as a dictionary, without the store's credentials."""
        fields = {name: getattr(self, name) for name in ("flow_run", "durations_s")}
        parts = {"dataset": asdict(self.dataset), "record": self.record.to_dict()}
        settings = safe_settings(self.settings)
        return {**fields, **parts, "settings": settings, "challenge": self.challenge.to_dict() if self.challenge else None}


@with_form("model_name", "data.source", "challenger", "search.trials", "search.seconds", "store.url")
@flow(
    name="search",
    flow_run_name=dated("{settings.model_name} on {settings.data.dataset_name}"),
    on_failure=[publish_failure_artifact],
)
@fails_with_a_sentence
def search(settings: SearchSettings = SearchSettings(), dataset: str | None = None) -> SearchSummary:  # noqa: B008
    """Search on a dataset version.

    The best settings enter the gate. The model's run lock is held only for that challenge, so retrainings can run during the
    search, and several runs can share a study. The last of these runs to end enters the gate.

    Args:
        settings: Settings of the search.
        dataset: Dataset version `name/version`, by default the newest of the configured source.
    """
    begin_summary(f"Better settings of {settings.model_name} are searched for.")
    clock = Clock()
    chosen = chosen_dataset(dataset, settings.data, settings.store, settings.model_name)
    with leased(open_store(settings.store), f"a search for {settings.model_name}", [chosen.prefix]):
        if settings.search.enter_gate:
            clock("check", check_gate, chosen, settings)
        study = clock("begin", begin_search, chosen, settings)
        killed = clock("trials", _train_trials, chosen, study, settings)
        record = clock("conclude", conclude_search, chosen, study, settings)
    if killed is not None:
        said = f"A worker of the study {study.name} was killed, probably because the system ran out of memory."
        if record.ended < settings.search.trials:
            raise TrainingError(
                f"{said} Its trials are kept. To resume, run the search again with fewer search.workers or a smaller search.space."
            ) from killed
        get_run_logger().warning("%s The others trained all %d trials.", said, record.ended)
    best, outcome = best_settings(record, settings), None
    if settings.search.enter_gate and record.under_way:
        get_run_logger().info("%d trials are still running in other runs; the last run to end enters the gate", record.under_way)
    elif settings.search.enter_gate:
        with run_lock(settings.work_dir, settings.model_name, settings.search.gate_wait_s):
            outcome = train_and_gate(chosen, best, clock)
    summary = SearchSummary(str(flow_run.id), chosen, record, best, outcome, clock.seconds)
    trial = record.best_trial
    said = f"Trial {trial.number} of {len(record.trials)} is the best, with a valid NDCG@10 of {trial.value:.4f}."
    if outcome is None:
        summarise(f"## Search: {escaped(record.study)}\n\n{escaped(said)} The artifact `trials` shows every trial.\n", said)
        return ended("Searched", said, summary)
    found = outcome.retraining(chosen, last_delivery(open_store(settings.store), chosen), None, clock)
    answers = summarise_retraining(found, None, settings.store)
    name = f"{settings.model_name} {outcome.version.version}: {headline_figures(outcome.decision)}"
    return ended(outcome.decision.outcome.capitalize(), f"{said} {answers.message}", summary, name)


def _train_trials(dataset: DatasetRef, study: StudyRef, settings: SearchSettings) -> BrokenProcessPool | None:
    """Train the trials with one worker in this process, or with several workers in separate processes.

    Workers need separate processes because torch's random state is shared within a process. Returns the error if one was killed.
    The others may have trained its trials.
    """
    workers = settings.search.workers
    if workers == 1:
        search_trials(dataset, study, settings)
        return None
    killed = None
    with get_client(sync_client=True) as client:
        server = str(client.api_url)  # may be a temporary server of this process; without it, each worker would start its own
    with (
        temporary_settings({PREFECT_API_URL: server}),
        hearing_workers() as records,
        ProcessPoolTaskRunner(max_workers=workers, initializer=_begin_worker, initargs=(records,)) as pool,
    ):
        shared = {"dataset": dataset, "ref": study, "settings": settings}
        running = [pool.submit(search_trials, {**shared, "worker": worker}) for worker in range(workers)]
        try:
            for worker in running:
                worker.result()
        except BrokenProcessPool as error:
            killed = error
    return killed


def _begin_worker(records: Queue[LogRecord]) -> None:
    end_with_parent()
    send_records(records)


if __name__ == "__main__":
    print(search())
