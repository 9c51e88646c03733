"""The volume of the tests: small in `make test` and `make test-full`, full in `make test-nightly`.

Both volumes test every behaviour. The nightly one adds more of the same: more random kills, more damaged files, a longer
outage, every server. Such a number is `volume(small, nightly)`. A test that only repeats another test on another server, or with
real processes, is marked `nightly`.
"""

from __future__ import annotations

import os
from typing import TypeVar

__all__ = ["NIGHTLY", "volume"]

Number = TypeVar("Number", int, float)

NIGHTLY = os.environ.get("RECSYS_TEST_VOLUME") == "nightly"


def volume(small: Number, nightly: Number) -> Number:
    """Return `small`, or `nightly` if RECSYS_TEST_VOLUME is `nightly`."""
    return nightly if NIGHTLY else small
