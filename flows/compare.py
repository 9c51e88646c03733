"""compare: train several models with several seeds on one dataset version, and test which ones are better."""

from __future__ import annotations

from typing import Any

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from configs.errors import ComparisonError, NotFoundError, SettingsError
from configs.extras import install_command
from configs.studies import CompareSettings
from flows.etl import etl
from flows.forms import with_form
from infra import progress
from infra.leases import leased
from infra.locks import run_lock
from infra.storage import open_store
from tasks.comparison import (
    Failure,
    IncompleteComparisonError,
    ModelComparison,
    begin_comparison,
    headline,
    missing_runs,
    pinned_dataset,
    render_markdown,
)
from tasks.datasets import DatasetRef, chosen_dataset
from tasks.stages import compare_entry, page_lines, publish_failure_artifact, report_comparison, started_runs, wait_for_end
from tasks.stages.endings import begin_summary, dated, ended, fails_with_a_sentence, summarise

__all__ = ["compare"]

POLL_S = 2.0


@with_form("data.source", "data.local_path", "dataset", "reference", "runner", "max_parallel", "store.url")
@flow(name="compare", flow_run_name=dated("{settings.data.dataset_name}"), on_failure=[publish_failure_artifact])
@fails_with_a_sentence
def compare(settings: CompareSettings = CompareSettings()) -> ModelComparison:  # noqa: B008
    """Do the missing runs, and report on all runs.

    Raises:
        IncompleteComparisonError: Some runs failed. It is raised after the report is written.
    """
    begin_summary("Models are trained with several seeds, and compared.")
    dataset = _dataset(settings)
    comparison = begin_comparison(open_store(settings.store), dataset, settings)
    lease = leased(open_store(settings.store), f"the comparison {comparison}", [dataset.prefix])
    with run_lock(settings.work_dir, f"comparison-{comparison}"), lease:
        runs = comparison_runs.with_options(task_runner=_task_runner(settings))
        failures = runs(comparison, dataset, settings)
        found = report_comparison(comparison, dataset, failures, settings)
    said = headline(found)
    summarise(render_markdown(found, page_lines({"The comparison, with every figure": found.page}, settings.store)), said)
    if failures:
        reasons = " ".join(f"{failed.entry} seed {failed.seed}: {failed.reason}" for failed in failures)
        raise IncompleteComparisonError(
            f"{len(failures)} of the runs of comparison {comparison} failed. {reasons} The others are reported at {found.page}. "
            f"To do only the missing runs, start it again with --set id={comparison}.",
            found,
        )
    return ended("Compared", said, found)


@flow(name="comparison-runs")
def comparison_runs(comparison: str, dataset: DatasetRef, settings: CompareSettings) -> list[Failure]:
    """Do the runs that are not stored yet, and return those that failed."""
    run: Task[..., Any] = deploy_entry if settings.runner == "deployments" else compare_entry
    missing = missing_runs(open_store(settings.store), comparison, settings)
    futures = [(entry.name, seed, run.submit(comparison, entry.name, seed, dataset, settings)) for entry, seed in missing]
    failures: list[Failure] = []
    for number, (entry, seed, future) in enumerate(futures, start=1):
        error = future.result(raise_on_failure=False)
        progress.report("runs", number, len(futures), f"{number} of {len(futures)} runs are done")
        if isinstance(error, BaseException):
            failures.append(Failure(entry, seed, str(error) or type(error).__name__))
    return failures


@task(name="deploy entry", task_run_name="{entry} seed {seed}", cache_policy=NO_CACHE)
def deploy_entry(comparison: str, entry: str, seed: int, dataset: DatasetRef, settings: CompareSettings) -> None:
    """Do one run of a comparison as a run of the deployment, and wait for it. The result is passed through the store."""
    parameters = {"comparison": comparison, "entry": entry, "seed": seed, "dataset": f"{dataset.name}/{dataset.version}"}
    runs = started_runs(settings.deployment, settings, parameters, f"{comparison}-{entry}-{seed}")
    # A comparison that resumes finds the run that it has already started, and replaces one that failed.
    found = next(run for run in runs if run.state is None or not run.state.is_final() or run.state.is_completed())
    ended = wait_for_end(found, POLL_S)
    if ended.state is None or not ended.state.is_completed():
        raise ComparisonError(f"the flow run {ended.name} of {settings.deployment} ended as {ended.state}")


def _dataset(settings: CompareSettings) -> DatasetRef:
    """Return the dataset version of the comparison.

    It is the configured version, or the one that the comparison started with, or the newest of the source. If there is none, it
    is built.
    """
    wanted = pinned_dataset(open_store(settings.store), settings)
    try:
        return chosen_dataset(wanted, settings.data, settings.store)
    except NotFoundError:
        if wanted is not None:
            raise
        return etl(settings.data, settings.validation, settings.store, settings.etl, settings.landing)


def _task_runner(settings: CompareSettings) -> TaskRunner[Any]:
    """Return the task runner for `comparison_runs`.

    Raises:
        SettingsError: The runner is Dask, but prefect-dask is not installed.
    """
    if settings.runner != "dask":
        return ThreadPoolTaskRunner(max_workers=settings.max_parallel)
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise SettingsError(
            f"runner is dask, but prefect-dask is not installed. Install it with `{install_command('dask')}`, or set runner to "
            "threads."
        ) from error
    if settings.dask_address is not None:
        return DaskTaskRunner(address=settings.dask_address)
    local = {"n_workers": settings.max_parallel, "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=local)


if __name__ == "__main__":
    print(compare())
