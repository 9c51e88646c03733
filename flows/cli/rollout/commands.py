"""`recsys rollout`: how far a new champion is rolled out, and the steps that a person takes. Prefect is not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Config, Json, Set, as_given, records_table, say, settings_of, write_json
from flows.cli.outcome import mirror_now
from infra.progress import stage

if TYPE_CHECKING:
    from configs.settings import RetrainSettings
    from infra.registry import Promotion
    from tasks.rollout import Standing, Watch

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Watch, advance and abort the rollout of a new champion.\n\nExample: recsys rollout status",
)


@app.command()
def status(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Show the stage, how both versions compare, and each worker.

    Nothing is changed.

    Example: recsys rollout status --json status.json
    """
    settings = settings_of(config, set_)
    standing = _watch(settings).look()
    if standing is None:
        write_json(json_file, None)
        say(f"no rollout of {settings.model_name} is under way")
        return
    _show(standing)
    from dataclasses import asdict

    write_json(json_file, asdict(standing) | {"settings": standing.settings.model_dump(mode="json")})


@app.command()
def watch(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Watch the rollout until it has ended, and take its steps.

    The deployment `rollout` does the same in Prefect. Both may run at once.

    Example: recsys rollout watch
    """
    settings = settings_of(config, set_)
    import time

    watching, said, last = _watch(settings), "", None
    with stage("rollout"):
        while (standing := watching.look()) is not None:
            from tasks.rollout import sentence

            if standing.move in ("wait", "ask"):
                if (now := f"{standing.move} {standing.rollout.stage}") != said:
                    say(as_given(sentence(standing)))
                said = now
                watching.write_page(standing)
                time.sleep(standing.settings.look_s)
                continue
            if (last := watching.step(standing)) is not None:
                _announce(last)
                mirror_now(settings)
    write_json(json_file, None if last is None else _plain(last))
    if last is None:
        say(f"no rollout of {settings.model_name} is under way")


@app.command()
def advance(
    reason: Annotated[str, typer.Option(help="Reason, stored in the promotion log.")] = "advanced by hand",
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Begin the next stage of the rollout now.

    It does not wait for the end of the stage. This is also how a person approves the last one.

    Example: recsys rollout advance --reason "the figures look good"
    """
    settings = settings_of(config, set_)
    from datetime import UTC, datetime

    from infra.registry import advance_rollout
    from infra.storage import open_store

    store = open_store(settings.store)
    entry = advance_rollout(store, _newest(settings), reason=reason, now=datetime.now(UTC))
    write_json(json_file, _plain(entry))
    _announce(entry)
    mirror_now(settings)


@app.command()
def abort(
    reason: Annotated[str, typer.Option(help="Reason, stored in the promotion log.")] = "aborted by hand",
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Return all users to the old version now.

    It works while the model is frozen, too.

    Example: recsys rollout abort --reason "complaints about old films"
    """
    settings = settings_of(config, set_)
    from datetime import UTC, datetime

    from infra.registry import abort_rollout
    from infra.storage import open_store

    entry = abort_rollout(open_store(settings.store), _newest(settings), reason=reason, now=datetime.now(UTC))
    write_json(json_file, _plain(entry))
    _announce(entry)
    mirror_now(settings)


def _watch(settings: RetrainSettings) -> Watch:
    from infra.storage import open_store
    from serving.experiments import StoredOutcomes
    from serving.rollout import CONTROLS
    from tasks.rollout import Watch

    store = open_store(settings.store)
    return Watch(store, settings.model_name, CONTROLS, StoredOutcomes(store))


def _newest(settings: RetrainSettings) -> Promotion:
    from configs.errors import ChampionMissingError
    from infra.registry import ModelRegistry
    from infra.storage import open_store

    entry = ModelRegistry(open_store(settings.store)).newest(settings.model_name)
    if entry is None:
        raise ChampionMissingError(f"{settings.model_name} has no champion yet, so no rollout is under way.")
    return entry


def _show(standing: Standing) -> None:
    from tasks.rollout import check_rows, sentence, worker_rows

    say(as_given(sentence(standing)))
    say(
        f"{standing.requests[0]:,} requests of users of the old version and {standing.requests[1]:,} of the new one were measured"
    )
    records_table(check_rows(standing.checks))
    if standing.workers:
        records_table(worker_rows(standing))
    else:
        say("no worker has measured anything in this stage yet; are the servers up?")


def _announce(entry: Promotion) -> None:
    rollout = entry.rolling_out
    serves = "everybody" if rollout is None else f"{rollout.share:.0%} of the users"
    say(as_given(f"{entry.name} {entry.version} serves {serves} (promotion {entry.number}, {entry.kind}): {entry.reason}"))


def _plain(entry: Promotion) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(entry)
