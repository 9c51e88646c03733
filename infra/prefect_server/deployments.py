"""Deploy prefect.yaml to a Prefect server. A deployment is written only if it differs from the one on the server.

`prefect deploy --all` creates the same deployments, but it rewrites all of them each time. That deletes scheduled runs and
restarts schedules that people have stopped.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel

from configs.errors import SettingsError
from configs.loading import merged
from infra.prefect_server.alerts import RETRAIN
from infra.prefect_server.crons import cron_fault
from infra.prefect_server.environment import EnvironmentSettings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

__all__ = ["PREFECT_FILE", "Definition", "apply_deployment", "deployment_defined", "read_prefect_file"]

PREFECT_FILE = Path(__file__).parents[2] / "prefect.yaml"
PLACEHOLDER = re.compile(r"\{\{\s*\$(\w+)\s*\}\}")
FILE_HASH = re.compile(r"[0-9a-f]{32}")
"""A version that Prefect computed from a flow's file. In a checkout with a remote, `prefect deploy` writes the commit instead."""


@dataclass(frozen=True)
class Definition:
    """The desired state of a deployment. The keys of `fields` are the field names of Prefect's deployment."""

    flow_name: str
    name: str
    fields: dict[str, Any]
    limit: int | None
    schedules: dict[str, dict[str, Any]]  # by slug

    @property
    def full_name(self) -> str:
        return f"{self.flow_name}/{self.name}"


def read_prefect_file(path: Path = PREFECT_FILE) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the deployments of a prefect.yaml and the pull steps that fetch their code.

    Raises:
        SettingsError: The file is missing, or it is not a valid list of deployments.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        deployments, pull = content["deployments"], content["pull"]
        for entry in deployments:
            for key in ("name", "entrypoint", "work_pool"):
                if key not in entry:
                    raise SettingsError(f"{path}: the deployment {entry.get('name', entry)} has no {key}.")
            for schedule in entry.get("schedules", ()):
                if fault := cron_fault(str(schedule.get("cron", ""))) if "cron" in schedule else None:
                    raise SettingsError(f"{path}: a schedule of {entry['name']} cannot be used: {fault}.")
            if any(not {"slug", "cron"} <= set(schedule) for schedule in entry.get("schedules", ())):
                raise SettingsError(
                    f"{path}: a schedule of {entry['name']} needs a cron and a slug. The slug identifies it in later deployments."
                )
    except FileNotFoundError as error:
        raise SettingsError(f"{path} is missing: run setup from a checkout or an image of the project.") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path} is not a list of deployments with pull steps: {error!r}. Restore it.") from error
    return deployments, pull


def deployment_defined(entry: dict[str, Any], pull: list[dict[str, Any]], environment: EnvironmentSettings) -> Definition:
    """Return the deployment that an entry of prefect.yaml defines in an environment.

    Args:
        entry: The entry.
        pull: The pull steps of entries that have none of their own.
        environment: The environment.
    """
    from prefect.flows import Flow, load_flow_from_entrypoint
    from prefect.utilities.callables import parameter_schema

    is_file = ":" in entry["entrypoint"]  # otherwise a module
    flow: Flow[..., Any] = load_flow_from_entrypoint(
        str(PREFECT_FILE.parent / entry["entrypoint"]) if is_file else entry["entrypoint"]
    )
    schema = parameter_schema(flow)
    limit = entry.get("concurrency_limit")
    options = {key: value for key, value in limit.items() if key != "limit"} if isinstance(limit, dict) else None
    fields = {
        "entrypoint": entry["entrypoint"],
        "description": entry.get("description") or flow.description,
        "tags": list(entry.get("tags", ())),
        "version": flow.version,
        "work_queue_name": entry["work_pool"].get("work_queue_name"),
        "work_pool_name": entry["work_pool"]["name"],
        "job_variables": entry["work_pool"].get("job_variables", {}),
        "pull_steps": _resolved(entry.get("pull", pull), str(environment.code or PREFECT_FILE.parent)),
        "parameters": merged(entry.get("parameters", {}), parameters_in(flow.fn, environment)),
        "parameter_openapi_schema": schema.model_dump(exclude_unset=True),
        "concurrency_options": options,
    }
    limited = limit["limit"] if isinstance(limit, dict) else limit
    return Definition(flow.name, entry["name"], fields, limited, _schedules(entry, f"{flow.name}/{entry['name']}", environment))


def parameters_in(function: Any, environment: EnvironmentSettings) -> dict[str, Any]:
    """Return the environment's non-default settings that the flow has parameters for.

    A flow takes all settings as one parameter, or sections of them as parameters with defaults. A parameter that has another name
    than its section gets it by its type, as `engine` of the flow etl does. A parameter whose default is None (the gate of `promote`)
    has a special meaning when it is set, so it is skipped.
    """
    from typing import get_type_hints

    sections: dict[Any, str] = {type(section): name for name, section in environment.retraining if isinstance(section, BaseModel)}
    given, hints = environment.overrides, get_type_hints(function)
    found: dict[str, Any] = {}
    for name, parameter in signature(function).parameters.items():
        kind = hints.get(name)
        if name == "settings" and isinstance(kind, type) and issubclass(kind, BaseModel):
            kept = {key: value for key, value in given.items() if key in kind.model_fields}
            if kept:
                found[name] = kept
        elif parameter.default is not None:
            section = name if name in given else sections.get(kind, name)
            if section in given:
                found[name] = given[section]
    return found


def apply_deployment(client: SyncPrefectClient, wanted: Definition, active: bool) -> str:
    """Create or update the server's deployment so that it matches `wanted`.

    Existing schedules keep their state, and a paused deployment stays paused.

    Args:
        client: Client of the Prefect server.
        wanted: The desired deployment.
        active: Whether new schedules start active.

    Returns:
        `created`, `unchanged`, or `updated` with the names of the fields that differed.
    """
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyOptions
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.exceptions import ObjectNotFound

    try:
        current: DeploymentResponse | None = client.read_deployment_by_name(wanted.full_name)
    except ObjectNotFound:
        current = None
    differing = [] if current is None else _differing(current, wanted)
    if current is not None and not differing:
        return "unchanged"
    kept = {schedule.slug: schedule.active for schedule in current.schedules} if current else {}
    fields = dict(wanted.fields)
    options = fields.pop("concurrency_options")
    client.create_deployment(  # this is an upsert
        flow_id=client.create_flow_from_name(wanted.flow_name),
        name=wanted.name,
        schedules=[
            DeploymentScheduleCreate(schedule=CronSchedule(**schedule), slug=slug, active=kept.get(slug, active))
            for slug, schedule in wanted.schedules.items()
        ],
        concurrency_limit=wanted.limit,
        concurrency_options=ConcurrencyOptions.model_validate(options) if options else None,
        paused=current.paused if current else False,
        enforce_parameter_schema=True,
        **fields,
    )
    return "created" if current is None else f"updated: {', '.join(differing)}"


def _differing(current: DeploymentResponse, wanted: Definition) -> list[str]:
    """Return the names of the fields in which the server's deployment differs."""
    found = {name: getattr(current, name) for name in wanted.fields}
    options = current.concurrency_options
    found["concurrency_options"] = options.model_dump(mode="json", exclude_none=True) if options else None
    found["tags"] = list(current.tags)
    found["pull_steps"] = current.pull_steps or []
    fields = {**wanted.fields, "work_queue_name": wanted.fields["work_queue_name"] or "default"}
    if not FILE_HASH.fullmatch(current.version or ""):
        del fields["version"]
    names = [name for name, value in fields.items() if found[name] != value]
    limit = current.global_concurrency_limit
    if (limit.limit if limit else None) != wanted.limit:
        names.append("concurrency_limit")
    schedules = {
        schedule.slug or str(schedule.id): schedule.schedule.model_dump(include={"cron", "timezone"})
        for schedule in current.schedules
    }
    return names if schedules == wanted.schedules else [*names, "schedules"]


def _schedules(entry: dict[str, Any], full_name: str, environment: EnvironmentSettings) -> dict[str, dict[str, Any]]:
    """Return the schedules by slug. If the environment sets a cron, it replaces all schedules of the entry.

    A retraining has no schedule if a policy decides when it is due, unless the environment sets one.
    """
    given = list(entry.get("schedules", ()))
    if full_name == RETRAIN and environment.retraining.when.policy is not None:
        given = []
    if full_name in environment.crons:
        first = given[0] if given else {"slug": "own"}
        given = [{**first, "cron": environment.crons[full_name]}]
    return {
        schedule["slug"]: {"cron": schedule["cron"], "timezone": environment.timezone or schedule.get("timezone", "UTC")}
        for schedule in given
    }


def _resolved(value: Any, folder: str) -> Any:
    """Replace each `{{ $NAME }}` as Prefect does: by an environment variable, except that PWD is the code folder."""
    if isinstance(value, dict):
        return {key: _resolved(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, folder) for inner in value]
    if isinstance(value, str):
        known = {**os.environ, "PWD": folder}
        return PLACEHOLDER.sub(lambda match: known.get(match[1], match[0]), value)
    return value
