"""The hour of the week of a moment. Training and serving share it, and serving has no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["DAYS", "FIRST_DAY", "HOURS", "hours_of_week"]

HOURS, DAYS = 24, 7
FIRST_DAY = 3  # 1970-01-01 was a Thursday, and weeks begin on Monday


def hours_of_week(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the hour of the week of UTC seconds: 0 to 167, from Monday at midnight."""
    return (times // 3600 + FIRST_DAY * HOURS) % (DAYS * HOURS)
