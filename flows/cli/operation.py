"""The commands on top of `recsys` for operators: setup, prune, doctor, freeze and thaw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Config, Json, Set, say, settings_of, table, write_json
from infra.progress import stage

if TYPE_CHECKING:
    from infra.registry import Promotion

__all__ = ["app"]

PANEL = "Operate"
SIGNS = {"ok": "ok", "absent": "-", "slow": "SLOW", "broken": "BROKEN"}

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def setup(
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take over a server that belongs to another environment.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove deployments that an earlier setup made and that are no longer defined.")
    ] = False,
) -> None:
    """Set up a Prefect server, or bring it up to date.

    The command creates or updates work pools, queues, blocks, deployments with their schedules, and alerts. It changes nothing if
    the server is up to date.

    Example: recsys setup -c production
    """
    from infra.prefect_server import EnvironmentSettings

    settings = settings_of(config, set_, EnvironmentSettings)
    from dataclasses import asdict

    from infra.prefect_server import set_up

    with stage("setup"):
        changes = set_up(settings, take_over=take_over, prune=prune)
    write_json(json_file, [asdict(change) for change in changes])
    table(["", "name", "done"], [[change.kind, change.name, change.done] for change in changes])
    say(f"{sum(change.changed for change in changes)} of {len(changes)} changed in the environment {settings.environment}")


@app.command(rich_help_panel=PANEL)
def freeze(
    reason: Annotated[str, typer.Option(help="Reason, stored in the promotion log and shown to whoever tries to promote.")],
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Promote nothing and roll nothing out until `recsys thaw`.

    Serving goes on, and a rollback is still possible. The command works without Prefect.

    Example: recsys freeze --reason "checkout is broken, we look into it"
    """
    from infra.registry import freeze as write

    entry = _written(write, reason, config, set_, json_file)
    say(
        f"{entry.name} is frozen (promotion {entry.number}): nothing is promoted until `recsys thaw`. {entry.version} is still served"
    )


@app.command(rich_help_panel=PANEL)
def thaw(
    reason: Annotated[str, typer.Option(help="Reason, stored in the promotion log.")] = "thawed by hand",
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Let versions be promoted again after `recsys freeze`.

    A rollout that waited goes on. The command works without Prefect.

    Example: recsys thaw --reason "checkout works again"
    """
    from infra.registry import thaw as write

    entry = _written(write, reason, config, set_, json_file)
    say(f"{entry.name} is thawed (promotion {entry.number}): versions may be promoted again")


@app.command(rich_help_panel=PANEL)
def prune(
    experiments: Annotated[
        list[Path] | None, typer.Option(help="Experiments file of a server (YAML). Its versions stay. Repeatable.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it, the command only lists what would be deleted.")] = False,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Delete everything that is old and that nothing needs.

    Models, datasets, pages, logs of servers, exports and local run folders: `retention` says what stays. What lineage, a rollback or an
    erasure needs always stays. The deployment `housekeeping` does the same each day.

    Example: recsys prune --yes
    """
    settings = settings_of(config, set_)
    from datetime import UTC, datetime

    from configs.loading import load_settings
    from configs.serving import ExperimentFile
    from infra.storage import open_store
    from tasks.gate import served_versions
    from tasks.retention import apply_retention, plan_retention

    store, exports = open_store(settings.store), open_store(settings.export.destination(settings.store))
    files = (*settings.retention.experiments, *(experiments or ()))
    served = served_versions(load_settings(ExperimentFile, str(path)) for path in files)
    retention = settings.retention
    plan = plan_retention(
        store, retention, settings.landing, datetime.now(UTC), exports=exports, work_dir=settings.work_dir, served=served
    )
    with stage("deletion"):
        spared = apply_retention(store, plan, retention, exports=exports, served=served) if yes else []
    write_json(json_file, {**plan.to_dict(), "deleted": yes, "spared": spared})
    table(
        ["area", "goes", "stays"],
        [[each.area, f"{each.number:,} {each.what}", each.rule] for each in plan.rows(retention, settings.landing)],
    )
    for each in spared:
        say(f"- {each} has just come into use, so it stays")
    if not files:
        say("- This does not know which versions the experiments of your servers use. Name their files with --experiments.")
    say(f"{plan.said} {'deleted' if yes else 'would be deleted; delete them with --yes'}")


@app.command(rich_help_panel=PANEL)
def doctor(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Check the store, Prefect, Redis, the GPU and the packages.

    The exit status is 1 if one of them is broken, or does not answer in time.

    Example: recsys doctor --set store.url=s3://bucket/prefix
    """
    import atexit
    from dataclasses import asdict

    from configs.serving import ServingSettings
    from flows.cli.doctor import end_at_once, examine

    settings = settings_of(config, set_)
    serving = settings_of(None, None, ServingSettings)
    findings = examine(settings.store, settings.model_name, serving.redis)
    write_json(json_file, [asdict(finding) for finding in findings])
    for finding in findings:
        say(f"{SIGNS[finding.status]:<7} {finding.name}: {finding.said}")
    atexit.register(end_at_once)
    if any(finding.status in ("slow", "broken") for finding in findings):
        raise typer.Exit(1)


def _written(write: Callable[..., Promotion], reason: str, config: Config, set_: Set, json_file: Json) -> Promotion:
    """Write an entry of the promotion log, and the JSON file about it."""
    settings = settings_of(config, set_)
    from dataclasses import asdict
    from datetime import UTC, datetime

    from configs.errors import SettingsError
    from infra.storage import open_store

    if not reason.strip():
        raise SettingsError("Say why with --reason; the promotion log keeps it.")
    entry = write(open_store(settings.store), settings.model_name, reason=reason.strip(), now=datetime.now(UTC))
    write_json(json_file, asdict(entry))
    return entry
