"""A flow for pods, run by Prefect's own engine."""

from __future__ import annotations

import os
import time

from prefect import flow


@flow(name="rented")
def rented(seconds: float = 0.5, end: str = "completed") -> None:
    """Work for `seconds`, then end as `end` says."""
    with open(os.environ["RECORD"], "a") as record:
        record.write(f"{os.environ['PREFECT__FLOW_RUN_ID']} {os.environ['RUNPOD_POD_ID']}\n")
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        time.sleep(0.1)
    if end == "failed":
        raise ValueError("the training diverged")
