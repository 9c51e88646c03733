"""The commands on top of `recsys` that run the pipeline: init, retrain, etl and monitor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.data import Landing, run_etl, with_landing
from flows.cli.options import Config, Dataset, Json, Set, needs_prefect, records_table, say, settings_of, table, write_json
from flows.cli.outcome import print_answers, print_decision
from infra.progress import stage

if TYPE_CHECKING:
    from flows.retrain import RetrainSummary
    from tasks.evaluation import Evaluation
    from tasks.monitoring import DriftResult

__all__ = ["app"]

PANEL = "Run the pipeline"
STEPS = ("tasks.tables.models", "models.top_k", "evidently.metrics", "evidently.presets", "scipy.stats", "matplotlib.figure")
"""What the steps of a run import when they need it, for seconds."""

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def init(
    path: Annotated[Path, typer.Argument(help="File, folder or zip with your events.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Settings file to write. By default, the name of the events with .yaml.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the settings file if it exists.")] = False,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Look at your events, and propose a settings file for them.

    Nothing is asked. What the events leave open is a comment in the file, with the alternatives.

    Example: recsys init orders.csv
    """
    settings = settings_of(config, set_)
    from tasks.survey import (
        column_rows,
        dataset_of_champion,
        fact_rows,
        proposal_of,
        settings_file,
        survey_of,
        write_settings,
    )

    target = settings_file(path, out, force=force)
    with stage("survey"):
        found = survey_of(path)
    for each in found.tables:
        say(f"\n{each.table.name}: {each.what}")
        records_table(column_rows(each))
    facts = fact_rows(found)
    records_table(facts)
    proposed = proposal_of(found, path, dataset_of_champion(settings.store))
    for said in proposed.open:
        say(f"- open: {said}")
    for said in proposed.blocking:
        say(f"- to decide: {said}")
    write_settings(target, proposed.yaml(path), force=force)
    write_json(json_file, {"settings": str(target), "facts": facts, "open": [*proposed.blocking, *proposed.open]})
    if proposed.blocking:
        say(f"\nwritten to {target}. Decide what is named above in it, and then run `recsys retrain -c {target}`")
    else:
        say(f"\nwritten to {target}. Read it, and then run `recsys retrain -c {target}`")


@app.command(rich_help_panel=PANEL)
def retrain(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Run the complete pipeline, from events to a promotion.

    The steps are etl, drift checks, training, evaluation, gate and promotion.

    Example: recsys retrain -c ml-1m -c best --json summary.json
    """
    settings = settings_of(config, set_)
    needs_prefect("flows.retrain", *STEPS)
    from flows.retrain import retrain as flow

    summary = flow(settings)
    write_json(json_file, summary.to_dict())
    _print_summary(summary)


@app.command(rich_help_panel=PANEL)
def etl(
    landing: Landing = None,
    # `recsys data compact` and `recsys data retry` are the names of today.
    compact: Annotated[bool, typer.Option("--compact", hidden=True)] = False,
    retry_quarantined: Annotated[bool, typer.Option("--retry-quarantined", hidden=True)] = False,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Build a validated dataset version from a source.

    With a landing zone, its new files are added to the newest version. If they have no good row, the exit status is 1.

    Example: recsys etl --landing s3://bucket/events
    """
    settings = settings_of(config, with_landing(set_, landing))
    run_etl(settings, json_file, compact=compact, retry_quarantined=retry_quarantined)


@app.command(rich_help_panel=PANEL)
def monitor(dataset: Dataset = None, config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Measure drift, and how well the champion ranks new events.

    The newest events are compared with the reference that was sealed with the champion.

    Example: recsys monitor --set monitoring.clock=wall
    """
    settings = settings_of(config, set_)
    needs_prefect("flows.monitor", *STEPS)
    from flows.monitor import monitor as flow

    with stage("drift"):
        result = flow(
            dataset,
            settings.model_name,
            settings.data,
            settings.drift,
            settings.store,
            settings.monitoring,
            settings.when,
            settings.training,
        )
    write_json(json_file, result.to_dict())
    _print_drift(result)


def _print_summary(summary: RetrainSummary) -> None:
    evaluation, decision = summary.evaluation, summary.decision
    wanted = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr@10")
    shown = [name for name in wanted if name in evaluation.metrics[summary.version.kind]["all"]]
    say(f"\n{evaluation.requests} test requests of {evaluation.dataset}, full ranking under {evaluation.protocol}:")
    rows = [
        [
            model,
            *[f"{parts['all'][name]:.4f}" for name in shown],
            "{:.4f} to {:.4f}".format(*evaluation.intervals[model]["ndcg@10"]),
        ]
        for model, parts in evaluation.metrics.items()
    ]
    table(["model", *[name.upper() for name in shown], "NDCG@10, 95 % interval"], rows)
    _print_value(evaluation, summary.version.kind)
    print_decision(decision)
    say(f"\nverdict: {decision.outcome}. version {summary.version.version}, champion {summary.champion or 'none'}")
    say(f"stored at {summary.version.uri}")
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary.durations_s.items())
    say(f"{sum(summary.durations_s.values()):.0f} s: {stages}")
    print_answers(decision, summary.answers)


def _print_value(evaluation: Evaluation, challenger: str) -> None:
    from tasks.evaluation import value_rows

    say("Expected value, with 95 % intervals. It affects no decision and is based on these assumptions:")
    for assumption in evaluation.value.assumptions:
        say(f"- {assumption}")
    records_table(value_rows(evaluation.value, challenger))


def _print_drift(result: DriftResult) -> None:
    from tasks.monitoring import check_rows, live_rows

    shown = ["check", "effect", "matters above", "critical value", "p, Holm", "verdict", "in words"]
    table(shown, [[row[name] for name in shown] for row in check_rows(result)])
    if result.live is not None:
        records_table(live_rows(result.live))
    say(f"newest slice of {result.dataset}, {result.rows:,} events: {result.verdict}. {' '.join(result.reasons)}")
