"""The flow runs of one work pool, on a Prefect server."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate, LogCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, State, StateType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import Abort, ObjectNotFound, PrefectException
from prefect.states import Cancelled, Crashed, Pending, Scheduled
from prefect.utilities.engine import propose_state

from prefect_runpod.pods.cost import PodCost
from prefect_runpod.pods.runs import FINAL, RunsUnavailableError, RunView
from prefect_runpod.texts.markdown import escaped, unlinked

__all__ = ["COST_KEY", "PrefectRuns", "account_filter", "accounts_in"]

COST_KEY = "gpu-cost"
PAGE = 200
TAKEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]


class PrefectRuns:
    """The port `Runs`, on a Prefect client. `client` is called for each request: a worker makes its client when it starts."""

    def __init__(self, client: Callable[[], PrefectClient], pool: UUID, pool_name: str) -> None:
        self._of, self._pool, self._pool_name = client, pool, pool_name

    async def look(self, ids: set[UUID]) -> dict[UUID, RunView]:
        now = await self._time()
        taken = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=TAKEN)))
        found = {run.id: run for run in await self._read(taken, WorkPoolFilter(id=WorkPoolFilterId(any_=[self._pool])))}
        others = sorted(ids - found.keys())
        for start in range(0, len(others), PAGE):
            page = FlowRunFilter(id=FlowRunFilterId(any_=others[start : start + PAGE]))
            found |= {run.id: run for run in await self._read(page, None)}
        return {run_id: _view(run, now) for run_id, run in found.items()}

    async def _time(self) -> datetime:
        """Return the current time by the server's clock, which dates the states of the runs."""
        async with _answering():
            said = (await self._of().request("GET", "/health")).raise_for_status().headers.get("date")
            found = parsedate_to_datetime(said) if said else datetime.now(UTC)
            return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        raise AssertionError("unreachable")

    async def _read(self, runs: FlowRunFilter, pool: WorkPoolFilter | None) -> list[FlowRun]:
        found: list[FlowRun] = []
        async with _answering():
            while True:
                page = await self._of().read_flow_runs(flow_run_filter=runs, work_pool_filter=pool, limit=PAGE, offset=len(found))
                found += page
                if len(page) < PAGE:
                    return found

    async def crash(self, run: RunView, message: str) -> None:
        async with _answering():
            if _view(await self._of().read_flow_run(run.id)).state in FINAL:  # the run has ended since the check
                return
            await self._propose(run.id, Crashed(message=message))

    async def cancel(self, run: RunView, message: str) -> None:
        async with _answering():
            if _view(await self._of().read_flow_run(run.id)).state in FINAL:  # the forced state below would overwrite that
                return
            await self._of().set_flow_run_state(run.id, Cancelled(message=message), force=True)

    async def resubmit(self, run: RunView, message: str) -> None:
        async with _answering():
            current = _view(await self._of().read_flow_run(run.id))
            if (current.state, current.since, current.pod) != (run.state, run.since, run.pod):
                return
            state: State[Any] = Scheduled(name="Resubmitted", message=message)
            await self._of().set_flow_run_state(run.id, state, force=True)

    async def assign(self, run: RunView, pod: str) -> None:
        async with _answering():
            if (await self._of().read_flow_run(run.id)).infrastructure_pid is None:
                await self._of().update_flow_run(run.id, infrastructure_pid=pod)

    async def tell(self, run: UUID, name: str, message: str) -> None:
        async with _answering():
            await self._propose(run, Pending(name=name, message=message))

    async def log(self, run: UUID, lines: list[str]) -> None:
        async with _answering():
            await self._of().create_logs(
                LogCreate(
                    name="prefect.flow_runs.runpod",
                    level=logging.ERROR,
                    message=line[:10_000],
                    timestamp=datetime.now(UTC),  # type: ignore[arg-type]
                    flow_run_id=run,
                )
                for line in lines
            )

    async def account(self, run: UUID, cost: PodCost) -> None:
        key = f"{COST_KEY}-{re.sub(r'[^a-z0-9]+', '-', cost.pod.lower()).strip('-')}"
        told = f"Pod {cost.pod}: {cost.usd:.4f} USD{'' if cost.closed else ' so far'}, {cost.gpu} at {cost.usd_per_hour:g} USD/h"
        shown = {name: unlinked(value) if name in ("gpu", "note") else value for name, value in cost.to_dict().items()}
        async with _answering():
            own = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]), key=ArtifactFilterKey(any_=[key]))
            existing = await self._of().read_artifacts(artifact_filter=own)
            kept = next((known for known in accounts_in(existing) if known.pod == cost.pod), None)
            if kept is not None and (kept.closed, kept.seconds) > (cost.closed, cost.seconds):
                return  # another worker has stored a later figure
            if existing:
                await self._of().update_artifact(existing[0].id, ArtifactUpdate(data=[shown], description=escaped(told)))
            else:
                await self._of().create_artifact(
                    ArtifactCreate(key=key, type="table", data=[shown], description=escaped(told), flow_run_id=run)
                )

    async def accounts(self, run: UUID) -> list[PodCost]:
        async with _answering():
            return accounts_in(await self._of().read_artifacts(artifact_filter=account_filter(run)))
        return []

    async def open_accounts(self) -> list[tuple[RunView, PodCost]]:
        async with _answering():
            newest = await self._of().read_artifacts(
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(like_=f"{COST_KEY}-%")),
                sort=ArtifactSort.CREATED_DESC,
                limit=PAGE,
            )
            owners: dict[UUID, list[Artifact]] = {}
            for artifact in newest:
                if artifact.flow_run_id is not None:
                    owners.setdefault(artifact.flow_run_id, []).append(artifact)
            left = {run: [c for c in accounts_in(own) if not c.closed] for run, own in owners.items()}
            unsettled = sorted(run for run, accounts in left.items() if accounts)
            if not unsettled:
                return []
            ids = FlowRunFilter(id=FlowRunFilterId(any_=unsettled))
            runs = [_view(run) for run in await self._read(ids, WorkPoolFilter(id=WorkPoolFilterId(any_=[self._pool])))]
            return [(run, account) for run in runs if run.final for account in left[run.id]]
        return []

    async def at_work(self, worker: str) -> bool:
        async with _answering():
            workers = await self._of().read_workers_for_work_pool(self._pool_name)
            return any(found.name == worker and found.status.value == "ONLINE" for found in workers)
        return False

    async def _propose(self, run: UUID, state: State[Any]) -> None:
        """Propose a state. If the server refuses it, the run has already moved on, and the state is not needed."""
        try:
            await propose_state(self._of(), state, flow_run_id=run)
        except Abort as error:
            logging.getLogger(__name__).info("the run %s was not set to %s: %s", run, state.name, error)


def account_filter(run: UUID) -> ArtifactFilter:
    """Return a filter for the artifacts that hold the cost records of the run's pods."""
    return ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]), key=ArtifactFilterKey(like_=f"{COST_KEY}-%"))


def accounts_in(artifacts: list[Artifact]) -> list[PodCost]:
    """Return the cost records in the artifacts, one for each pod.

    Two workers may each have opened a record for a pod; then the later one counts. Other data under such a key is ignored.
    """
    found: dict[str, PodCost] = {}
    for account in [account for artifact in artifacts for row in _rows(artifact) if (account := PodCost.read(row)) is not None]:
        known = found.get(account.pod)
        if known is None or (account.closed, account.seconds) > (known.closed, known.seconds):
            found[account.pod] = account
    return list(found.values())


def _rows(artifact: Artifact) -> list[dict[str, Any]]:
    data = artifact.data
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except ValueError:
            return []
    return list(data) if isinstance(data, list) else []


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Raise RunsUnavailableError if the server does not answer. A run that does not exist any more is ignored."""
    try:
        yield
    except ObjectNotFound as error:
        logging.getLogger(__name__).info("a flow run does not exist any more: %s", error)
    except (httpx.HTTPError, PrefectException, ValueError) as error:  # ValueError: a proxy's page instead of the server's JSON
        raise RunsUnavailableError(f"{type(error).__name__}: {error}") from error


def _view(run: FlowRun, now: datetime | None = None) -> RunView:
    state = run.state
    if state is None:
        return RunView(run.id, run.name, "PENDING", run.created or datetime.now(UTC), False, 0, run.infrastructure_pid, None)
    rescheduled = state.type == StateType.SCHEDULED and run.empirical_policy.retry_type != "in_process"
    suspended = state.type == StateType.PAUSED and state.state_details.pause_reschedule
    return RunView(
        id=run.id,
        name=run.name,
        state=state.type.value,
        since=state.timestamp,
        begun=run.run_count > 0,
        attempt=run.run_count,
        pod=run.infrastructure_pid,
        worker=(run.labels or {}).get("prefect.worker.name"),  # type: ignore[arg-type]
        released=rescheduled or bool(suspended),
        age_s=0.0 if now is None else (now - state.timestamp).total_seconds(),
    )
