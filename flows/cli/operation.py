"""The commands on top of `recsys` for operators: setup, doctor, freeze and thaw."""

from __future__ import annotations

from collections.abc import Callable
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
