"""Shared parts of the `recsys` commands: options, settings, tables for people and JSON for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, overload

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from configs.settings import RetrainSettings

Settings = TypeVar("Settings", bound="BaseModel")  # a string, because --help needs no pydantic

__all__ = [
    "MODELS",
    "Config",
    "Dataset",
    "Json",
    "Set",
    "model_of",
    "models",
    "needs_prefect",
    "plain",
    "records_table",
    "settings_of",
    "table",
    "write_json",
]

MODELS = {
    "retrain": "configs.settings:RetrainSettings",
    "search": "configs.studies:SearchSettings",
    "compare": "configs.studies:CompareSettings",
    "replay": "configs.studies:ReplaySettings",
    "setup": "infra.prefect_server:EnvironmentSettings",
    "serve": "configs.serving:ServingSettings",
    "demo": "configs.serving:DemoSettings",
}
"""The settings model of each command that has one, as module:class. A command imports only the models that it needs."""

Config = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        "-c",
        help="YAML file with settings, or the name of a shipped one. Repeatable; later files override earlier ones.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="One setting, as key=value. Repeatable. RECSYS__STORE__URL=... in the environment sets store.url."
    ),
]
Dataset = Annotated[str | None, typer.Option(help="Dataset version, as name/version. By default, the newest of the source.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file as JSON.")]


def model_of(command: str) -> type[BaseModel]:
    """Return the settings model of a command."""
    module, _, name = MODELS[command].partition(":")
    model: type[BaseModel] = getattr(import_module(module), name)
    return model


def models() -> Iterator[type[BaseModel]]:
    """Return the settings models of all commands. Each one is imported when it is asked for."""
    return map(model_of, MODELS)


@overload
def settings_of(config: list[str] | None, overrides: list[str] | None) -> RetrainSettings: ...
@overload
def settings_of(config: list[str] | None, overrides: list[str] | None, model: type[Settings]) -> Settings: ...
def settings_of(config: list[str] | None, overrides: list[str] | None, model: type[BaseModel] | None = None) -> BaseModel:
    """Load settings from the command's files, RECSYS__ variables and overrides.

    `model` is the settings model to load, by default RetrainSettings.
    """
    from configs.loading import load_settings
    from configs.settings import RetrainSettings

    return load_settings(model or RetrainSettings, config, overrides or (), os.environ, models())


def needs_prefect() -> None:
    """Make sure that a Prefect server answers. A command that runs a flow calls this before the imports and the work of the flow."""
    from infra.prefect_server import make_ready

    make_ready()


def write_json(path: Path | None, content: Any) -> None:
    """Write `content` to `path` atomically. Do nothing if there is no path."""
    if path is None:
        return
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def table(columns: list[str], rows: list[list[str]], whole: str | None = None) -> None:
    """Print the rows as a table.

    Wide cells are folded, so that nothing is cut off. The column `whole` stays on one line, so that its values can be copied.
    """
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*[Column(name, overflow="fold", no_wrap=name == whole) for name in columns], header_style="bold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def records_table(records: list[dict[str, str]]) -> None:
    """Print the records, which have the same keys, as a table. Print nothing if there are none."""
    if records:
        table(list(records[0]), [list(record.values()) for record in records])


def plain(value: Any) -> str:
    """Return a value, dictionary or list as readable text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    return str(value)
