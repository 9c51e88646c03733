"""Which errors of Redis are outages, and which are faults of one user's data.

During an outage, the worker serves from memory. A fault of one user's data does not keep the worker from using Redis for others.
"""

from __future__ import annotations

import re

import redis

__all__ = ["FAULTS", "harms_one_user"]

# Everything that redis-py raises. Some of its classes do not derive from RedisError.
FAULTS: tuple[type[Exception], ...] = (
    OSError,
    *(kind for kind in vars(redis.exceptions).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)

# What a server answers if it cannot serve anybody now. redis-py has classes for some of these codes. A script that runs into one
# of them on an old server answers with a script error that contains the code.
OUTAGES = re.compile(
    r"\b(ASK|BUSY|CLUSTERDOWN|CROSSSLOT|EXECABORT|LOADING|MASTERDOWN|MISCONF|MOVED|NOAUTH|NOPERM|NOPROTO|NOREPLICAS|OOM|READONLY"
    r"|TRYAGAIN|UNKILLABLE|WRONGPASS|ACL failure)\b"
)
# What it answers if the fault is in the value of a key: the value has another type, or a script failed on it.
DATA_FAULTS = re.compile(r"^WRONGTYPE\b|\buser_script\b|^(ERR )?Error running script\b")


def harms_one_user(error: redis.ResponseError) -> bool:
    """Return whether the error is about one key. Every subclass of ResponseError is about the server or the connection."""
    text = str(error)
    return type(error) is redis.ResponseError and DATA_FAULTS.search(text) is not None and OUTAGES.search(text) is None
