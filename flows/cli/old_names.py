"""The names that commands had before there were groups. They are hidden, and work as before: scripts and old artifacts use them."""

from __future__ import annotations

from copy import copy

import typer
from typer.models import CommandInfo

from flows.cli import data
from flows.cli.options import Config, Json, Set

__all__ = ["OLD_NAMES", "add_to"]

OLD_NAMES = {
    "models": "model list",
    "show": "model show",
    "train": "model train",
    "promote": "model promote",
    "rollback": "model rollback",
    "audit": "model audit",
    "landing": "data files",
    "open": "data open",
    "datasets": "data list",
    "datasets prune": "data prune",
    "search": "study search",
    "compare": "study compare",
    "replay": "study replay",
    "gpu ls": "gpu list",
}
"""The old name of each command, and its name today. `etl --compact` and `etl --retry-quarantined` are hidden options of etl."""

datasets = typer.Typer()


def add_to(app: typer.Typer) -> None:
    """Add the old names to the command line, which already has the new ones."""
    groups = {info.name: info.typer_instance for info in app.registered_groups if info.name and info.typer_instance}
    groups["datasets"] = datasets
    for old, new in OLD_NAMES.items():
        if old == "datasets":
            continue  # it is a group and a command
        noun, _, verb = new.partition(" ")
        old_group, _, old_verb = old.rpartition(" ")
        hidden = copy(next(info for info in groups[noun].registered_commands if verb == _name_of(info)))
        hidden.name, hidden.hidden = old_verb, True
        (groups[old_group] if old_group else app).registered_commands.append(hidden)
    app.add_typer(datasets, name="datasets", hidden=True)


@datasets.callback(invoke_without_command=True)
def list_datasets(context: typer.Context, config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """List the stored dataset versions.

    Example: recsys data list --set store.url=s3://bucket/prefix
    """
    if context.invoked_subcommand is None:
        data.list_(config, set_, json_file)


def _name_of(info: CommandInfo) -> str:
    return str(info.name or getattr(info.callback, "__name__", ""))
