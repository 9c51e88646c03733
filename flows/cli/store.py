"""Commands of `recsys` for the store: list, show, audit and prune versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import Config, Json, Set, plain, settings_of, table, write_json

if TYPE_CHECKING:
    from infra.registry import ModelRegistry
    from tasks.datasets import LogEntry

__all__ = ["app", "show_accounts"]

app = typer.Typer()
datasets = typer.Typer(help="List the stored dataset versions. `prune` deletes the unused ones.\n\nExample: recsys datasets")
app.add_typer(datasets, name="datasets")


@app.command()
def models(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """List the registered model versions. An asterisk marks the champion.

    Example: recsys models --set model_name=movie-ranker
    """
    settings = settings_of(config, set_)
    from dataclasses import asdict

    from infra.registry import ModelRegistry
    from infra.storage import open_store

    registry = ModelRegistry(open_store(settings.store))
    damaged: dict[str, str] = {}
    versions = registry.versions(settings.model_name, damaged)
    entries = registry.history(settings.model_name)
    best = entries[-1].version if entries else None
    listed = {"champion": best, "versions": [asdict(version) for version in versions], "damaged": damaged}
    write_json(json_file, listed)
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
    table(["", "version", "model", "dataset", "protocol", "HR@10", "NDCG@10", "gate"], rows, whole="version")
    for reason in damaged.values():
        typer.echo(f"- {reason}")
    typer.echo(f"champion of {settings.model_name}: {best or 'none yet; create the first with `recsys retrain`'}")


@app.command()
def show(
    version: Annotated[str, typer.Argument(help="Version, or `champion`.")],
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Show a version's lineage, files, promotions and gate decisions.

    Example: recsys show champion
    """
    settings = settings_of(config, set_)
    from dataclasses import asdict

    from infra.registry import ModelRegistry
    from infra.storage import open_store

    registry = ModelRegistry(open_store(settings.store))
    name = settings.model_name
    version = _named(registry, name, version)
    manifest, decision = registry.manifest(name, version), registry.decision(registry.version(name, version))
    entries = [entry for entry in registry.history(name) if entry.version == version]
    later = registry.later_decisions(name, version)
    write_json(
        json_file,
        {
            "manifest": manifest,
            "decision": decision,
            "later_decisions": [{"when": when, **found} for when, found in later],
            "promotions": [asdict(entry) for entry in entries],
        },
    )
    lineage = manifest["lineage"]
    facts = {
        "version": version,
        "created": manifest["created"],
        "gate, when sealed": ": ".join(filter(None, [manifest["outcome"], " ".join(decision["reasons"])])),
    }
    facts |= {key: lineage[key] for key in ("kind", "dataset", "protocol", "seed", "duration_s", "git_commit", "python")}
    facts["training cost"] = "unknown" if lineage["cost"] is None else f"{lineage['cost']:.4f} USD"
    facts |= {"hardware": lineage["hardware"], "packages": lineage["packages"]}
    facts |= {"HR@10": f"{lineage['metrics']['hr@10']:.4f}", "NDCG@10": f"{lineage['metrics']['ndcg@10']:.4f}"}
    table(["fact", "value"], [[key, plain(value)] for key, value in facts.items()])
    table(["file", "sha256"], [[file, digest] for file, digest in manifest["files"].items()])
    if later:
        judged = [[when, found["outcome"], found["champion"] or "none", _said(found)] for when, found in later]
        table(["judged later (UTC)", "verdict", "against the champion", "in words"], judged)
    if entries:
        table(["promotion", "kind", "when", "who", "reason"], [[str(e.number), e.kind, e.when, e.who, e.reason] for e in entries])


@app.command()
def landing(
    last: Annotated[int, typer.Option(min=1, help="Number of newest runs to show.")] = 5,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Show what the runs over the landing zone added, file by file.

    Example: recsys landing --last 10 --set data.dataset=films
    """
    settings = settings_of(config, set_)
    from dataclasses import asdict

    from infra.storage import open_store
    from tasks.datasets import LandingLog

    entries = LandingLog(open_store(settings.store), settings.data.dataset_name).entries()[-last:]
    write_json(json_file, [{key: value for key, value in asdict(entry).items() if key != "manifest"} for entry in entries])
    show_accounts(entries)
    typer.echo(f"{settings.data.dataset_name}: {_complete_until(entries) if entries else 'nothing has landed yet'}")


def show_accounts(entries: list[LogEntry]) -> None:
    """Print each file and the outcome of its rows."""
    counts = ("rows", "accepted", "duplicates", "quarantined", "corrections", "late")
    rows = [
        [str(entry.number), account.file, account.kind, *(f"{getattr(account, name):,}" for name in counts), account.remarks]
        for entry in entries
        for account in entry.accounts
    ]
    table(["run", "file", "kind", *counts, "remarks"], rows)


def _complete_until(entries: list[LogEntry]) -> str:
    from datetime import UTC, datetime

    watermark = datetime.fromtimestamp(entries[-1].watermark, UTC)
    return f"version {entries[-1].version}, taken to be complete until {watermark:%Y-%m-%d %H:%M:%S} UTC (the watermark)"


@datasets.callback(invoke_without_command=True)
def list_versions(context: typer.Context, config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """List the stored dataset versions. `prune` deletes the unused ones.

    Example: recsys datasets
    """
    if context.invoked_subcommand is not None:
        return
    settings = settings_of(config, set_)
    from dataclasses import asdict

    from infra.storage import open_store
    from tasks.datasets import list_datasets

    refs = list_datasets(open_store(settings.store))
    write_json(json_file, [asdict(ref) for ref in refs])
    rows = [
        [f"{ref.name}/{ref.version}", f"{ref.rows:,}", f"{ref.users:,}", f"{ref.items:,}", str(ref.last), ", ".join(ref.parents)]
        for ref in refs
    ]
    table(["dataset", "interactions", "users", "items", "last event (UTC s)", "made from"], rows, whole="dataset")


@datasets.command()
def prune(
    keep: Annotated[
        int | None, typer.Option(min=1, help="Number of newest versions of each dataset to keep (landing.keep_versions).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the versions. Without it, the command only lists them.")] = False,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Delete dataset versions that are not among the newest and are not referenced in the store.

    Example: recsys datasets prune --keep 5 --yes
    """
    settings = settings_of(config, set_)
    from infra.storage import open_store
    from tasks.datasets import plan_prune, prune_versions

    store = open_store(settings.store)
    plan = plan_prune(store, keep or settings.landing.keep_versions)
    if yes:
        prune_versions(store, plan)
    write_json(json_file, {**plan.to_dict(), "deleted": yes})
    done = "deleted" if yes else "would be deleted"
    rows = [[version, "stays", why] for version, why in plan.kept.items()]
    table(["dataset", "", "why"], rows + [[version, done, "nothing refers to it"] for version in plan.versions], whole="dataset")
    typer.echo(f"{len(plan.versions)} versions, {len(plan.objects)} objects {done}{'' if yes else '; delete them with --yes'}")


@app.command()
def audit(
    version: Annotated[str, typer.Argument(help="Version, or `champion`.")],
    retrain: Annotated[bool, typer.Option("--retrain", help="Also train its settings under each order of events.")] = False,
    draws: Annotated[int, typer.Option(min=1, help="Number of random orders of tied events.")] = 5,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Show how much of a version's score comes from tie order, masking of seen items, and the target's time.

    Example: recsys audit champion --retrain
    """
    settings = settings_of(config, set_)
    from infra.registry import ModelRegistry
    from infra.storage import open_store
    from tasks.evaluation import audit_version

    store = open_store(settings.store)
    registry = ModelRegistry(store)
    ref = registry.version(settings.model_name, _named(registry, settings.model_name, version))
    report = audit_version(
        store, ref, retrain=retrain, draws=draws, seed=settings.promotion.seed, report=lambda line: typer.echo(line, err=True)
    )
    write_json(json_file, report.to_dict())
    typer.echo(
        f"{ref.name} {ref.version} under {report.protocol} on {report.dataset}: {report.tied_share:.0%} of the histories' events "
        "share their second with a neighbouring event"
    )
    table(
        ["switch", "NDCG@10 own", "switched", "difference", "95 % interval", "share"],
        [
            [
                effect.switch,
                f"{effect.ndcg_own:.4f}",
                f"{effect.ndcg_switched:.4f}",
                f"{effect.difference:+.4f}",
                "{:+.4f} to {:+.4f}".format(*effect.interval),
                f"{effect.share:+.0%}",
            ]
            for effect in report.effects
        ],
    )
    table(
        ["order of events", "seen items", "asked at", "ties in histories", "HR@10", "NDCG@10", "95 % interval", "MRR@10"],
        [
            [
                f"{row.order}{' (own)' if row.own else ''}",
                row.seen,
                row.request_time,
                row.ties,
                f"{row.metrics['hr@10']:.4f}",
                f"{row.metrics['ndcg@10']:.4f}",
                "{:.4f} to {:.4f}".format(*row.interval),
                f"{row.metrics['mrr@10']:.4f}",
            ]
            for row in report.rows
        ],
    )
    for finding in report.findings or ["No switch accounts for a tenth of the score."]:
        typer.echo(f"- {finding}")


def _said(decision: dict[str, Any]) -> str:
    """Return the reasons of a hold, or the person who approved."""
    approval = decision["approval"]
    approved = f"approved by {approval['who']}{': ' + approval['note'] if approval['note'] else ''}" if approval else ""
    return " ".join(decision["reasons"]) or approved


def _named(registry: ModelRegistry, name: str, version: str) -> str:
    """Return the version, with `champion` resolved.

    Raises:
        ChampionMissingError: `champion` was given, but nothing has been promoted yet.
    """
    from configs.errors import ChampionMissingError

    if version != "champion":
        return version
    current = registry.champion(name)
    if current is None:
        raise ChampionMissingError(f"{name} has no champion yet. Create the first with `recsys retrain`.")
    return current.version
