"""`recsys data`: the stored dataset versions, the landed files, and the objects of the store.

A page of the Prefect UI cannot link to the store. Browsers follow neither s3:// nor file:// links, a presigned link would be a
secret that expires, and the address of a storage console differs between users. Therefore pages show an address, which
`recsys data open` opens.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

import typer

from configs.errors import NotFoundError, SettingsError
from flows.cli.data.erasure import erase, runner
from flows.cli.options import Config, Json, Set, needs_prefect, say, settings_of, table, writable, write_json
from infra.progress import stage

if TYPE_CHECKING:
    from configs.settings import RetrainSettings, StoreSettings
    from infra.storage import Store
    from tasks.datasets import DatasetRef, LogEntry

__all__ = ["Landing", "app", "list_", "run_etl", "with_landing"]

app = typer.Typer(
    no_args_is_help=True,
    help="List, inspect and clean up stored datasets and files.\n\nExample: recsys data list",
)
REMOVALS = (("user",), ("item",), ("user", "item"), ("user", "item", "time"), ("file",), ("undo",))
Landing = Annotated[str | None, typer.Option(help="Landing zone (data.landing): folder or s3://bucket/prefix.")]


@app.command("list")
def list_(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """List the stored dataset versions.

    Example: recsys data list --set store.url=s3://bucket/prefix
    """
    settings = settings_of(config, set_)
    from dataclasses import asdict

    from infra.storage import open_store
    from tasks.datasets import last_delivery, list_datasets

    store = open_store(settings.store)
    refs = list_datasets(store)
    delivered = {f"{ref.name}/{ref.version}": last_delivery(store, ref) for ref in refs}
    listed = [{**asdict(ref), "last_delivery": each and asdict(each)} for ref, each in zip(refs, delivered.values(), strict=True)]
    write_json(json_file, listed)
    rows = [
        [
            f"{ref.name}/{ref.version}",
            *(f"{count:,}" for count in (ref.rows, ref.users, ref.items)),
            _utc(ref.last),
            _utc(ref.created),
            f"{each.added:,} of {each.rows:,} rows added, {each.quarantined:,} bad" if each and each.rows else "",
            ref.properties.described(),
            ", ".join(ref.parents),
        ]
        for ref, each in zip(refs, delivered.values(), strict=True)
    ]
    columns = [
        "dataset",
        "interactions",
        "users",
        "items",
        "last event (UTC)",
        "made (UTC)",
        "last delivery",
        "events",
        "made from",
    ]
    table(columns, rows, whole="dataset")


@app.command()
def files(
    last: Annotated[int, typer.Option(min=1, help="Number of newest runs to show.")] = 5,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Show what became of each landed file.

    The rows of each file are counted by outcome, for the newest runs over the landing zone. Removals are listed with their reason.

    Example: recsys data files --last 10 --set data.dataset=films
    """
    settings = settings_of(config, set_)
    from dataclasses import asdict

    from infra.storage import open_store
    from tasks.datasets import LandingLog

    entries = LandingLog(open_store(settings.store), settings.data.dataset_name).entries()[-last:]
    write_json(json_file, [{key: value for key, value in asdict(entry).items() if key != "manifest"} for entry in entries])
    _print_accounts(entries)
    say(f"{settings.data.dataset_name}: {_complete_until(entries) if entries else 'nothing has landed yet'}")


@app.command()
def compact(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Compact the parts of the newest dataset version into one.

    With a landing zone (data.landing), its new files are added first.

    Example: recsys data compact --set data.dataset=films
    """
    run_etl(settings_of(config, set_), json_file, compact=True)


@app.command()
def retry(landing: Landing = None, config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Read bad rows and refused files again.

    Run it after mending a setting or a clock. All files of the zone that were quarantined as a whole or that have quarantined rows
    are read again. Each row counts once. New files of the landing zone are added, too.

    Example: recsys data retry --landing s3://bucket/events
    """
    settings = settings_of(config, with_landing(set_, landing))
    if settings.data.landing is None:
        raise SettingsError("There is no landing zone whose files could be retried. Name it with --landing, or set data.landing.")
    run_etl(settings, json_file, retry_quarantined=True)


@app.command()
def remove(
    reason: Annotated[str, typer.Option(help="Why; recorded with the user who runs the command.")],
    user: Annotated[
        str | None, typer.Option(help="Remove the events of this user, by your id; without --item, the description, too.")
    ] = None,
    item: Annotated[
        str | None, typer.Option(help="Remove the events of this item, by your id; without --user, the description, too.")
    ] = None,
    time: Annotated[int | None, typer.Option(help="Remove only the event of this time, in UTC seconds.")] = None,
    file: Annotated[str | None, typer.Option(help="Remove what this landed file added, by its name in the zone.")] = None,
    undo: Annotated[int | None, typer.Option(min=1, help="Undo the removal of this run, by its number.")] = None,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Take a user, an item, an event or a file out of a dataset.

    A new version lacks the events, and later deliveries of them are not added, until the removal is undone. Events that the removed
    ones had superseded come back with the next etl, which reads the zone's files once more. An undone removal brings its events
    back from the version before it, if that is still stored, and from the zone's files. If ids are text, the text of a removed user or item
    leaves the new version too, and the record of the removal has only its number. Older versions, models that were trained on them, backups and logs keep the events: `recsys data erase` erases a user.

    Example: recsys data remove --user 17 --reason "asked by the user" --set data.dataset=films
    """
    given = {"user": user, "item": item, "time": time, "file": file, "undo": undo}
    if tuple(name for name, value in given.items() if value is not None) not in REMOVALS:
        raise SettingsError(
            "Name what to remove: --user, --item, both (with --time for one event), or --file alone. To undo a removal, give --undo "
            "with the number of its run, which `recsys data files` shows."
        )
    settings = settings_of(config, set_)
    import time as clock
    from dataclasses import asdict

    from flows.cli.data.own_ids import number_of_id, telling
    from infra.storage import open_store
    from models.columns import Columns
    from tasks.datasets import Removal
    from tasks.landing import remove as take_out
    from tasks.landing import undo_removal

    store, name = open_store(settings.store), settings.data.dataset_name
    user_id, item_id = (number_of_id(store, name, *given) for given in ((Columns.USER, user), (Columns.ITEM, item)))
    removal = Removal(reason, runner(), user_id, item_id, time, file or "", undoes=undo or 0)
    run = take_out if undo is None else undo_removal
    with telling(removal, user, item) as told, stage("removal"):
        dataset, entry = run(store, name, removal, settings.landing, settings.etl.work_dir, clock.time())
    say(f"{dataset.name}/{dataset.version}: {dataset.rows:,} interactions, {dataset.users:,} users, {dataset.items:,} items")
    write_json(json_file, {key: value for key, value in asdict(entry).items() if key != "manifest"})
    say(told(_removal_line(entry)))
    if entry.removal is not None and entry.removal.brings_back:
        say("The next etl over the landing zone reads its files once more.")


app.command()(erase)


@app.command()
def histories(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Store the users' latest events for `recsys serve`.

    A promotion does this, too. Run it for a champion of an earlier version of the product, or after an etl, so that the server knows
    the newest events without a retraining.

    Example: recsys data histories --set data.dataset=films
    """
    settings = settings_of(config, set_)
    from infra.storage import open_store
    from tasks.datasets import store_histories

    store = open_store(settings.store)
    with stage("histories"):
        key, ref = store_histories(store, settings.data.dataset_name)
    write_json(json_file, {"dataset": f"{ref.name}/{ref.version}", "users": ref.users, "address": store.uri(key)})
    say(f"{ref.name}/{ref.version}: histories of {ref.users:,} users, at {store.uri(key)}")


@app.command()
def prune(
    keep: Annotated[
        int | None, typer.Option(min=1, help="Number of newest versions of each dataset to keep (landing.keep_versions).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the versions. Without it, the command only lists them.")] = False,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Delete dataset versions that nothing needs.

    The newest versions, those that something in the store refers to, and those that a run under way uses are kept.

    Example: recsys data prune --keep 5 --yes
    """
    settings = settings_of(config, set_)
    from infra.storage import open_store
    from tasks.datasets import plan_prune, prune_versions

    store = open_store(settings.store)
    plan = plan_prune(store, keep or settings.landing.keep_versions)
    with stage("deletion"):
        spared = prune_versions(store, plan) if yes else []
    write_json(json_file, {**plan.to_dict(), "deleted": yes, "spared": spared})
    done = "deleted" if yes else "would be deleted"
    rows = [[version, "stays", why] for version, why in plan.kept.items()]
    gone = [version for version in plan.versions if version not in spared]
    rows += [[version, "stays", "a run has just begun to use it"] for version in spared]
    table(["dataset", "", "why"], rows + [[version, done, "nothing refers to it"] for version in gone], whole="dataset")
    say(f"{len(gone)} versions, {len(plan.objects)} objects {done}{'' if yes else '; delete them with --yes'}")


@app.command("open")
def open_(
    address: Annotated[str, typer.Argument(help="Address of an object in the store, s3://... or file:..., as shown.")],
    to: Annotated[
        Path | None, typer.Option(callback=writable, help="Write the object to this file instead of opening it.")
    ] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Open a page, figure or record of the store.

    An artifact or message shows its address. For a version, the command lists the files.

    Example: recsys data open s3://bucket/prefix/models/movie-ranker/VERSION/recsys_report.html
    """
    store, key = _place(address, settings_of(config, set_).store)
    if not store.exists(key):
        inside = list(store.list(f"{key}/"))
        if not inside:
            raise NotFoundError(
                f"{address} is not in the store, and no object has an address below it. Copy the complete address as shown."
            )
        for each in inside:
            say(store.uri(each))
        return
    path = to or store.local_file(key) or Path(tempfile.mkdtemp(prefix="recsys-")) / key.rpartition("/")[2]
    if path != store.local_file(key):
        with stage("download"):
            store.fetch(key, path)
    say(f"{address} is at {path}")
    if to is None and typer.launch(str(path)):
        say("No program on this machine can open the file. Copy it to a machine that can.")


def with_landing(overrides: list[str] | None, landing: str | None) -> list[str]:
    """Return the overrides, with the option --landing as the last of them."""
    return [*(overrides or []), *([f"data.landing={json.dumps(landing)}"] if landing else [])]


def run_etl(settings: RetrainSettings, json_file: Path | None, *, compact: bool = False, retry_quarantined: bool = False) -> None:
    """Run the flow etl, and print the dataset version and what became of each landed file.

    Args:
        settings: Settings of the run.
        json_file: File for the dataset version as JSON.
        compact: Compact the parts of the newest version in any case.
        retry_quarantined: Retry files that were quarantined as a whole or that have quarantined rows.

    Raises:
        DataRefusedError: Files were read, but no row of them is good.
    """
    needs_prefect("flows.etl", "tasks.tables.models")
    from dataclasses import asdict

    from flows.etl import etl
    from infra.storage import open_store
    from tasks.datasets import LandingLog

    store = open_store(settings.store)
    log = LandingLog(store, settings.data.dataset_name)
    head = log.head() if settings.data.landing else None
    entries: list[LogEntry] = []
    try:
        with stage("etl"):
            dataset = etl(
                settings.data, settings.validation, settings.store, settings.etl, settings.landing, compact, retry_quarantined
            )
    finally:
        if settings.data.landing:  # also if the run fails, because the files were refused
            entries = log.entries(after=head.number if head else 0)
            if entries:
                _print_accounts(entries)
    write_json(json_file, asdict(dataset))
    if not settings.data.landing:
        _print_delivery(store, dataset)
    elif not any(account.accepted for entry in entries for account in entry.accounts):
        seen = any(entry.accounts for entry in entries)
        say(f"Nothing was added: {'the good rows were there before' if seen else 'no file is new'}.")
    say(f"{dataset.name}/{dataset.version}: {dataset.rows:,} interactions, {dataset.users:,} users, {dataset.items:,} items")
    say(f"stored at {dataset.uri}")


def _print_accounts(entries: list[LogEntry]) -> None:
    """Print each file and the outcome of its rows, and what was removed."""
    counts = ["rows", "accepted", "duplicates", "quarantined", "removed", "corrections", "late"]
    if any(account.left_out for entry in entries for account in entry.accounts):  # events of weight 0
        counts.append("left_out")
    rows = [
        [str(entry.number), account.file, account.kind, *(f"{getattr(account, name):,}" for name in counts), account.remarks]
        for entry in entries
        for account in entry.accounts
    ]
    table(["run", "file", "kind", *(name.replace("_", " ") for name in counts), "remarks"], rows)
    for entry in entries:
        if entry.removal is not None:
            say(_removal_line(entry))


def _removal_line(entry: LogEntry) -> str:
    removal = entry.removal
    assert removal is not None
    done = f"{removal.what if removal.undoes else f'removed {removal.what}'} ({removal.events:,} events)"
    return f"run {entry.number}: {done}, by {removal.by}: {removal.reason}"


def _print_delivery(store: Store, dataset: DatasetRef) -> None:
    """Print the rows of the last delivery of a release."""
    from tasks.datasets import last_delivery

    found = last_delivery(store, dataset)
    if found is not None and found.rows:
        added = f"{found.added:,} added" if found.added else "nothing added, because this version was there before"
        say(f"interactions: {found.rows:,} rows, {found.quarantined:,} quarantined, {added}")


def _utc(seconds: float) -> str:
    """Return a time as a date, or an empty text if it is unknown."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}" if seconds else ""


def _complete_until(entries: list[LogEntry]) -> str:
    return f"version {entries[-1].version}, taken to be complete until {_utc(entries[-1].watermark)} UTC (the watermark)"


def _place(address: str, given: StoreSettings) -> tuple[Store, str]:
    """Return the bucket or folder that contains the address, and the key in it.

    Raises:
        SettingsError: The text is not an address of an object in a store.
    """
    from infra.storage import open_store

    if address.startswith("s3://"):
        bucket, _, key = address.removeprefix("s3://").partition("/")
        url = f"s3://{bucket}"
    elif address.startswith("file:"):
        path = Path(unquote(address.removeprefix("file:").removeprefix("//")))
        url, key = f"file:{path.parent}", path.name
    else:
        raise SettingsError(
            f"{address} is not a store address. Store addresses start with s3:// or file:, as shown in the Prefect UI."
        )
    key = key.strip("/")
    if not key:
        raise SettingsError(f"{address} names a store, but no object in it. Copy the complete address as shown.")
    return open_store(given.model_copy(update={"url": url})), key
