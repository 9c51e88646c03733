"""reap: the hourly sweep of rented GPU pods, in case no worker is running."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.logging import get_run_logger

from infra.runpod import sweep

__all__ = ["reap"]


@flow(name="reap")
async def reap() -> list[dict[str, Any]]:
    """Delete the pods of this Prefect server's pools that no run needs or that are too old. Return the deleted pods."""
    ended = await sweep()
    for row in ended:
        get_run_logger().warning("deleted the leftover pod %s: %s, %.4f USD, flow run %s", row.pod, row.gpu, row.usd, row.run)
    get_run_logger().info("%d pods deleted", len(ended))
    return [row.to_dict() for row in ended]
