"""`recsys data erase`: erases users for good, and says what remains."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.errors import SettingsError
from flows.cli.options import Config, Json, Set, say, settings_of, table, write_json
from infra.progress import stage

if TYPE_CHECKING:
    from infra.storage import Store
    from tasks.landing import Erased

__all__ = ["erase", "runner"]

REMAINS = (
    ("states of former versions in Redis, without events", "they expire (state.state_ttl_s)"),
    ("models that learnt from older versions", "`recsys model prune` deletes them"),
    ("files of landing zones, exports and backups", "their own deletion; what is restored of them stays out"),
)


def erase(
    user: Annotated[
        str | None, typer.Option(help="The user, by your id. By default, all whom the API erased since the last run.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; recorded with the user who runs the command.")] = "",
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Erase a user for good.

    The store records the erasure, and it wins over every copy: servers forget the user within seconds, late events are not stored, and later
    deliveries are not added. Then new versions of all datasets lack the user, and the logs of exposures and outcomes are written again
    without the user. The command says what remains, and records it. It cannot be undone.

    Example: recsys data erase --user 17 --reason "asked by the user"
    """
    settings = settings_of(config, set_)
    import time
    from datetime import UTC, datetime

    from infra.erasures import erase_user, erased_users, finished_users, record_finished
    from infra.storage import open_store
    from serving.experiments import rewrite_logs
    from tasks.landing import erase_from_datasets

    if user is not None and not reason:
        raise SettingsError("Say why the user is erased: --reason. It is recorded.")
    store, now = open_store(settings.store), datetime.now(UTC)
    if user is not None:
        numbers = [_number(store, user)]
        erase_user(store, numbers[0], reason=reason, by=runner(), now=now)
    else:
        numbers = sorted(erased_users(store) - finished_users(store))
    done: dict[int, list[dict[str, Any]]] = {}
    with stage("erasure"):
        for number in numbers:
            found = erase_from_datasets(store, number, settings.landing, settings.etl, time.time())
            done[number] = [step for each in found for step in _steps(each)]
        # Of all erased users: a server that was away may have uploaded a file since the last run.
        files, lines = rewrite_logs(store, erased_users(store))
    for number, steps in done.items():
        steps.append(
            {
                "what": "exposures and outcomes in the store",
                "done": f"{lines:,} lines of erased users removed from {files:,} files",
            }
        )
        steps += [{"what": what, "remains until": until} for what, until in REMAINS]
        record_finished(store, number, steps, datetime.now(UTC))
    write_json(json_file, [{"user": number, "steps": steps} for number, steps in done.items()])
    if not numbers:
        say(f"No erasure is waiting. {lines:,} lines of erased users were removed from {files:,} files of the logs.")
        return
    for number, steps in done.items():
        said = user if user is not None else f"number {number}"
        table(
            [f"user {said}", ""], [[each["what"], each.get("done") or f"remains until {each['remains until']}"] for each in steps]
        )


def runner() -> str:
    """Return the name of the user who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a uid without a user name
        return str(os.getuid())


def _number(store: Store, user: str) -> int:
    """Return the number of a user in the datasets of a store, which all have the same kind of ids."""
    from flows.cli.data.own_ids import number_of_id
    from models.columns import Columns
    from models.identity import number_of
    from tasks.datasets import list_datasets

    names = sorted({ref.name for ref in list_datasets(store)})
    if not names:
        return int(user) if user.isascii() and user.isdigit() else number_of(user)
    found = {number_of_id(store, name, Columns.USER, user) for name in names}
    if len(found) > 1:
        raise SettingsError(
            "Some datasets of this store have text ids, and others whole numbers: erase the user with DELETE /v1/users."
        )
    (number,) = found
    assert number is not None  # a user was given
    return number


def _steps(erased: Erased) -> list[dict[str, Any]]:
    """Return what was done about a dataset, and its older versions that remain."""
    name, until = erased.dataset, "`recsys model prune` and then `recsys data prune` delete it"
    remains = [{"what": f"version {version}", "remains until": until} for version in erased.remains]
    return [{"what": f"dataset {name}", "done": erased.done}, *remains]
