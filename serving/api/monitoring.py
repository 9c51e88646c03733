"""The routes for whoever runs the server: health, readiness and metrics. They need no API key."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.api.problems import RETRY_SOON, problem
from serving.api.responses import Health, json_response
from serving.api.routes import Worker

__all__ = ["router"]

router = APIRouter()


@router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """Report that the process is alive."""
    return json_response(Health("alive"))


@router.get("/readyz", response_model=Health)
async def readyz(request: Request, worker: Worker) -> Response:
    """Report whether a model is loaded, checked and warm."""
    if worker.engine.models.champion is None:
        return problem(503, "No model is served yet.", request.state.request_id, RETRY_SOON)
    return json_response(Health("ready"))


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format"}},
)
async def metrics(worker: Worker) -> Response:
    """Return the metrics for Prometheus."""
    content = await asyncio.to_thread(worker.metrics.render)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")
