"""`recsys model check`: what the author of a plugin runs first."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flows.cli.model.versions import app
from flows.cli.options import Json, Set, say, write_json
from infra.progress import stage

__all__ = ["check"]

SECONDS = 300.0


@app.command()
def check(
    spec: Annotated[str, typer.Argument(help="A spec as package.module:NAME, or the kind of an installed or built-in model.")],
    seconds: Annotated[float, typer.Option(min=1, help="How long the checks may take.")] = SECONDS,
    set_: Set = None,
    json: Json = None,
) -> None:
    """Check that a kind of model keeps what the port promises.

    It is trained on invented events, in processes of its own: answers, settings, files, seeds, and the gate's load check.
    --set changes settings of the kind. The exit code is 1 if something is wrong.

    Example: recsys model check my_package:SPEC --set max_epochs=2
    """
    import yaml

    from configs.errors import SettingsError
    from configs.kinds import register, spec_of
    from tasks.conformance import check_kind

    kind = spec if ":" not in spec else register([spec])[0]
    found = spec_of(kind)
    given = {}
    for each in set_ or ():
        name, equals, value = each.partition("=")
        if not equals or name not in found.settings.model_fields:
            raise SettingsError(
                f"--set {each}: write key=value with a setting of {kind}: {', '.join(found.settings.model_fields)}."
            )
        given[name] = yaml.safe_load(value)
    try:
        found.settings.model_validate(given)
    except ValueError as error:
        raise SettingsError(f"The settings of {kind} cannot be used: {error}") from error
    with stage("checks"):
        findings = check_kind(found, given, seconds)
    faults = sum(not finding.ok for finding in findings)
    write_json(json, [asdict(each) for each in findings])
    for finding in findings:
        say(f"ok     {finding.check}." if finding.ok else f"FAULT  {finding.check}: {finding.says}")
    say(f"{kind}: {len(findings)} checks, {faults} faults.")
    raise typer.Exit(1 if faults else 0)
