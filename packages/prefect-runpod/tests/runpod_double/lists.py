"""Lists of pods that are wrong, as an account may get them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

__all__ = ["WRONG", "stale"]

Pods = list[dict[str, Any]]


def stale(pods: Pods) -> Callable[[Pods], Any]:
    kept = copy.deepcopy(pods)
    return lambda _: {"pods": kept}


WRONG: dict[str, Callable[[Pods], Any]] = {
    "empty": lambda pods: {"pods": []},
    "cut to one pod": lambda pods: {"pods": pods[:1]},
    "of foreign pods": lambda pods: {"pods": [{"id": "f", "name": "notebook", "status": "RUNNING", "env": {"A": "b"}}]},
    "each pod twice": lambda pods: {"pods": [*pods, *[{**pod, "runtime": {"uptime": 0}, "status": "EXITED"} for pod in pods]]},
    "ended": lambda pods: {"pods": [{**pod, "status": "EXITED", "cost": 0.0} for pod in pods]},
    "terminated": lambda pods: {"pods": [{**pod, "status": "TERMINATED", "cost": 0.0} for pod in pods]},
    "restarted": lambda pods: {"pods": [{**pod, "runtime": {"uptime": 0}} for pod in pods]},
    "without an environment": lambda pods: {"pods": [{**pod, "env": None} for pod in pods]},
    "unreadable entries": lambda pods: {
        "pods": [{"id": 7}, None, "pod", *pods[:1], *[{**pod, "cost": "free", "env": 1} for pod in pods[1:2]]]
    },
    "a page of HTML": lambda pods: "<html><body>sign in</body></html>",
    "not a list": lambda pods: {"pods": {"id": "x"}},
    "a number that is not JSON": lambda pods: '{"pods": [{"id": "a", "status": "RUNNING", "cost": NaN}]}',
}
