"""`recsys config`: the effective settings of a command, and the source of each."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from flows.cli.options import MODELS, Config, Json, Set, model_of, models, say, table, write_json

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Show the effective settings and their sources.\n\nExample: recsys config show --all",
)


@app.command()
def show(
    section: Annotated[str | None, typer.Argument(help="Show only the settings below this key, such as promotion.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also show the defaults: every key that --set accepts.")] = False,
    command: Annotated[str, typer.Option("--for", help=f"Command whose settings are shown: {', '.join(MODELS)}.")] = "retrain",
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Show the effective settings, and the source of each.

    Without a section, settings that have their defaults are left out.

    Example: recsys config show promotion -c best --set promotion.approval=manual
    """
    from dataclasses import asdict

    from configs.errors import SettingsError
    from configs.loading import effective_settings
    from configs.renames import current_key

    if command not in MODELS:
        raise SettingsError(f"--for {command}: there is no such command with settings; the commands are {', '.join(MODELS)}.")
    found = effective_settings(model_of(command), config, set_ or (), os.environ, models())
    if section is not None:
        section = current_key(model_of(command), section)
        below = [each for each in found if f"{each.key}.".startswith(f"{section}.")]
        if not below:
            sections = sorted({each.key.partition(".")[0] for each in found})
            raise SettingsError(f"{section} is not a setting or section of {command}; sections are {', '.join(sections)}.")
        found = below
    chosen = [each for each in found if every or section is not None or each.origin != "default"]
    write_json(json_file, [asdict(each) for each in chosen])
    if chosen:
        table(["setting", "value", "from"], [[each.key, json.dumps(each.value), each.origin] for each in chosen], whole="setting")
    if len(chosen) < len(found):
        say(f"{len(found) - len(chosen)} settings have their defaults; --all lists them.")
