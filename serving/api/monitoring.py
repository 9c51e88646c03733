"""The routes for whoever runs the server: health, readiness and metrics. They need no API key."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.api.problems import RETRY_SOON, problem
from serving.api.responses import Health, Readiness, json_response
from serving.api.routes import Worker

__all__ = ["router"]

router = APIRouter(tags=["monitoring"])


@router.get("/healthz", response_model=Health, summary="Report that the process is alive")
async def healthz() -> Response:
    """Report that the process is alive."""
    return json_response(Health("alive"))


@router.get("/readyz", response_model=Readiness, summary="Report whether requests can be answered")
async def readyz(request: Request, worker: Worker) -> Response:
    """Report whether a model is loaded, checked and warm.

    A worker that cannot follow the promotion log is ready: it answers with the champion that it knows. `detail` says so.
    A worker that is about to stop still answers, but it is not ready, so that load balancers send requests elsewhere.
    """
    if request.app.state.connections.draining:
        return problem(503, "This server is about to stop.", request.state.request_id, RETRY_SOON)
    fault = "" if worker.follower.fault is None else "The promotion log cannot be followed. GET /v1/models says why."
    if worker.engine.models.champion is None:
        return problem(503, f"No model is served yet. {fault}".strip(), request.state.request_id, RETRY_SOON)
    return json_response(Readiness("ready", fault))


@router.get(
    "/metrics",
    summary="Return the metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format"}},
)
async def metrics(worker: Worker) -> Response:
    """Return the metrics for Prometheus."""
    content = await asyncio.to_thread(worker.metrics.render)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")
