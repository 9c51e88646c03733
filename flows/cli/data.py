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
from flows.cli.options import Config, Json, Set, needs_prefect, say, settings_of, table, writable, write_json

if TYPE_CHECKING:
    from configs.settings import RetrainSettings, StoreSettings
    from infra.storage import Store
    from tasks.datasets import LogEntry

__all__ = ["Landing", "app", "run_etl", "with_landing"]

app = typer.Typer(
    no_args_is_help=True,
    help="List, inspect and clean up stored datasets and files.\n\nExample: recsys data list",
)
Landing = Annotated[str | None, typer.Option(help="Landing zone (data.landing): folder or s3://bucket/prefix.")]


@app.command("list")
def list_(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """List the stored dataset versions.

    Example: recsys data list --set store.url=s3://bucket/prefix
    """
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


@app.command()
def files(
    last: Annotated[int, typer.Option(min=1, help="Number of newest runs to show.")] = 5,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Show what became of each landed file.

    The rows of each file are counted by outcome, for the newest runs over the landing zone.

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
    """Retry landed files that were quarantined as a whole.

    New files of the landing zone are added, too.

    Example: recsys data retry --landing s3://bucket/events
    """
    settings = settings_of(config, with_landing(set_, landing))
    if settings.data.landing is None:
        raise SettingsError("There is no landing zone whose files could be retried. Name it with --landing, or set data.landing.")
    run_etl(settings, json_file, retry_quarantined=True)


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

    The newest versions and those that something in the store refers to are kept.

    Example: recsys data prune --keep 5 --yes
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
    say(f"{len(plan.versions)} versions, {len(plan.objects)} objects {done}{'' if yes else '; delete them with --yes'}")


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
        retry_quarantined: Retry files that were quarantined as a whole.
    """
    needs_prefect()
    from dataclasses import asdict

    from flows.etl import etl
    from infra.storage import open_store
    from tasks.datasets import LandingLog

    log = LandingLog(open_store(settings.store), settings.data.dataset_name)
    head = log.head() if settings.data.landing else None
    dataset = etl(settings.data, settings.validation, settings.store, settings.etl, settings.landing, compact, retry_quarantined)
    write_json(json_file, asdict(dataset))
    if settings.data.landing:
        _print_accounts(log.entries(after=head.number if head else 0))
    say(f"{dataset.name}/{dataset.version}: {dataset.rows:,} interactions, {dataset.users:,} users, {dataset.items:,} items")
    say(f"stored at {dataset.uri}")


def _print_accounts(entries: list[LogEntry]) -> None:
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
