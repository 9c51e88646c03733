"""A pod that the reconciler watches."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from datetime import datetime

from prefect_runpod.api import Pod
from prefect_runpod.pods.cost import PodCost
from prefect_runpod.pods.order import Marks
from prefect_runpod.pods.verdict import Memory

__all__ = ["Tracked"]


@dataclass
class Tracked:
    """A pod with what the checks have seen of it."""

    pod: Pod
    marks: Marks
    lived_until: datetime
    """When it was last listed, or first not listed: it may have lived until then."""
    memory: Memory = field(default_factory=Memory)
    asked: float = -math.inf
    """When the pod itself was last asked for, by the clock of the checks."""
    cost: PodCost | None = None
    """Its cost record. None until the record is opened."""
    accounting: asyncio.Lock = field(default_factory=asyncio.Lock)
