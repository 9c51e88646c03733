"""Buckets of the seconds between two events, for their embedding. Training and serving share them, and serving has no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BUCKETS", "EDGES"]

BUCKETS = 64
EDGES: npt.NDArray[np.float32] = np.geomspace(1, 10 * 365 * 86_400, BUCKETS - 1).astype(np.float32)
"""Seconds (63,) at which buckets 1 to 63 begin: from one second to ten years, each 1.37 times as long as the one before."""
