"""A team's own ids on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from configs.errors import NotFoundError, SettingsError

if TYPE_CHECKING:
    from infra.storage import Store
    from tasks.datasets import Removal

__all__ = ["number_of_id", "telling"]


def number_of_id(store: Store, dataset: str, column: str, given: str | None) -> int | None:
    """Return the number of a user or item of a dataset, given by its own id.

    Raises:
        SettingsError: The ids of the dataset are integers, and this is none.
    """
    from models.identity import number_of
    from tasks.datasets import stored_properties

    if given is None:
        return None
    properties = stored_properties(store, dataset)
    if properties is not None and column in properties.text_columns:
        return number_of(given.strip())
    if not given.strip().isascii() or not given.strip().isdigit():
        raise SettingsError(
            f"--{column.removesuffix('_id')} is {given}, but the ids of {dataset} are whole numbers. Give one of them."
        )
    return int(given)


@contextmanager
def telling(removal: Removal, user: str | None, item: str | None) -> Iterator[Callable[[str], str]]:
    """Let messages about a removal, and the errors of the block, say the team's own ids."""
    parts = (("user", user), ("item", item), ("time", removal.time))
    said = " ".join(f"{name} {value}" for name, value in parts if value is not None)

    def told(text: str) -> str:
        return text.replace(removal.what, said) if said else text

    try:
        yield told
    except NotFoundError as error:
        raise NotFoundError(told(str(error))) from error
