"""The promoted versions of a model, as a team sees them in MLflow's registry. The store's promotion log decides what is served."""

from __future__ import annotations

import logging
from typing import Any

from configs.errors import RecsysError
from configs.settings import TrackingSettings
from infra.registry import ModelRegistry, previous_champions
from infra.storage import Store
from tasks.tracking.services import register_in_mlflow

__all__ = ["mirror_champion"]

Log = logging.Logger | logging.LoggerAdapter[Any]


def mirror_champion(store: Store, model_name: str, settings: TrackingSettings, log: Log) -> None:
    """Register the champion and the version that a rollback returns to, and give them the aliases `champion` and `previous`.

    Each call reads the whole log, so it also sends what an earlier call could not send.
    Does nothing unless `mlflow_registry` is set. A failure is logged once, and never raised.
    """
    if settings.mlflow_uri is None or not settings.mlflow_registry:
        return
    registry = ModelRegistry(store)
    try:
        entries = registry.history(model_name)
        if not entries:
            return
        earlier = previous_champions(entries)
        aliases = {
            "previous": _described(registry, model_name, earlier[0]) if earlier else None,
            "champion": _described(registry, model_name, entries[-1].version),
        }
    except RecsysError as error:
        log.warning("The champion is not mirrored in MLflow: %s", error)
        return
    text = f"Versions that were promoted. {store.uri(f'promotions/{model_name}/')} decides which is served."
    register_in_mlflow({"model": model_name, "description": text, "aliases": aliases}, settings, log)


def _described(registry: ModelRegistry, model_name: str, version: str) -> dict[str, Any]:
    ref = registry.version(model_name, version)
    tags = {"recsys_version": version, "kind": ref.kind, "dataset": ref.dataset, "protocol": ref.protocol, "manifest": ref.digest}
    figures = {name.replace("@", "_at_"): f"{value:.6g}" for name, value in ref.metrics.items()}
    # MLflow's server refuses the path of a folder, which would be one on its own machine, and an address without an absolute path.
    source = ref.uri if ref.uri.startswith("s3:") else f"recsys:///{ref.prefix}"
    return {"version": version, "source": source, "tags": tags | figures}
