"""Choose the stored dataset version that a flow works on."""

from __future__ import annotations

from configs.errors import NotFoundError
from configs.settings import DataSettings, StoreSettings
from infra.storage import open_store
from tasks.datasets import DatasetRef, list_datasets, load_dataset_ref

__all__ = ["chosen_dataset"]


def chosen_dataset(dataset: str | None, data: DataSettings, store: StoreSettings) -> DatasetRef:
    """Return the version `name/version`, or the newest of the configured dataset.

    Raises:
        NotFoundError: There is no such version.
    """
    place = open_store(store)
    if dataset is not None:
        name, _, version = dataset.partition("/")
        return load_dataset_ref(place, name, version)
    versions = [ref for ref in list_datasets(place) if ref.name == data.dataset_name]
    if not versions:
        raise NotFoundError(
            f"The store {place.uri('')} has no dataset version of {data.dataset_name}. Create one with `recsys etl`."
        )
    return versions[-1]
