"""`recsys experiment`: check, assign and report on experiments on live traffic."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Config, Json, Set, records_table, say, settings_of, table, writable, write_json, write_output
from infra.progress import stage

if TYPE_CHECKING:
    from configs.serving import Experiment, ExperimentFile

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Check, assign and report on A/B tests on live traffic.\n\n"
    "Example: recsys experiment list --experiments experiments.yaml",
)
Experiments = Annotated[Path, typer.Option("--experiments", help="YAML file of experiments.")]


@app.command("list")
def list_(experiments: Experiments, json_file: Json = None) -> None:
    """List the experiments and shadow versions of a file.

    The file is validated.

    Example: recsys experiment list --experiments experiments.yaml
    """
    file = _file(experiments)
    write_json(json_file, file.model_dump(mode="json"))
    rows = [
        [
            each.name,
            each.revision,
            ", ".join(f"{arm.name} {share:.0%} {arm.version}" for arm, share in zip(each.arms, each.shares, strict=True)),
            f"{each.users[0]:g} to {each.users[1]:g}",
            " to ".join("open" if time is None else time.isoformat() for time in (each.during.start, each.during.end)),
            "active" if each.active else "off",
        ]
        for each in file.experiments
    ]
    table(["experiment", "revision", "arms (the first is the control)", "users", "during", ""], rows)
    for shadow in file.shadow:
        say(f"shadow: {shadow.version} for {shadow.share:.0%} of the users")


@app.command()
def assign(
    experiments: Experiments,
    users: Annotated[list[str], typer.Argument(help="User ids.")],
    at: Annotated[datetime | None, typer.Option(help="UTC time. By default, now.")] = None,
    json_file: Json = None,
) -> None:
    """Show the experiment, arm and model version of users.

    Example: recsys experiment assign 17 42 --experiments experiments.yaml
    """
    from dataclasses import asdict

    from serving.experiments import Experiments as Assigner

    assigner, now = Assigner(_file(experiments)), _seconds(at)
    found = {user: assigner.assign(user, now) for user in users}
    write_json(json_file, {user: asdict(each) for user, each in found.items()})
    rows = [
        [user, each.experiment or "none", each.arm or "", each.version, ", ".join(each.shadow)] for user, each in found.items()
    ]
    table(["user", "experiment", "arm", "version", "shadow"], rows, whole="version")


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="Name of the experiment.")],
    experiments: Experiments,
    outcomes: Annotated[
        Path | None,
        typer.Option(
            help=".csv, .parquet or .jsonl file with user_id, timestamp, and optionally item_id, value, request_id, kind, "
            "outcome_id. It is added to the outcomes that the API has stored."
        ),
    ] = None,
    exposures: Annotated[
        Path | None, typer.Option(help="File or folder of the exposure log. By default, the exposures in the store.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(help="UTC time up to which exposures and outcomes are complete. By default, as far as both have data."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(callback=writable, help="Also write the report to this file as an HTML page.")
    ] = None,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Compare the arms of an experiment.

    Exposures are joined with outcomes, and the quality of the data is checked. The intervals are valid at all times, so you can run the report as often as you like.

    Example: recsys experiment report longer-memory --experiments experiments.yaml --outcomes outcomes.csv
    """
    experiment = _named(_file(experiments), name, experiments)
    until = None if as_of is None else _past(as_of)
    from infra.pages import utc_minute
    from infra.storage import open_store
    from serving.experiments import (
        all_outcomes,
        arm_rows,
        check_rows,
        logged_exposures,
        render_html,
        report_experiment,
        versus_rows,
        waiting_exposures,
        waiting_outcomes,
    )

    store = open_store(settings_of(config, set_).store)
    with stage("experiment"):
        logged = logged_exposures(store, exposures)
        found = report_experiment(experiment, logged, all_outcomes(store, outcomes), as_of=until)
    write_json(json_file, found.to_dict())
    for rows in (check_rows(found), arm_rows(found), versus_rows(found)):
        records_table(rows)
    for shadow in found.shadow:
        overlap = "" if shadow.overlap is None else f", {shadow.overlap:.0%} of its lists also shown"
        say(f"shadow {shadow.version}: {shadow.answers:,} answers{overlap}")
    say(f"measured: {found.outcome}; data up to {utc_minute(found.as_of)}, {found.as_of_is}")
    if exposures is None and (note := waiting_exposures()):
        say(f"Not included: {note}.")
    if note := waiting_outcomes():
        say(f"Outcomes that may be missing: {note}.")
    say(f"\n{found.experiment} ({found.revision}): {found.verdict}")
    if page is not None:
        write_output(page, render_html(found))
        say(f"page: {page}")


@app.command()
def estimate(
    version: Annotated[str, typer.Argument(help="Version that answers as a shadow, or the beginning of its name.")],
    experiments: Experiments,
    outcomes: Annotated[
        Path | None, typer.Option(help="File of outcomes, as for `report`. It is added to the outcomes that the API has stored.")
    ] = None,
    exposures: Annotated[
        Path | None, typer.Option(help="File or folder of the exposure log. By default, the exposures in the store.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(callback=writable, help="Also write the estimates to this file as an HTML page.")
    ] = None,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Estimate what a version would earn, before it is shown.

    The version answers as a shadow. What users did with the lists that were shown is weighted by the probability of showing each item (`exploration`, or `propensities` of an experiment).

    Example: recsys experiment estimate 20261124 --experiments experiments.yaml
    """
    from infra.storage import open_store
    from serving.experiments import (
        all_outcomes,
        estimate_rows,
        logged_exposures,
        render_estimate,
        report_off_policy,
    )

    analysis = _file(experiments).estimated_by
    store = open_store(settings_of(config, set_).store)
    with stage("experiment"):
        logged = logged_exposures(store, exposures)
        found = report_off_policy(version, logged, all_outcomes(store, outcomes), analysis)
    write_json(json_file, found.to_dict())
    records_table(estimate_rows(found))
    say(
        f"measured: {found.outcome}; {found.requests:,} requests of {found.users:,} users, worth {found.effective_users:,.0f} users; "
        f"{found.overlap:.1%} of the items of {found.version} may have been shown"
    )
    say(f"\n{found.verdict}")
    if page is not None:
        write_output(page, render_estimate(found))
        say(f"page: {page}")


def _file(path: Path) -> ExperimentFile:
    from configs.loading import load_settings
    from configs.serving import ExperimentFile

    return load_settings(ExperimentFile, str(path))


def _named(file: ExperimentFile, name: str, path: Path) -> Experiment:
    from configs.errors import SettingsError

    for each in file.experiments:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in file.experiments) or "none"
    raise SettingsError(f"{path} has no experiment {name!r}. Its experiments are: {known}.")


def _past(as_of: datetime) -> int:
    """Return the time in UTC seconds, if data can be complete up to it."""
    from configs.errors import SettingsError

    until = _seconds(as_of)
    if until > _seconds(None):
        raise SettingsError(
            f"--as-of {as_of:%Y-%m-%d %H:%M} UTC lies in the future: no data is complete up to then. Give an earlier time."
        )
    return until


def _seconds(at: datetime | None) -> int:
    from datetime import UTC

    return int((datetime.now(UTC) if at is None else at.replace(tzinfo=UTC)).timestamp())
