"""Starts the server: uvicorn with one or more workers, which share Redis and the metrics files."""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from configs.serving import ServingSettings

__all__ = ["as_json", "serve"]

HEALTHCHECK_S = 60  # a worker that does not answer its parent for this long is killed; loading is slow on a busy machine
OTHER_FILES = 512  # that a worker has open besides its connections


def serve(settings: ServingSettings) -> None:
    """Serve until SIGTERM or SIGINT. Requests in progress are still answered, for at most `shutdown_s`.

    After SIGTERM the server drains first, for `drain_s`.

    Raises:
        SettingsError: If others could reach the server without a key, or if the file of keys is invalid.
    """
    from serving.access import refuse_open

    refuse_open(settings)
    if settings.workers == 1:
        gc.disable()  # imports make no garbage, and looking for it takes a tenth of the start. `from_environment` enables it again.
    # BLAS threads would wait for each other on cores that other workers use.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from serving import supervisor
    from serving.api import SETTINGS

    os.environ[SETTINGS] = as_json(settings)
    _allow_open_files(settings.limits.connections)
    metrics = tempfile.mkdtemp(prefix="recsys-metrics-") if settings.workers > 1 else None
    if metrics is not None:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
    try:
        supervisor.run_server(
            "serving.api.app:from_environment",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=settings.shutdown_s,
            timeout_keep_alive=settings.limits.idle_s,
            timeout_worker_healthcheck=HEALTHCHECK_S,
            server_header=False,
            date_header=False,
            http="serving.api.connections:BoundedProtocol",
            ws="none",
            proxy_headers=bool(settings.limits.trusted_proxies),
            forwarded_allow_ips=list(settings.limits.trusted_proxies),
        )
    finally:
        gc.enable()
        if metrics is not None:
            shutil.rmtree(metrics, ignore_errors=True)


def _allow_open_files(connections: int) -> None:
    """Raise this process's limit of open files, so that its connections leave some for versions, logs and Redis."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def as_json(settings: ServingSettings) -> str:
    """Return the settings for a worker, with secrets in clear text. They only go into the environment of its process."""
    return json.dumps(_plain(settings.model_dump()))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value
