"""The command line `recsys`: the product without the UI. Each command runs a flow or reads the store."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import RecsysError
from flows.cli import experiment, gpu, inspection, serve
from flows.cli import open as opened
from flows.cli import setup as operations
from flows.cli import store as stored
from flows.cli.options import Config, Dataset, Json, Set, plain, settings_of, table, write_json

if TYPE_CHECKING:
    from flows.retrain import RetrainSummary
    from flows.search import SearchSummary
    from infra.registry import Promotion
    from tasks.comparison import Comparison
    from tasks.evaluation import Evaluation
    from tasks.monitoring import DriftResult
    from tasks.replay import Replay

# Flows import torch, Prefect and pandas. Each command imports its flow when it runs, so that --help is instant.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="MLOps for a movie recommender: data, training, evaluation, gated promotion and serving.",
)
app.add_typer(stored.app)
app.add_typer(opened.app)
app.add_typer(operations.app)
app.add_typer(experiment.app, name="experiment")
app.add_typer(serve.app)
app.add_typer(inspection.app)
app.add_typer(inspection.config, name="config")
app.add_typer(gpu.app, name="gpu")


@app.callback(invoke_without_command=True)
def recsys(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"recsys {installed('movielens-recsys')}")
        raise typer.Exit


@app.command()
def retrain(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Run the complete pipeline: etl, drift checks, training, evaluation, gate and promotion.

    Example: recsys retrain -c ml-1m -c best --json summary.json
    """
    settings = settings_of(config, set_)
    from flows.retrain import retrain as flow

    summary = flow(settings)
    write_json(json_file, summary.to_dict())
    _print_summary(summary)


@app.command()
def etl(
    landing: Annotated[str | None, typer.Option(help="Landing zone (data.landing): folder or s3://bucket/prefix.")] = None,
    compact: Annotated[bool, typer.Option("--compact", help="Compact the parts of the newest version into one.")] = False,
    retry_quarantined: Annotated[bool, typer.Option("--retry-quarantined", help="Retry files quarantined as a whole.")] = False,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Build a validated dataset version from the configured source, or add the new files of a landing zone.

    Example: recsys etl --landing s3://bucket/events
    """
    settings = settings_of(config, [*(set_ or []), *([f"data.landing={json.dumps(landing)}"] if landing else [])])
    from dataclasses import asdict

    from flows.etl import etl as flow
    from infra.storage import open_store
    from tasks.datasets import LandingLog

    log = LandingLog(open_store(settings.store), settings.data.dataset_name)
    head = log.head() if settings.data.landing else None
    dataset = flow(settings.data, settings.validation, settings.store, settings.etl, settings.landing, compact, retry_quarantined)
    write_json(json_file, asdict(dataset))
    if settings.data.landing:
        stored.show_accounts(log.entries(after=head.number if head else 0))
    typer.echo(
        f"{dataset.name}/{dataset.version}: {dataset.rows:,} interactions, {dataset.users:,} users, {dataset.items:,} items"
    )
    typer.echo(f"stored at {dataset.uri}")


@app.command()
def monitor(dataset: Dataset = None, config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Measure the drift of the newest events against the champion's reference, and how well the champion ranks them.

    Example: recsys monitor --set monitoring.clock=wall
    """
    settings = settings_of(config, set_)
    from flows.monitor import monitor as flow

    result = flow(dataset, settings.model_name, settings.data, settings.drift, settings.store, settings.monitoring)
    write_json(json_file, result.to_dict())
    _print_drift(result)


@app.command()
def train(dataset: Dataset = None, config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Train and register the candidates without a gate decision. Use `promote` to judge the version.

    Example: recsys train -c ml-1m -c best
    """
    settings = settings_of(config, set_)
    from dataclasses import asdict

    from flows.train import train as flow

    version = flow(settings, dataset)
    assert version is not None, "without hand_over the version is registered"
    write_json(json_file, asdict(version))
    typer.echo(
        f"{version.name} {version.version} is registered; judge it with `recsys promote {version.version}{_named(version.name)}`"
    )


@app.command()
def search(dataset: Dataset = None, config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Search for better settings of SS4Rec. The best model enters the gate. Run the same command again to resume.

    Example: recsys search --set search.trials=60 --set search.workers=2
    """
    from configs.studies import SearchSettings

    settings = settings_of(config, set_, SearchSettings)
    from flows.search import search as flow

    summary = flow(settings, dataset)
    write_json(json_file, summary.to_dict())
    _print_search(summary)


@app.command()
def compare(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Train several models with several seeds, and test which ones are better. `-c compare` includes the paper's preset.

    Example: recsys compare -c compare --set max_parallel=2
    """
    from configs.studies import CompareSettings

    settings = settings_of(config, set_, CompareSettings)
    from flows.compare import compare as flow
    from tasks.comparison import IncompleteComparisonError

    try:
        comparison = flow(settings)
    except IncompleteComparisonError as error:
        write_json(json_file, error.comparison.to_dict())
        _print_comparison(error.comparison)
        raise
    write_json(json_file, comparison.to_dict())
    _print_comparison(comparison)


@app.command()
def replay(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Replay the history of a dataset slice by slice, and report the value of each retraining policy. Run again to resume.

    Example: recsys replay --set slices=month --set base_slices=2
    """
    from configs.studies import ReplaySettings

    settings = settings_of(config, set_, ReplaySettings)
    from flows.replay import replay as flow

    found = flow(settings)
    write_json(json_file, found.to_dict())
    _print_replay(found)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Version to judge and promote.")],
    reason: Annotated[str, typer.Option(help="Reason, stored in the promotion log. Required with --force.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Promote the version even if the gate holds it.")] = False,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Judge a stored version against the current champion by the version's own gate, and promote it if it passes.

    Example: recsys promote VERSION --force --reason "the champion is broken"
    """
    settings = settings_of(config, set_)
    from flows.promote import promote as flow

    _announce(flow(version, settings.model_name, reason, force, settings.promotion, settings.store), json_file)


@app.command()
def rollback(
    to: Annotated[str | None, typer.Option(help="Version to return to. By default, the previous champion.")] = None,
    reason: Annotated[str, typer.Option(help="Reason, stored in the promotion log.")] = "rolled back by hand",
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Return to an earlier champion, after it has been loaded and checked. Works without Prefect.

    Example: recsys rollback --reason "clicks dropped"
    """
    settings = settings_of(config, set_)
    # Call the task's plain function instead of the flow: it takes a tenth of the time, and works when Prefect does not.
    from infra.storage import open_store
    from tasks.gate import roll_back

    _announce(roll_back(open_store(settings.store), settings.model_name, to, reason, settings.promotion), json_file)


@app.command()
def demo(config: Config = None, set_: Set = None) -> None:
    """Show explained recommendations, versions, decisions, drift and experiments in the browser (extra `demo`).

    Example: recsys demo --set api_url=http://127.0.0.1:8000
    """
    from configs.serving import DemoSettings

    settings = settings_of(config, set_, DemoSettings)
    from serving.demo import run

    typer.echo(f"The demo is at http://{settings.host}:{settings.port} until you stop it.")
    run(settings)


def main() -> None:
    """Run a command. An error that the user can fix ends with one paragraph and exit status 1."""
    logging.getLogger("prefect.flow_runs").addFilter(_without_traceback)
    logging.getLogger("prefect.task_runs").addFilter(_without_traceback)
    try:
        app()
    except RecsysError as error:
        typer.echo(f"\nerror: {error}", err=True)
        sys.exit(1)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Remove the traceback from the log record of an error that the user can fix. Defects keep their traceback."""
    if record.exc_info and isinstance(record.exc_info[1], RecsysError):
        record.exc_info = None
    return True


def _named(model_name: str) -> str:
    """Return the option that a command needs besides the version, or an empty string for the default model name."""
    from configs.settings import RetrainSettings

    return "" if model_name == RetrainSettings().model_name else f" --set model_name={model_name}"


def _announce(entry: Promotion, json_file: Path | None) -> None:
    from dataclasses import asdict

    write_json(json_file, asdict(entry))
    typer.echo(
        f"{entry.name} {entry.version} is champion (promotion {entry.number}, {entry.kind}); "
        f"the previous champion was {entry.previous or 'none'}"
    )


def _print_drift(result: DriftResult) -> None:
    from tasks.monitoring import check_rows, live_rows

    shown = ["check", "effect", "matters above", "chance reaches", "p, Holm", "verdict", "in words"]
    table(shown, [[row[name] for name in shown] for row in check_rows(result)])
    if result.live is not None:
        found = live_rows(result.live)
        table(list(found[0]), [list(row.values()) for row in found])
    typer.echo(f"newest slice of {result.dataset}, {result.rows:,} events: {result.verdict}. {' '.join(result.reasons)}")


def _print_comparison(comparison: Comparison) -> None:
    from tasks.comparison import headline, result_rows

    typer.echo(f"\n{comparison.requests} test requests of {comparison.dataset}, full ranking under {comparison.protocol}:")
    rows = result_rows(comparison)
    if rows:
        table(list(rows[0]), [list(row.values()) for row in rows])
        names = [entry.name for entry in comparison.entries]
        cells = {name: [comparison.cell(name, other) for other in names] for name in names}
        typer.echo(f"NDCG@10 of the row minus the column, with Holm-corrected p; * is significant at {comparison.alpha:g}:")
        table(
            ["", *names],
            [
                [
                    name,
                    *[
                        "" if c is None else f"{c.difference:+.4f} p {c.adjusted:.4f}{' *' if c.shown else ''}"
                        for c in cells[name]
                    ],
                ]
                for name in names
            ],
        )
    typer.echo(headline(comparison))
    typer.echo(f"comparison {comparison.id}: {comparison.page}")


def _print_replay(found: Replay) -> None:
    from tasks.replay import difference_rows, headline, policy_rows

    for rows in (policy_rows(found), difference_rows(found)):
        if rows:
            table(list(rows[0]), [list(row.values()) for row in rows])
    typer.echo(headline(found))
    typer.echo(f"replay {found.id}: {found.page}")


def _print_summary(summary: RetrainSummary) -> None:
    evaluation, decision = summary.evaluation, summary.decision
    wanted = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr@10")
    shown = [name for name in wanted if name in evaluation.metrics["ss4rec"]["all"]]
    typer.echo(f"\n{evaluation.requests} test requests of {evaluation.dataset}, full ranking under {evaluation.protocol}:")
    rows = [
        [
            model,
            *[f"{parts['all'][name]:.4f}" for name in shown],
            "{:.4f} to {:.4f}".format(*evaluation.intervals[model]["ndcg@10"]),
        ]
        for model, parts in evaluation.metrics.items()
    ]
    table(["model", *[name.upper() for name in shown], "NDCG@10, 95 % interval"], rows)
    _print_value(evaluation)
    rules = [[rule.name, rule.shown_figure, rule.shown_bound, rule.verdict] for rule in decision.rules]
    table(["rule", "figure", "must be", "verdict"], rules)
    for reason in decision.reasons:
        typer.echo(f"- {reason}")
    typer.echo(f"\nverdict: {decision.outcome}. version {summary.version.version}, champion {summary.champion or 'none'}")
    typer.echo(f"stored at {summary.version.uri}")
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary.durations_s.items())
    typer.echo(f"{sum(summary.durations_s.values()):.0f} s: {stages}")


def _print_value(evaluation: Evaluation) -> None:
    from tasks.evaluation import value_rows

    rows = value_rows(evaluation.value, "ss4rec")
    typer.echo("Expected value, with 95 % intervals. It affects no decision and is based on these assumptions:")
    for assumption in evaluation.value.assumptions:
        typer.echo(f"- {assumption}")
    table(list(rows[0]), [list(row.values()) for row in rows])


def _print_search(summary: SearchSummary) -> None:
    import yaml

    record, best = summary.record, summary.record.best_trial
    typer.echo(f"\n{len(record.trials)} trials of {record.study} on {record.dataset}, valid NDCG@10 under {record.protocol}:")
    rows = [
        [
            str(trial.number),
            trial.state,
            "" if trial.value is None else f"{trial.value:.4f}",
            f"{trial.best_epoch or '-'} of {trial.epochs}",
            "" if trial.seconds is None else f"{trial.seconds:.0f}",
            trial.reason or plain({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in trial.parameters.items()}),
        ]
        for trial in record.trials
    ]
    table(["trial", "state", "NDCG@10", "best epoch", "seconds", "parameters, or why it failed"], rows)
    typer.echo(f"best: trial {best.number}, valid NDCG@10 {best.value:.4f}. Its settings, as a file for --config:\n")
    settings = summary.settings
    chosen = {
        key: value
        for key, value in settings.models.ss4rec.model_dump(mode="json").items()
        if key in best.parameters or key in settings.models.ss4rec.model_dump(exclude_defaults=True)
    }
    assert settings.searched is not None
    content = {"models": {"ss4rec": chosen}, "searched": settings.searched.model_dump(mode="json")}
    typer.echo(yaml.safe_dump(content, sort_keys=False))
    if summary.challenge is None:
        typer.echo("The best settings have not entered the gate.")
        return
    decision = summary.challenge.decision
    for reason in decision.reasons:
        typer.echo(f"- {reason}")
    typer.echo(
        f"verdict: {decision.outcome}. version {summary.challenge.version.version}, "
        f"champion {summary.challenge.champion or 'none'}"
    )
