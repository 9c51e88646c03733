"""The routes that change what is known of users beside events: their outcomes, and their erasure."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from configs.errors import ModelMissingError
from models.identity import number_of
from serving.api.bodies import BoundedRoute
from serving.api.ids import TeamIds
from serving.api.requests import OutcomeIn, OutcomesRequest
from serving.api.responses import ErasureResponse, OutcomeOut, OutcomesResponse, Remaining, json_response
from serving.api.routes import UserInPath, ids_of, refuse_future_times, refuse_more_than, utc_now, worker_of
from serving.erasures import LOOK_S
from serving.experiments import Outcome
from serving.worker import ServingWorker

__all__ = ["router"]

router = APIRouter(route_class=BoundedRoute)


@router.post("/v1/outcomes", response_model=OutcomesResponse, tags=["outcomes"], summary="Report outcomes")
async def outcomes(body: OutcomesRequest, request: Request) -> Response:
    """Report what users did. Accepted outcomes are on the disk before the response is sent, so send them again after any failure."""
    worker, now = worker_of(request), utc_now()
    limits, late_s = worker.settings.limits, worker.settings.outcomes.late_s
    refuse_more_than(limits.events, len(body.outcomes), "outcomes")
    refuse_future_times("outcomes", [each.time for each in body.outcomes], now, limits.future_s)
    ids = _known_ids(worker)
    results = []
    for place, each in enumerate(body.outcomes):
        user = _number(each.user_id) if ids is None else ids.user(each.user_id, "body", "outcomes", place, "user_id")
        if ids is not None and each.item_id is not None:
            ids.item(each.item_id, "body", "outcomes", place, "item_id")
        results.append(_result(each, erased=user in worker.erasures, oldest=now - late_s))
    accepted = [each for each, result in zip(body.outcomes, results, strict=True) if result.result == "accepted"]
    await worker.take_outcomes([_as_logged(each, now) for each in accepted])
    return json_response(OutcomesResponse(results))


@router.delete("/v1/users/{user_id:path}", response_model=ErasureResponse, tags=["users"], summary="Erase a user")
async def erase(user_id: UserInPath, request: Request) -> Response:
    """Erase a user for good, wherever the data is. The answer says what remains until when. A repeated request changes nothing."""
    worker = worker_of(request)
    ids = ids_of(worker)
    by = request.scope["state"].get("client", "")
    erasure = await worker.erase(ids.user_in_path(user_id), reason="DELETE /v1/users", by=by)
    remains = [
        Remaining("memory of other servers and workers", f"{LOOK_S:.0f} seconds"),
        Remaining("states of former versions in Redis, without events", f"at most {worker.settings.state.state_ttl_s:,} seconds"),
        Remaining("events in datasets, and lines of the logs of exposures and outcomes", "`recsys data erase` is run"),
        Remaining("older versions of datasets, and models", "`recsys data prune` and `recsys model prune` delete them"),
        Remaining("files of landing zones, exports and backups", "their own deletion"),
    ]
    return json_response(ErasureResponse(ids.shown_user(user_id), erasure.time, remains))


def _result(given: OutcomeIn, *, erased: bool, oldest: int) -> OutcomeOut:
    if erased:
        return OutcomeOut("erased")
    return OutcomeOut("too_old" if given.time is not None and given.time < oldest else "accepted")


def _number(user: int | str) -> int:
    return number_of(user) if isinstance(user, str) else user


def _as_logged(given: OutcomeIn, now: int) -> Outcome:
    return Outcome(given.user_id, given.kind, now, given.time, given.item_id, given.value, given.request_id, given.outcome_id)


def _known_ids(worker: ServingWorker) -> TeamIds | None:
    """Return the ids of the served versions. Before one is served, ids are taken as they are: outcomes need no model."""
    try:
        return ids_of(worker)
    except ModelMissingError:
        return None
