"""What a Prefect server does with old data and lost slots. No API changes that, so setup says what the server should be started with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.prefect_server.change import Change

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["report_upkeep"]

FOR_EVER = (
    "left as it is: runs with their logs and artifacts stay for ever; start the server with "
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=flow_runs,events"
)
FORGETS = (
    "left as it is: a restart of the server forgets who holds a slot; start it with "
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem"
)


def report_upkeep(client: SyncPrefectClient) -> list[Change]:
    """Report settings with which the server would not last a year. Prefect Cloud, which tells none, keeps itself in order."""
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        server = client.request("GET", "/admin/settings").json()["server"]
        vacuum, leases = server["services"]["db_vacuum"]["enabled"], server["concurrency"]["lease_storage"]
    except (PrefectHTTPStatusError, KeyError, TypeError, ValueError):
        return []
    found = []
    if not _deletes_runs(vacuum):
        found.append(Change("server", "old runs", FOR_EVER))
    if str(leases).endswith(".memory"):
        found.append(Change("server", "slots", FORGETS))
    return found


def _deletes_runs(enabled: Any) -> bool:
    return enabled is True or (isinstance(enabled, list) and "flow_runs" in enabled)
