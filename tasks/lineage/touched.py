"""What a flow read and wrote, by its parameters and its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.redaction import shown_address
from configs.settings import DataSettings
from infra.registry import ModelRef, Promotion
from tasks.datasets import DatasetRef
from tasks.export import Exported
from tasks.lineage.events import Item, Touched
from tasks.monitoring import DriftResult

__all__ = ["touched_by"]


def touched_by(flow: str, parameters: Mapping[str, Any], result: Any = None) -> Touched:
    """Return what a run of a flow touched, as far as its parameters and its result tell. A run that goes on has no result."""
    settings = parameters.get("settings")
    data = parameters.get("data") or getattr(settings, "data", None)
    inputs: list[Item] = []
    if flow == "etl" and isinstance(data, DataSettings):
        inputs.append(Item(_source_of(data), elsewhere=True))
    elif isinstance(given := parameters.get("dataset"), str):
        inputs.append(_dataset(given))
    read, written = _of_result(result)
    return Touched(tuple(dict.fromkeys([*inputs, *read])), tuple(dict.fromkeys(written)))


def _of_result(result: Any) -> tuple[list[Item], list[Item]]:
    match result:
        case DatasetRef():
            return [_dataset(parent) for parent in result.parents], [_dataset(f"{result.name}/{result.version}")]
        case ModelRef():
            return [_dataset(result.dataset)], [_model(result.name, result.version)]
        case Promotion():
            return [_model(result.name, result.version)], [Item(f"promotions/{result.name}", str(result.number))]
        case DriftResult():
            model = [] if result.champion is None else [_model(result.model_name, result.champion)]
            return [_dataset(result.dataset), *model], [Item(f"drift/{result.dataset.partition('/')[0]}")]
        case Exported():
            read = [_model(result.model_name, result.version), _dataset(result.dataset)]
            return read, [Item(result.uri, elsewhere=True)]
    read, written = [], []
    if isinstance(dataset := getattr(result, "dataset", None), DatasetRef):  # the summary of a flow
        read.append(_dataset(f"{dataset.name}/{dataset.version}"))
    for holder in (result, getattr(result, "challenge", None)):
        if isinstance(version := getattr(holder, "version", None), ModelRef):
            written.append(_model(version.name, version.version))
            if getattr(holder, "promoted", False):
                written.append(Item(f"promotions/{version.name}", version.version))
    return read, written


def _source_of(data: DataSettings) -> str:
    given = data.landing or data.local_path
    return data.dataset_name if given is None else shown_address(str(given))


def _dataset(named: str) -> Item:
    name, _, version = named.partition("/")
    return Item(f"datasets/{name}", version or None)


def _model(name: str, version: str) -> Item:
    return Item(f"models/{name}", version)
