"""What setup has made on a server, so that it can find what an environment no longer defines, and never takes it from others.

The ids are kept in a variable of the server. A deployment or automation that people have made themselves is not among them, even
if it has the tags of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from infra.prefect_server.change import Change

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["left_over_deployments", "record_made", "report_left_over"]

MADE = "recsys_made"
LEFT_OVER = "left over: no longer defined; `recsys setup --prune` removes it"
LEFT_ALONE = "left alone: not defined, and not made by setup; delete it in the UI if nobody needs it"
LeftOver = dict[str, UUID]
"""Objects that setup has made and that are no longer defined, by name."""


def report_left_over(client: SyncPrefectClient, wanted: Mapping[str, Iterable[str]], *, prune: bool) -> list[Change]:
    """Report what earlier setups have made and `wanted` no longer names. With `prune`, remove it, together with its schedules.

    Args:
        client: Client of the Prefect server.
        wanted: The names that are defined, by kind: `deployment` and `automation`.
        prune: Whether to remove the others.
    """
    changes: list[Change] = []
    for kind, names in wanted.items():
        for name, id_ in sorted(_existing(client, kind).items()):
            if name in set(names):
                continue
            if prune:
                _remove(client, kind, id_)
            changes.append(Change(kind, name, "removed" if prune else LEFT_OVER))
    known = {*wanted["deployment"], *(change.name for change in changes)}
    return changes + [Change("deployment", name, LEFT_ALONE) for name in _alike(client) if name not in known]


def record_made(client: SyncPrefectClient, wanted: Mapping[str, Iterable[str]]) -> None:
    """Add the objects of these names to those that setup has made, and drop those that are gone."""
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate

    before = client.read_variable_by_name(MADE)
    value = {
        kind: {name: str(id_) for name, id_ in sorted({**_existing(client, kind), **_named(client, kind, names)}.items())}
        for kind, names in wanted.items()
    }
    if before is None:
        client.create_variable(VariableCreate(name=MADE, value=value, tags=["recsys"]))
    elif before.value != value:
        client.update_variable(VariableUpdate(name=MADE, value=value, tags=["recsys"]))


def left_over_deployments(client: SyncPrefectClient, defined: Iterable[tuple[str, str]]) -> list[str]:
    """Return the names of the deployments that setup has made and whose entrypoint and name are no longer among `defined`."""
    known, found = set(defined), []
    for name, id_ in sorted(_existing(client, "deployment").items()):
        current = client.read_deployment(id_)
        if (current.entrypoint, current.name) not in known:
            found.append(name)
    return found


def _existing(client: SyncPrefectClient, kind: str) -> LeftOver:
    """Return the recorded objects of a kind that are still on the server."""
    recorded = client.read_variable_by_name(MADE)
    made = recorded.value.get(kind, {}) if recorded is not None and isinstance(recorded.value, dict) else {}
    ids = {str(name): UUID(str(id_)) for name, id_ in made.items()}
    there = _ids(client, kind, ids)
    return {name: id_ for name, id_ in ids.items() if id_ in there}


def _ids(client: SyncPrefectClient, kind: str, recorded: LeftOver) -> set[UUID]:
    if kind == "automation":
        return {found.id for name in recorded for found in client.read_automations_by_name(name)}
    return set(_deployments(client, recorded.values()))


def _named(client: SyncPrefectClient, kind: str, names: Iterable[str]) -> LeftOver:
    from prefect.exceptions import ObjectNotFound

    found: LeftOver = {}
    for name in names:
        if kind == "automation":
            if automations := client.read_automations_by_name(name):
                found[name] = automations[0].id
            continue
        try:
            found[name] = client.read_deployment_by_name(name).id
        except ObjectNotFound:
            continue  # it is left out on this server
    return found


def _deployments(client: SyncPrefectClient, ids: Iterable[UUID]) -> list[UUID]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    wanted = list(ids)
    if not wanted:
        return []
    return [each.id for each in client.read_deployments(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=wanted)))]


def _alike(client: SyncPrefectClient) -> list[str]:
    """Return the full names of all deployments that look like ours: with our tag, and of a flow of this project."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    tagged = client.read_deployments(deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=["recsys"])))
    ours = [each for each in tagged if (each.entrypoint or "").startswith(("flows/", "flows."))]
    return sorted(f"{client.read_flow(each.flow_id).name}/{each.name}" for each in ours)


def _remove(client: SyncPrefectClient, kind: str, id_: UUID) -> None:
    if kind == "automation":
        client.delete_automation(id_)
    else:
        client.delete_deployment(id_)
