"""The options that the tasks of this package share."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from configs.errors import StoreUnavailableError

__all__ = ["NETWORK"]


def _may_pass(task: Any, run: Any, state: Any) -> bool:
    return isinstance(state.result(raise_on_failure=False), StoreUnavailableError)


NETWORK: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_condition_fn": _may_pass,
}
"""A task is retried if the store does not answer. Every task can be retried safely: its writes are create-only or named by content."""
