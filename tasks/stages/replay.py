"""The stages of a replay as Prefect tasks. Each opens its inputs, calls the plain function, and shows the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from configs.studies import ReplaySettings
from infra.pages import utc_day
from infra.progress import step
from tasks.datasets import DatasetRef
from tasks.monitoring import DriftResult
from tasks.replay import (
    Replay,
    ReplayLog,
    ReplayPlan,
    Slice,
    SliceRecord,
    TrainingRecord,
    deliver,
    headline,
    keep_slice,
    plan_replay,
    replay_results,
    slice_line,
    write_report,
)
from tasks.stages.artifacts import happened, live_progress
from tasks.stages.task_options import NETWORK

__all__ = ["begin_replay", "deliver_slice", "keep_training", "record_slice", "report_replay", "slice_progress"]


@contextmanager
def slice_progress(plan: ReplayPlan) -> Iterator[Callable[[Slice], None]]:
    """Show in the Prefect UI how many slices are done, until all are."""
    slices = len(plan.slices)
    with live_progress("replay-progress", "The base is being processed") as shown:

        def done(part: Slice) -> None:
            shown(100 * (part.number + 1) / slices, f"{part.number} of {slices - 1} slices are done, until {utc_day(part.end)}")

        yield done


@task(name="begin replay", **NETWORK)
def begin_replay(settings: ReplaySettings) -> ReplayPlan:
    """Read and cut the release, or find the replay that was started before."""
    plan = plan_replay(settings)
    log = get_run_logger()
    base, last = plan.slices[0], plan.slices[-1]
    log.info("replay %s of %s in %s", plan.id, plan.source, plan.store.url)
    log.info(
        "base until %s: %s events; then %d slices until %s", utc_day(base.end), f"{base.rows:,}", last.number, utc_day(last.end)
    )
    return plan


@task(name="deliver slice", task_run_name="deliver slice {part.number}", cache_policy=NO_CACHE)
def deliver_slice(plan: ReplayPlan, part: Slice) -> None:
    """Put the slice's files into the landing zone."""
    delivered = deliver(part, plan.feed, plan.zone)
    get_run_logger().info("%s", ", ".join(path.name for path in delivered) or "nothing to deliver")


@task(name="record slice", task_run_name="record slice {part.number}", **NETWORK)
def record_slice(
    plan: ReplayPlan,
    part: Slice,
    dataset: DatasetRef,
    found: dict[str, DriftResult],
    settings: ReplaySettings,
    seconds: dict[str, float],
) -> SliceRecord:
    """Rank the slice's events with the current champions, and seal its record."""
    record = keep_slice(plan, part, dataset, found, settings, seconds)
    get_run_logger().info("%s", slice_line(plan, record), extra=step("replay", part.number, plan.slices[-1].number))
    return record


@task(name="keep training", task_run_name="{record.policy} after slice {record.slice}", **NETWORK)
def keep_training(plan: ReplayPlan, record: TrainingRecord) -> None:
    """Seal the record of a policy's training."""
    ReplayLog.of(plan).keep_training(record)
    happened(f"{record.policy} after slice {record.slice}: {record.outcome}")
    get_run_logger().info("%s retrained (%s) and was %s. %s", record.policy, record.why, record.outcome, " ".join(record.reasons))


@task(name="report replay", **NETWORK)
def report_replay(plan: ReplayPlan, settings: ReplaySettings) -> Replay:
    """Compare the policies, then store and show the page."""
    found = write_report(plan, replay_results(plan, settings))
    get_run_logger().info("replay %s: %s", found.id, headline(found))
    return found
