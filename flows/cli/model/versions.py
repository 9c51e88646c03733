"""`recsys model`: the registered versions of a model, and the log of its promotions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import Config, Dataset, Json, Set, as_given, needs_prefect, plain, say, settings_of, table, write_json
from flows.cli.outcome import mirror_now
from flows.cli.terminal import current_display
from infra.progress import stage

if TYPE_CHECKING:
    from infra.registry import ModelRef, ModelRegistry, Promotion
    from tasks.evaluation import AuditReport

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="List, train, judge, promote and roll back versions.\n\nExample: recsys model list",
)
Version = Annotated[str, typer.Argument(help="Version or its beginning, or `latest`, `champion`, `previous`.")]


@app.command("list")
def list_(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """List the registered model versions.

    An asterisk marks the champion.

    Example: recsys model list --set model_name=movie-ranker
    """
    settings = settings_of(config, set_)
    from dataclasses import asdict

    from infra.registry import ModelRegistry
    from infra.storage import open_store

    store = open_store(settings.store)
    registry = ModelRegistry(store)
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
        say(f"- {reason}")
    none = f"none yet in {store.uri('')}; {_no_champion(settings.model_name, versions)}"
    say(as_given(f"champion of {settings.model_name}: {best or none}"))
    if entries and (frozen := entries[-1].frozen):
        say(f"frozen since {frozen.when} by {frozen.who}: {frozen.reason}; `recsys thaw` ends it")


@app.command()
def show(version: Version, config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Show a version's lineage, files, promotions and decisions.

    Example: recsys model show champion
    """
    settings = settings_of(config, set_)
    from dataclasses import asdict

    from infra.registry import ModelRegistry
    from infra.storage import open_store

    registry = ModelRegistry(open_store(settings.store))
    name = settings.model_name
    version = _resolved(registry, name, version)
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
def train(dataset: Dataset = None, config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Train and register a version without a gate decision.

    Use `recsys model promote` to judge the version.

    Example: recsys model train -c ml-1m -c best
    """
    settings = settings_of(config, set_)
    needs_prefect("flows.train")
    from dataclasses import asdict

    from flows.train import train as flow

    version = flow(settings, dataset)
    write_json(json_file, asdict(version))
    from configs.settings import model_option
    from infra.registry import ModelRegistry, short_name
    from infra.storage import open_store

    short = short_name(ModelRegistry(open_store(settings.store)), version.name, version.version)
    hint = f"`recsys model promote {short}{model_option(version.name)}`"
    say(as_given(f"{version.name} {short} is registered; judge it with {hint}"))


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Version to judge and promote, or its beginning, or `latest`.")],
    reason: Annotated[str, typer.Option(help="Reason, stored in the promotion log. Required with --force.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Promote the version even if the gate holds it.")] = False,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Judge a version, and promote it if it passes the gate.

    The gate is the version's own. It compares the version with the champion of now.

    Example: recsys model promote VERSION --force --reason "the champion is broken"
    """
    settings = settings_of(config, set_)
    if force and not reason.strip():
        from configs.errors import GateError

        raise GateError("A forced promotion needs a reason. Say why with --reason; the promotion log keeps it.")
    needs_prefect("flows.promote")
    from flows.promote import promote as flow

    with stage("promotion"):
        sections = settings.promotion, settings.store, settings.rollout, settings.tracking
        entry = flow(version, settings.model_name, reason, force, *sections)
    _announce(entry, json_file)


@app.command()
def rollback(
    to: Annotated[
        str | None, typer.Option(help="Version to return to, or its beginning. By default, the previous champion.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Reason, stored in the promotion log.")] = "rolled back by hand",
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Return to an earlier champion.

    It is loaded and checked first. A slow version is returned to with a warning. The command works without Prefect.

    Example: recsys model rollback --reason "clicks dropped"
    """
    settings = settings_of(config, set_)
    # Call the task's plain function instead of the flow: it takes a tenth of the time, and works when Prefect does not.
    from infra.storage import open_store
    from tasks.gate import roll_back

    with stage("rollback"):
        entry = roll_back(open_store(settings.store), settings.model_name, to, reason, settings.promotion)
    mirror_now(settings)
    _announce(entry, json_file)


@app.command()
def log(
    last: Annotated[int, typer.Option(min=1, help="Number of newest promotions to show.")] = 20,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Show who promoted which version, when and why.

    The newest promotion is the last. Its version is the champion.

    Example: recsys model log --last 5
    """
    settings = settings_of(config, set_)
    from dataclasses import asdict

    from infra.registry import ModelRegistry
    from infra.storage import open_store

    entries = ModelRegistry(open_store(settings.store)).history(settings.model_name)[-last:]
    write_json(json_file, [asdict(entry) for entry in entries])
    rows = [[str(entry.number), entry.kind, entry.version, entry.when, entry.who, entry.reason] for entry in entries]
    table(["promotion", "kind", "version", "when", "who", "reason"], rows, whole="version")
    for entry in entries:
        for warning in entry.warnings:
            say(f"- promotion {entry.number}: {warning}")


@app.command()
def prune(
    keep: Annotated[int | None, typer.Option(min=1, help="Number of newest versions to keep (retention.keep_versions).")] = None,
    experiments: Annotated[
        list[Path] | None, typer.Option(help="Experiments file of a server (YAML). Its versions stay. Repeatable.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also-keep", help="Version, or its beginning, that a server names in `versions`. Repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it, the command only lists what would be deleted.")] = False,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Delete versions that nothing needs, and other old files.

    Old drift pages and run folders in work_dir go, too. The champion stays, and so do champions that a rollback returns to, and
    versions that an experiment or a run uses.

    Example: recsys model prune --keep 5 --experiments experiments.yaml --yes
    """
    settings = settings_of(config, set_)
    from configs.loading import load_settings
    from configs.serving import ExperimentFile
    from infra.pages import count
    from infra.registry import ModelRegistry, find_version
    from infra.storage import open_store
    from tasks.gate import plan_model_prune, prune_models, served_versions

    store = open_store(settings.store)
    served = served_versions(load_settings(ExperimentFile, str(path)) for path in experiments or ())
    served |= {
        find_version(ModelRegistry(store), settings.model_name, version): "named with --also-keep" for version in also or ()
    }
    retention = settings.retention if keep is None else settings.retention.model_copy(update={"keep_versions": keep})
    plan = plan_model_prune(store, settings.model_name, retention, served, settings.work_dir)
    with stage("deletion"):
        spared = prune_models(store, plan, retention, served) if yes else []
    write_json(json_file, {**plan.to_dict(), "deleted": yes, "spared": spared})
    done = "deleted" if yes else "would be deleted"
    rows = [[version, "stays", why] for version, why in plan.kept.items()]
    rows += [[version, "stays", "has just come into use"] for version in spared]
    rows += [[version, done, "nothing uses it"] for version in plan.versions if version not in spared]
    rows += [[version, done, "was never sealed"] for version in plan.unsealed if version not in spared]
    table(["version", "", "why"], rows, whole="version")
    gone = len(plan.versions) + len(plan.unsealed) - len(spared)
    if plan.versions and not served:
        say("- This does not know which versions the experiments of your servers use. Name their files with --experiments.")
    say(
        f"{count(gone, 'version')}, {count(len(plan.pages), 'drift page')} and {count(len(plan.folders), 'run folder')} {done}"
        f"{'' if yes else '; delete them with --yes'}"
    )


@app.command()
def audit(
    version: Version,
    retrain: Annotated[bool, typer.Option("--retrain", help="Also train its settings under each order of events.")] = False,
    draws: Annotated[int, typer.Option(min=1, help="Number of random orders of tied events.")] = 5,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Show how much of a score comes from the protocol.

    The score is measured under other tie orders, with and without seen items, and at other request times.

    Example: recsys model audit champion --retrain
    """
    settings = settings_of(config, set_)
    from infra.registry import ModelRegistry
    from infra.storage import open_store
    from tasks.evaluation import audit_version

    store = open_store(settings.store)
    registry = ModelRegistry(store)
    ref = registry.version(settings.model_name, _resolved(registry, settings.model_name, version))
    seed = settings.promotion.bootstrap_seed
    with stage("audit"):
        report = audit_version(store, ref, retrain=retrain, draws=draws, seed=seed, report=current_display().message)
    write_json(json_file, report.to_dict())
    _print_audit(report)


def _announce(entry: Promotion, json_file: Path | None) -> None:
    from dataclasses import asdict

    write_json(json_file, asdict(entry))
    say(
        f"{entry.name} {entry.version} is champion (promotion {entry.number}, {entry.kind}); "
        f"the previous champion was {entry.previous or 'none'}"
    )
    if entry.rolling_out is not None:
        say("it serves a share of the users at first: `recsys rollout status` shows how far it is")
    for warning in entry.warnings:
        say(f"warning: {warning}", err=True)


def _print_audit(report: AuditReport) -> None:
    say(
        f"{report.model_name} {report.version} under {report.protocol} on {report.dataset}: {report.tied_share:.0%} of the "
        "histories' events share their second with a neighbouring event"
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
        say(f"- {finding}")


def _said(decision: dict[str, Any]) -> str:
    """Return the reasons of a hold, or the person who approved."""
    approval = decision["approval"]
    approved = f"approved by {approval['who']}{': ' + approval['note'] if approval['note'] else ''}" if approval else ""
    return " ".join(decision["reasons"]) or approved


def _resolved(registry: ModelRegistry, name: str, version: str) -> str:
    """Return the version that is meant. Raises the errors of `find_version`."""
    from configs.errors import ChampionMissingError
    from infra.registry import find_version

    if version != "champion":
        return find_version(registry, name, version)
    current = registry.champion(name)
    if current is None:
        raise ChampionMissingError(
            f"{name} has no champion yet in {registry.address}; {_no_champion(name, registry.versions(name, {}))}."
        )
    return current.version


def _no_champion(model_name: str, versions: Sequence[ModelRef]) -> str:
    """Return what helps a model without a champion, with the command."""
    from configs.settings import model_option
    from infra.version_names import short_version

    if not versions:
        option = model_option(model_name)
        return f"create the first with `recsys retrain{option}`"
    newest = max(versions, key=lambda each: each.version)
    named = f"{short_version(newest.version, [each.version for each in versions])}{model_option(newest.name)}"
    if newest.outcome == "held":
        return f"the newest version is held, and `recsys model show {named}` shows why"
    return f"judge the newest version with `recsys model promote {named}`"
