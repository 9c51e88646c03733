"""The ASGI application of one worker: the routes and the worker behind them, inside the middleware."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from configs.serving import ServingSettings
from infra.tracing import start_tracing, stop_tracing
from serving.access import Keys, needs_key
from serving.api import browser, monitoring, routes, user_routes
from serving.api.bodies import Bodies
from serving.api.connections import Connections
from serving.api.direct import DirectRoutes
from serving.api.documents import RESPONSES, Known, describe
from serving.api.logs import RequestLog, configure_logging
from serving.api.middleware import RequestMiddleware
from serving.api.problems import HANDLERS
from serving.engine import ServedModel
from serving.experiments import ExposureSink
from serving.pages import StoredPages
from serving.stopping import DRAINED
from serving.worker import ServingWorker

__all__ = ["SETTINGS", "ServingApp", "create_app", "from_environment"]

SETTINGS = "RECSYS_SERVING"  # environment variable that holds a worker's settings as JSON
HEADERS = ("Content-Type", "X-API-Key", "X-Request-Id")  # that a page of another origin may send, if it is allowed to ask
SHOWN = ("X-Request-Id", "Retry-After")  # that it may read
SWITCH_S = 0.0005  # GIL switch interval: a thread that loads a version must yield to the event loop quickly


def from_environment() -> ServingApp:
    """Create the application from the environment. Uvicorn calls this in each worker."""
    configure_logging()
    start_tracing()
    app = create_app(ServingSettings.model_validate_json(os.environ[SETTINGS]))
    gc.freeze()  # what was imported lives as long as the process
    gc.enable()  # `serving.run` disables it while it imports
    return app


def create_app(settings: ServingSettings, exposures: ExposureSink | None = None) -> ServingApp:
    """Create the application of one worker.

    It starts serving once its lifespan has started and a champion is loaded.

    Args:
        settings: The settings of the server.
        exposures: Takes the exposures in place of the exposure log.
    """
    sys.setswitchinterval(SWITCH_S)
    worker = ServingWorker(settings, exposures)
    log = None
    if settings.log_requests:
        log = RequestLog(on_dropped=worker.metrics.log_lines_dropped.inc, on_failure=worker.metrics.failed)
    return ServingApp(worker, log)


class ServingApp(FastAPI):
    """The application of one worker. Routes find the worker in `state.worker`."""

    def __init__(self, worker: ServingWorker, log: RequestLog | None) -> None:
        super().__init__(
            title="recsys",
            version="1",
            description="Recommendations from the registry's champion, up to date with each user's latest event.",
            docs_url=None,
            redoc_url=None,
            lifespan=_lifespan,
            exception_handlers=HANDLERS,
            responses=RESPONSES,
            telemetry={"tracing": False, "metrics": False, "logs": False},  # to look whether it is on takes time at each request
        )
        self.state.worker, self.state.log = worker, log
        self.state.bodies = Bodies(worker.settings.limits, worker.metrics.held_bytes)
        self.state.connections = Connections(worker.settings.limits, worker.metrics, worker.settings.drain_s)
        self.state.pages = StoredPages(worker.store)
        self._described: tuple[Known, bool] | None = None
        routers = (routes.router, user_routes.router, monitoring.router, browser.router)
        for router in routers:
            self.include_router(router)
        self.state.paths = [route.path for router in routers for route in router.routes if isinstance(route, Route)]

    def build_middleware_stack(self) -> ASGIApp:
        """Return the application with the request middleware around all other layers.

        `add_middleware` would put it inside the layer that answers after a defect. Those answers need a request id, too.
        """
        worker: ServingWorker = self.state.worker
        stack = DirectRoutes(self, super().build_middleware_stack(), routes.busy_routes())
        keys = None if worker.keys is None else worker.keys.current
        asked = RequestMiddleware(
            stack, worker.settings, bodies=self.state.bodies, metrics=worker.metrics, log=self.state.log, keys=keys
        )
        origins = worker.settings.access.cors_origins
        if not origins:
            return asked
        return CORSMiddleware(  # around everything, because a browser asks for permission without a key
            asked, allow_origins=origins, allow_methods=("GET", "POST"), allow_headers=HEADERS, expose_headers=SHOWN
        )

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        worker: ServingWorker = self.state.worker
        champion = worker.engine.models.champion
        known = Known() if champion is None else _known(champion)
        keys = Keys(worker.settings.limits) if worker.keys is None else worker.keys.current()
        keyed = needs_key(keys, reachable=worker.settings.reachable)
        if self.openapi_schema is None or (known, keyed) != self._described:
            self.openapi_schema = describe(self, worker.settings.limits, known, keyed=keyed)
            self._described = known, keyed
        return self.openapi_schema


def _known(model: ServedModel) -> Known:
    """Return what the examples of a version are made of: its two most popular items."""
    popular = model.catalogue.popularity.argsort()[::-1]
    first, second = (model.described[popular[min(place, len(popular) - 1)]] for place in (0, 1))
    return Known(model.version, first, second, model.catalogue.schema, model.model.kind)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Start and stop the worker. Yields what `BoundedProtocol` and `DrainingServer` need."""
    worker: ServingWorker = app.state.worker
    connections: Connections = app.state.connections
    await asyncio.to_thread(worker.start)
    worker.batcher.start()
    connections.start()
    try:
        yield {DRAINED: connections}
    finally:
        connections.close()
        worker.batcher.close()
        await asyncio.to_thread(worker.close)
        if app.state.log is not None:
            app.state.log.close()
        await asyncio.to_thread(stop_tracing)
