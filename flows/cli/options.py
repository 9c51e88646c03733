"""Shared parts of the `recsys` commands: options, settings, tables for people and JSON for programs."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, overload

import typer

from flows.cli.terminal import READY, current_display, tell_runs
from infra.version_names import short_version, shortened

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
    "as_given",
    "model_of",
    "models",
    "needs_prefect",
    "plain",
    "records_table",
    "say",
    "settings_of",
    "table",
    "writable",
    "write_json",
    "write_output",
]

HINT = re.compile(r"`(recsys (?:retrain|etl|monitor|data|model) ?[^`]*)`")
_given: list[tuple[str, str]] = []
"""The -c and --set options of this command, without secrets, and without those that other commands do not know."""

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
Dataset = Annotated[
    str | None,
    typer.Option(
        help="Dataset version, as name/version or its beginning, or `latest`, `previous`, `champion`. By default, the newest of the source."
    ),
]


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
    from configs.annotations import annotations_at, holds_secret
    from configs.loading import load_settings
    from configs.settings import RetrainSettings

    kept = [each for each in overrides or () if annotations_at(RetrainSettings, each.partition("=")[0])]
    public = [each for each in kept if not holds_secret(RetrainSettings, tuple(each.partition("=")[0].split(".")))]
    _given[:] = [("-c", name) for name in (config or () if model is None else ())] + [("--set", each) for each in public]
    return load_settings(model or RetrainSettings, config, overrides or (), os.environ, models())


def as_given(text: str) -> str:
    """Add the -c and --set options of this command to the commands that a text names, so that they mean the same store and model."""

    def completed(hint: re.Match[str]) -> str:
        words = [part for option in _given if option[1].partition("=")[0] + "=" not in hint[0] for part in option]
        return f"`{' '.join([hint[1], *map(shlex.quote, words)])}`"

    return HINT.sub(completed, text)


def needs_prefect(*modules: str) -> None:
    """Make sure that a Prefect server answers. A command that runs a flow calls this before the imports and the work of the flow.

    `modules` are those that the command is about to need. They are imported while a temporary server starts, which takes as long.
    """
    from infra.prefect_server import make_ready

    def import_all() -> None:
        for name in modules:
            import_module(name)

    current_display().begin(READY)
    make_ready(import_all)
    tell_runs()


def writable(path: Path | None) -> Path | None:
    """Return the path of an output after checking that it can be written. It is checked before the run whose result it takes.

    Raises:
        SettingsError: The folder does not exist or cannot be written to, or the path is a folder itself.
    """
    if path is None or _is_stream(path):
        return path
    from configs.errors import SettingsError

    if path.is_dir():
        raise SettingsError(f"{path} is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise SettingsError(f"{path} cannot be written, because {path.parent} is not an existing folder. Create it first.")
    try:
        temporary = _beside(path)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written ({error.strerror}). Name a file in a folder that this user may write to."
        ) from error
    return path


Json = Annotated[Path | None, typer.Option("--json", callback=writable, help="Also write the result to this file as JSON.")]


def write_output(path: Path, content: bytes) -> None:
    """Write an output that `writable` has checked. A reader finds the complete file or none."""
    from configs.errors import SettingsError

    try:
        if _is_stream(path):
            path.write_bytes(content)
            return
        temporary = _beside(path)
        temporary.write_bytes(content)
        temporary.replace(path.resolve())
    except OSError as error:
        raise SettingsError(
            f"The result is only printed: {path} could not be written ({error.strerror}). Free space there, or name another file."
        ) from error


def write_json(path: Path | None, content: Any) -> None:
    """Write `content` to `path`. Do nothing if there is no path."""
    if path is not None:
        write_output(path, (json.dumps(content, indent=2) + "\n").encode())


def _is_stream(path: Path) -> bool:
    """Whether the path is a pipe or a device such as /dev/stdout, which is written to and never replaced."""
    return path.absolute().is_relative_to("/dev") or path.absolute().is_relative_to("/proc") or path.is_fifo()


def _beside(path: Path) -> Path:
    target = path.resolve()
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def say(text: str, *, err: bool = False) -> None:
    """Print a line, with versions in their short form.

    Control characters are shown as escapes, because the text may quote titles, reasons and file names.
    """
    from infra.pages import visible

    current_display().aside()
    typer.echo(visible(shortened(text)), err=err)


def table(columns: list[str], rows: list[list[str]], whole: str | None = None) -> None:
    """Print the rows as a table, with versions in their short form. Those in the column `whole` are told apart by more digits if needed.

    Square brackets in a value have no meaning, and control characters are shown as escapes. Wide cells are folded, so that nothing is
    cut off. The column `whole` stays on one line, so that its values can be copied.
    """
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from infra.pages import visible

    table = Table(*[Column(Text(visible(name)), overflow="fold", no_wrap=name == whole) for name in columns], header_style="bold")
    place = columns.index(whole) if whole in columns else None
    names = [row[place] for row in rows] if place is not None else []
    for row in rows:
        shown = [short_version(value, names) if at == place else shortened(value) for at, value in enumerate(row)]
        table.add_row(*[Text(visible(value)) for value in shown])
    current_display().aside()
    console = Console()
    if not console.is_terminal:
        console = Console(width=220)
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
