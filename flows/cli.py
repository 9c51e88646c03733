"""`recsys`: the same product without the UI. Each command is a flow or reads the store."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.errors import RecsysError

if TYPE_CHECKING:
    from configs.settings import RetrainSettings
    from flows.retrain import RetrainSummary
    from tasks.promotions import Promotion

# Flows import torch, Prefect and pandas: they are imported by the command that runs them, so that --help is instant.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keeps a movie recommender fresh and safe: data, training, evaluation, gated promotion.",
)

Config = Annotated[
    list[str] | None,
    typer.Option(
        "--config", "-c", help="YAML file with settings, or the name of one that ships; may be repeated, the later win."
    ),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="One setting, as key=value; may be repeated.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result to this file for programs.")]


@app.command()
def retrain(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Run the whole story: etl, drift, training, evaluation, gate, promotion."""
    settings = _settings(config, set_)
    from flows.retrain import retrain as flow

    summary = flow(settings)
    _write_json(json_file, summary.to_dict())
    _print_summary(summary)


@app.command()
def etl(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Make a validated dataset version of the configured source."""
    settings = _settings(config, set_)
    from dataclasses import asdict

    from flows.etl import etl as flow

    dataset = flow(settings.data, settings.validation, settings.store)
    _write_json(json_file, asdict(dataset))
    typer.echo(
        f"{dataset.name}/{dataset.version}: {dataset.rows:,} interactions, {dataset.users:,} users, {dataset.items:,} items"
    )
    typer.echo(f"stored at {dataset.uri}")


@app.command()
def monitor(
    dataset: Annotated[
        str | None, typer.Option(help="Dataset version name/version; the newest of the source by default.")
    ] = None,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Measure drift of the newest events against the champion's reference."""
    settings = _settings(config, set_)
    from flows.monitor import monitor as flow

    result = flow(dataset, settings.model_name, settings.data, settings.drift, settings.store)
    _write_json(json_file, result.to_dict())
    rows = [[c.column, f"{c.distance:.4f}", f"{c.threshold:g}", "drifted" if c.drifted else "stable"] for c in result.columns]
    _table(["column", "distance", "threshold", "verdict"], rows)
    typer.echo(f"newest slice: {result.verdict}. {' '.join(result.reasons)}")


@app.command()
def train(
    dataset: Annotated[
        str | None, typer.Option(help="Dataset version name/version; the newest of the source by default.")
    ] = None,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Train and register the candidates without a decision; `promote` judges the version."""
    settings = _settings(config, set_)
    from dataclasses import asdict

    from flows.train import train as flow

    version = flow(settings, dataset)
    _write_json(json_file, asdict(version))
    typer.echo(f"{version.name} {version.version} is registered; `recsys promote {version.version}` judges it")


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Version to judge and promote.")],
    reason: Annotated[str, typer.Option(help="Why; needed with --force and kept in the log.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Promote although the gate holds it.")] = False,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Judge a stored version against the champion of now, and promote it if it passes."""
    settings = _settings(config, set_)
    from flows.promote import promote as flow

    _announce(flow(version, settings.model_name, reason, force, settings.promotion, settings.store), json_file)


@app.command()
def rollback(
    to: Annotated[str | None, typer.Option(help="Version to return to; the champion before this one by default.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the log.")] = "rolled back by hand",
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Return to an earlier champion, after it has been loaded and checked."""
    settings = _settings(config, set_)
    from flows.rollback import rollback as flow

    _announce(flow(to, reason, settings.model_name, settings.promotion, settings.store), json_file)


@app.command()
def models(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """List the registered versions; the champion is marked."""
    settings = _settings(config, set_)
    from dataclasses import asdict

    from infra.stores import open_store
    from tasks.promotions import champion
    from tasks.registry import list_versions

    store = open_store(settings.store)
    versions, current = list_versions(store, settings.model_name), champion(store, settings.model_name)
    best = current.version if current else None
    _write_json(json_file, {"champion": best, "versions": [asdict(version) for version in versions]})
    rows = [
        [
            "*" if ref.version == best else "",
            ref.version,
            ref.kind,
            ref.dataset,
            ref.protocol,
            f"{ref.metrics['hr@10']:.4f}",
            f"{ref.metrics['ndcg@10']:.4f}",
            ref.outcome,
        ]
        for ref in versions
    ]
    _table(["", "version", "model", "dataset", "protocol", "HR@10", "NDCG@10", "gate"], rows)
    typer.echo(f"champion of {settings.model_name}: {best or 'none yet; `recsys retrain` makes the first'}")


@app.command()
def show(
    version: Annotated[str, typer.Argument(help="Version, or `champion`.")],
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Show a version's lineage, files, promotions and the gate's decision."""
    settings = _settings(config, set_)
    from dataclasses import asdict

    from configs.errors import ChampionMissingError
    from infra.stores import open_store
    from tasks.promotions import champion, history
    from tasks.registry import model_ref, read_decision, read_manifest

    store = open_store(settings.store)
    name = settings.model_name
    if version == "champion":
        current = champion(store, name)
        if current is None:
            raise ChampionMissingError(f"{name} has no champion yet. `recsys retrain` makes the first.")
        version = current.version
    manifest, decision = read_manifest(store, name, version), read_decision(store, model_ref(store, name, version))
    entries = [entry for entry in history(store, name) if entry.version == version]
    _write_json(json_file, {"manifest": manifest, "decision": decision, "promotions": [asdict(entry) for entry in entries]})
    lineage = manifest["lineage"]
    facts = {
        "version": version,
        "created": manifest["created"],
        "gate": f"{manifest['outcome']} {' '.join(decision['reasons'])}".strip(),
    }
    facts |= {key: lineage[key] for key in ("kind", "dataset", "protocol", "seed", "duration_s", "git_commit", "python")}
    facts |= {"hardware": lineage["hardware"], "packages": lineage["packages"]}
    facts |= {"HR@10": f"{lineage['metrics']['hr@10']:.4f}", "NDCG@10": f"{lineage['metrics']['ndcg@10']:.4f}"}
    _table(["fact", "value"], [[key, _plain(value)] for key, value in facts.items()])
    _table(["file", "sha256"], [[file, digest] for file, digest in manifest["files"].items()])
    if entries:
        _table(
            ["promotion", "kind", "when", "who", "reason"], [[str(e.number), e.kind, e.when, e.who, e.reason] for e in entries]
        )


@app.command()
def datasets(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """List the stored dataset versions."""
    settings = _settings(config, set_)
    from dataclasses import asdict

    from infra.stores import open_store
    from tasks.datasets import list_datasets

    refs = list_datasets(open_store(settings.store))
    _write_json(json_file, [asdict(ref) for ref in refs])
    rows = [[f"{ref.name}/{ref.version}", f"{ref.rows:,}", f"{ref.users:,}", f"{ref.items:,}", str(ref.last)] for ref in refs]
    _table(["dataset", "interactions", "users", "items", "last event (UTC s)"], rows)


def main() -> None:
    """Run a command; what a person can mend ends as one paragraph and exit status 1."""
    logging.getLogger("prefect.flow_runs").addFilter(_without_traceback)
    logging.getLogger("prefect.task_runs").addFilter(_without_traceback)
    try:
        app()
    except RecsysError as error:
        typer.echo(f"\nerror: {error}", err=True)
        sys.exit(1)


def _without_traceback(record: logging.LogRecord) -> bool:
    """A mendable error is logged by its message; the traceback of a defect stays."""
    if record.exc_info and isinstance(record.exc_info[1], RecsysError):
        record.exc_info = None
    return True


def _settings(config: list[str] | None, overrides: list[str] | None) -> RetrainSettings:
    from configs.loading import load_settings
    from configs.settings import RetrainSettings

    return load_settings(RetrainSettings, config, overrides or ())


def _write_json(path: Path | None, content: Any) -> None:
    if path is None:
        return
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _announce(entry: Promotion, json_file: Path | None) -> None:
    from dataclasses import asdict

    _write_json(json_file, asdict(entry))
    typer.echo(
        f"{entry.name} {entry.version} is champion (promotion {entry.number}, {entry.kind}); before it {entry.previous or 'none'}"
    )


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
    _table(["model", *[name.upper() for name in shown], "NDCG@10, 95 % interval"], rows)
    rules = [
        [
            rule.name,
            "" if rule.figure is None else f"{rule.figure:.4g}",
            f"{rule.comparison} {rule.threshold:.4g}" if rule.threshold is not None else "",
            rule.verdict,
        ]
        for rule in decision.rules
    ]
    _table(["rule", "figure", "must be", "verdict"], rules)
    for reason in decision.reasons:
        typer.echo(f"- {reason}")
    typer.echo(f"\nverdict: {decision.outcome}. version {summary.version.version}, champion {summary.champion or 'none'}")
    typer.echo(f"stored at {summary.version.uri}")
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary.durations_s.items())
    typer.echo(f"{sum(summary.durations_s.values()):.0f} s: {stages}")


def _table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return str(value)


if __name__ == "__main__":
    main()
