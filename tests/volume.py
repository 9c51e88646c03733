"""How much the tests do of one thing: a little in `make test` and `make test-full`, all of it in `make test-nightly`.

Every behaviour is shown in both. What the night adds is more of the same: more random kills, more damaged files, a longer
outage, every server. Such a number is `volume(small, nightly)`; a test that only repeats on another server what a
test of the day shows is marked `nightly`.
"""

from __future__ import annotations

import os
from typing import TypeVar

__all__ = ["NIGHTLY", "volume"]

Number = TypeVar("Number", int, float)

NIGHTLY = os.environ.get("RECSYS_TEST_VOLUME") == "nightly"


def volume(small: Number, nightly: Number) -> Number:
    """`small`, or `nightly` where RECSYS_TEST_VOLUME is `nightly`."""
    return nightly if NIGHTLY else small
