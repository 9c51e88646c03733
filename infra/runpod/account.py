"""The pods of a RunPod account, for the commands and the hourly sweep. Errors are those of this project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import prefect_runpod
from configs.errors import RentError

if TYPE_CHECKING:
    from prefect_runpod import Rented

__all__ = ["rented", "sweep"]


async def rented() -> list[Rented]:
    """Return all pods of the account, the most expensive first. Raises RentError or SettingsError."""
    with _explained():
        return await prefect_runpod.rented()


async def sweep(looks: int = 3) -> list[Rented]:
    """Delete the pods of this Prefect server's pools that no run needs or that are too old, and return them.

    Args:
        looks: Number of checks.

    Raises:
        RentError: RunPod failed or refused a request, or there is no key.
        SettingsError: A setting is not allowed.
    """
    with _explained():
        return await prefect_runpod.sweep(looks)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except prefect_runpod.PodError as error:
        raise RentError(str(error)) from error
